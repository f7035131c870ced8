"""The data of the page: the figures are those of evaluate, lists are not repeated, and the size is limited."""

from __future__ import annotations

import base64
import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import Collection, RunReranker

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.evaluate import evaluate
from pyserini_reasonrank.report.metadata_facts import facts
from pyserini_reasonrank.report.page_data import PageData, ReportOptions, page_data, shown_lists
from pyserini_reasonrank.report.passages import TextSource, cut
from pyserini_reasonrank.report.run_inputs import read_run_input


def report(folder: Path, *names: str, **options: Any) -> PageData:
    return page_data([read_run_input(folder / name, None) for name in names or ("run.txt",)], ReportOptions(**options))


def details(data: PageData, qid: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(data.details[qid])))
    return found


def test_scores_are_those_of_evaluate(reasoned: Path) -> None:
    qrels = reasoned / "qrels.txt"
    shown = report(reasoned, qrels=qrels).overview["evaluation"]
    expected = evaluate(qrels, reasoned / "first.txt", [reasoned / "run.txt"])
    assert [row["scores"][0]["value"] for row in shown["rows"]] == [run.scores[0].value for run in expected.every]
    compared = expected.runs[0].scores[0].comparison
    assert compared is not None
    assert shown["rows"][1]["scores"][0]["change"] == compared.change
    assert shown["measures"] == ["nDCG@10", "R@100", "MAP"]


def test_scores_are_the_same_if_the_first_stage_comes_from_the_journal(reasoned: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(reasoned, tmp_path / "copy"))
    text = (folder / "run.txt.ir-metadata.yml").read_text()
    (folder / "run.txt.ir-metadata.yml").write_text(text.replace("first.txt", "gone.txt"))
    qrels = reasoned / "qrels.txt"
    there, gone = (report(each, qrels=qrels).overview for each in (reasoned, folder))
    assert gone["evaluation"]["rows"] == there["evaluation"]["rows"]
    assert gone["lists"][0]["label"] == "run.txt (first stage)"


def test_a_query_has_its_scores_calls_and_movement(reasoned: Path) -> None:
    rows = {row["qid"]: row for row in report(reasoned, qrels=reasoned / "qrels.txt").overview["queries"]}
    assert rows["q0"]["text"] == "what is topic 0"  # from the topics that the metadata name
    assert rows["q0"]["moved"][0]["new"] == 2
    assert rows["q1"]["moved"] == [{"rbo": 1.0, "new": 0}]
    calls = {qid: row["calls"][0] for qid, row in rows.items()}
    assert (calls["q0"]["copied"], calls["q1"]["copied"], calls["q1"]["comparable"]) == (0, 1, 1)
    assert calls["q2"]["bad"] >= 1


def test_the_details_of_a_query_have_both_lists_passages_grades_and_calls(reasoned: Path) -> None:
    source = TextSource(corpus=reasoned / "corpus.jsonl", words=4)
    found = details(report(reasoned, qrels=reasoned / "qrels.txt", texts=source), "q0")
    docids = [document["id"] for document in found["docs"]]
    before, after = ([docids[number] for number in each["docs"]] for each in found["lists"])
    assert after == before[::-1]
    assert found["docs"][0] == {"id": "q0-d0", "ranks": [1, 12], "grade": 0, "text": "Passage 0 is about …"}
    assert "grade" not in found["docs"][1]
    [call] = found["runs"][0]["calls"]
    assert call["reasoning"] == "[12] answers it, [3] does not."
    assert call["order"] == list(range(11, -1, -1))
    assert (call["status"], len(call["answers"])) == ("ok", 1)
    assert [[docids[number] for number in step] for step in found["runs"][0]["steps"]] == [before, after]


def test_lists_are_cut_at_the_depth_and_keep_their_length(reasoned: Path) -> None:
    found = details(report(reasoned, depth=5), "q0")
    assert [(len(each["docs"]), each["total"]) for each in found["lists"]] == [(5, 12), (5, 12)]
    assert found["docs"][0]["ranks"] == [1, 12]


def test_queries_beyond_the_size_keep_their_figures(reasoned: Path) -> None:
    whole = report(reasoned, qrels=reasoned / "qrels.txt")
    size = len(whole.details["q0"]) / 1e6
    cut_ = report(reasoned, qrels=reasoned / "qrels.txt", megabytes=size)
    assert list(cut_.details) == ["q0"]  # its score changed most
    assert [row["details"] for row in cut_.overview["queries"]] == [0, None, None]
    assert cut_.overview["evaluation"] == whole.overview["evaluation"]
    assert cut_.overview["runs"][0]["calls"] == whole.overview["runs"][0]["calls"]
    assert any(note.startswith("2 of 3 queries are shown without lists") for note in cut_.overview["notes"])


def test_without_judgments_and_texts_the_page_has_the_movement(reasoned: Path) -> None:
    data = report(reasoned)
    assert data.overview["evaluation"] is None
    assert "The passages are not shown: pass --corpus or --index." in data.overview["notes"]
    assert all("text" not in document for document in details(data, "q0")["docs"])


def test_a_first_stage_given_as_a_run_is_shown_once(reasoned: Path) -> None:
    for names in (("first.txt", "run.txt"), ("run.txt", "first.txt")):
        lists, first_of = shown_lists([read_run_input(reasoned / name, None) for name in names])
        assert [each.label for each in lists] == ["first.txt", "run.txt"]
        assert first_of[names.index("run.txt")] == 0


def test_two_runs_of_one_first_stage_share_it(reasoned: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(reasoned, tmp_path / "copy"))
    runs = [read_run_input(path / "run.txt", None) for path in (reasoned, folder)]
    lists, first_of = shown_lists(runs)
    assert [each.label for each in lists] == ["first.txt", str(runs[0].path), str(runs[1].path)]
    assert first_of == [0, 0]


@pytest.mark.parametrize("method", ["min-max", "z-score"])
def test_fused_scores_give_the_order_of_the_run(
    collection: Collection, run_reranker: RunReranker, method: str, tmp_path: Path
) -> None:
    flags = {"engine": {"name": "oracle", "qrels": str(collection.qrels)}, "fuse": {"method": method, "weight": 0.6}}
    run_reranker("rank1", flags, collection.requests[1:3])
    found = details(report(tmp_path), "7")
    fused, llm, after = found["runs"][0]["fused"], found["runs"][0]["llm"], found["lists"][1]["docs"]
    assert len(fused) == len(llm) == 7
    assert [fused[str(number)] for number in after] == sorted(fused.values(), reverse=True)


def test_a_run_of_ranks_has_fused_scores_without_those_of_the_llm(
    collection: Collection, run_reranker: RunReranker, tmp_path: Path
) -> None:
    flags = {"engine": {"name": "oracle", "qrels": str(collection.qrels)}, "fuse": {"method": "rrf", "weight": 0.6}}
    run_reranker("reasonrank", flags, collection.requests[1:3])
    found = details(report(tmp_path), "7")["runs"][0]
    assert (len(found["fused"]), "llm" in found) == (7, False)


def test_all_gpus_are_among_the_facts() -> None:
    gpu = {"model": "NVIDIA H200"}
    assert facts({"platform": {"hardware": {"gpu": [gpu, gpu]}}}) == [["GPU", "2 x NVIDIA H200"]]


def test_a_corpus_without_a_document_is_refused(reasoned: Path, tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text('{"id": "q0-d0", "contents": "a"}\n')
    with pytest.raises(UsageError, match="has no document"):
        report(reasoned, texts=TextSource(corpus=tmp_path / "corpus.jsonl"))


def test_qrels_of_other_topics_are_refused(reasoned: Path, tmp_path: Path) -> None:
    (tmp_path / "qrels.txt").write_text("z 0 d 1\n")
    with pytest.raises(UsageError, match=r"has no query that .*qrels.txt judges: pass the qrels of its topics"):
        report(reasoned, qrels=tmp_path / "qrels.txt")


def test_topics_of_other_queries_are_refused(reasoned: Path, tmp_path: Path) -> None:
    (tmp_path / "topics.tsv").write_text("z\tanother\n")
    with pytest.raises(UsageError, match=r"has no query of .*run.txt: pass the topics of the run"):
        report(reasoned, topics=str(tmp_path / "topics.tsv"))


def test_runs_of_different_depths_are_noted(reasoned: Path, tmp_path: Path) -> None:
    lines = [line for line in (reasoned / "first.txt").read_text().splitlines() if int(line.split("\t")[3]) <= 4]
    (tmp_path / "short.txt").write_text("".join(f"{line}\n" for line in lines))
    runs = [read_run_input(path, None) for path in (reasoned / "run.txt", tmp_path / "short.txt")]
    data = page_data(runs, ReportOptions(qrels=reasoned / "qrels.txt", qrels_name="dl"))
    notes = " ".join(data.overview["evaluation"]["notes"])
    assert "has at most 4 documents per query" in notes
    assert "queries of dl;" in notes


def test_passages_are_cut_at_words() -> None:
    assert cut("  one two\nthree ", 3) == "one two\nthree"
    assert cut("one two\nthree", 2) == "one two …"
