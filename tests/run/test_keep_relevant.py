"""Runs that keep relevant candidates only: what is dropped, said, recorded, checked, merged, evaluated and served."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Collection

from pyserini_reasonrank import Reranker, UsageError
from pyserini_reasonrank.__main__ import main
from pyserini_reasonrank.ir.metadata import recorded_verdict, sidecar
from pyserini_reasonrank.ir.runs import read_run
from pyserini_reasonrank.report.run_inputs import read_run_input
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.serve.dialects import RerankRequest, TeiRequest, rerank_response, tei_response
from pyserini_reasonrank.settings import layers
from pyserini_reasonrank.settings.flags import lift

Rerank = Callable[..., str]


@pytest.fixture
def qrels(collection: Collection, tmp_path: Path) -> Path:
    """The judgments, with nothing relevant for the query with one candidate."""
    path = tmp_path / "qrels.txt"
    lines = collection.qrels.read_text().splitlines()
    path.write_text("".join(f"{line[:-1] + '0' if line.startswith('single ') else line}\n" for line in lines))
    return path


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What a command prints; ``status`` is its exit status."""

    def run(*words: object, status: int = 0) -> str:
        capsys.readouterr()
        assert main([str(word) for word in words]) == status
        done = capsys.readouterr()
        return done.out + done.err

    return run


@pytest.fixture
def rerank(
    collection: Collection, qrels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Callable[..., str]
) -> Rerank:
    monkeypatch.chdir(tmp_path)

    def run(output: str, *words: str, inputs: Sequence[str] = collection.inputs) -> str:
        engine = ("--rerank.engine.name", "oracle", "--rerank.engine.qrels", "qrels.txt")
        return said("rerank", *inputs, "--output", output, "--rerank", *words, *engine)

    return run


KEEP = ("--rerank.keep", "relevant")


def relevant(collection: Collection, qid: str, least: int = 2) -> set[str]:
    return {docid for docid, grade in collection.grades[qid].items() if grade >= least}


@pytest.mark.parametrize(
    ("name", "more", "least"),
    [
        ("rank1", (), 2),
        ("rank1", ("--rerank.threshold", "0.2"), 1),
        ("rank1", ("--rerank.segments.tokens", "8", "--rerank.segments.stride", "3"), 2),
        ("erank", (), 2),
        ("orderchain", (), 2),
        ("grouprank", (), 2),
        ("qwen3-reranker", (), 2),
        ("mxbai-rerank", (), 2),
        ("zerank", (), 2),
        ("retro-star", (), 2),
        ("retro-star", ("--rerank.segments.tokens", "8", "--rerank.segments.stride", "3"), 2),
        ("grouprank", ("--rerank.threshold", "9.5"), 3),
    ],
)
def test_a_run_has_what_the_judge_finds_relevant(
    name: str, more: tuple[str, ...], least: int, collection: Collection, rerank: Rerank, said: Callable[..., str]
) -> None:
    summary = rerank("run.txt", name, *KEEP, *more)
    run = read_run("run.txt")
    expected = {qid: relevant(collection, qid, least) for qid in ("long", "7")}
    assert {qid: {hit.docid for hit in hits} for qid, hits in run.items()} == expected
    kept = sum(map(len, expected.values()))
    assert f"kept      {kept} of 33 candidates" in summary
    assert "nothing relevant for 1 topic: single" in summary
    verdict = recorded_verdict("run.txt")
    assert verdict.without_relevant == ["single"]
    dropped = {qid: len(collection.grades[qid]) - len(found) for qid, found in expected.items()}
    assert verdict.dropped == {qid: count for qid, count in dropped.items() if count} | {"single": 1}
    valid = said("validate", "run.txt", "--topics", collection.topics, "--first", collection.run)
    assert valid.startswith("valid: 2 topics")


def test_all_is_the_default(collection: Collection, rerank: Rerank) -> None:
    assert "kept" not in rerank("run.txt", "rank1")
    assert {qid: len(hits) for qid, hits in read_run("run.txt").items()} == {"long": 25, "7": 7, "single": 1}
    assert "candidates left out" not in sidecar("run.txt").read_text()


def test_what_is_below_the_depth_is_left_out(collection: Collection, rerank: Rerank, said: Callable[..., str]) -> None:
    rerank("run.txt", "rank1", *KEEP, "--rerank.depth", "3")
    kept = {docid for docid in relevant(collection, "long") if int(docid.rpartition("d")[2]) < 3}
    assert {hit.docid for hit in read_run("run.txt")["long"]} == kept
    assert said("validate", "run.txt", "--topics", collection.topics, "--first", collection.run).startswith("valid")


def test_an_unreadable_answer_drops_nothing(qrels: Path) -> None:
    engine: dict[str, Any] = {"name": "faulty", "inner": {"qrels": str(qrels)}, "faults": {"error": 1.0}}
    with Reranker("rank1", engine=engine, keep="relevant", on_error="keep") as made:
        ranked = made.rank("q", ["a", "b"], qid="7")
    assert [one.docid for one in ranked] == ["0", "1"]
    assert ranked.dropped == ()


# --- refusals


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("reasonrank --rerank.keep relevant", r"the permutation judge does not give: use .* rank1, erank, orderchain or grouprank"),
        ("upr --rerank.keep relevant", r"the likelihood judge does not give"),
        ("coranking --rerank.keep relevant", r"the cascade combination does not give"),
        ("rank1 --rerank.threshold 0.3", r"threshold 0\.3 needs --rerank\.keep relevant"),
        ("rank1 --rerank.keep relevant --rerank.threshold 5", r"threshold 5 is not between 0 and 1, the scores of the score"),
        ("rank1 --rerank.keep relevant --rerank.threshold 0", r"threshold 0 is not between 0 and 1"),
        ("coranking --rerank.arms.small.keep relevant", r"can't be set for one arm"),
    ],
)  # fmt: skip
def test_refusals(flags: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        plan(*layers.load(*lift(["--rerank", *flags.split(), "--rerank.engine.name", "oracle"])[:2]))


# --- checks


def test_validate_accepts_what_the_metadata_say_and_nothing_else(
    collection: Collection, rerank: Rerank, said: Callable[..., str]
) -> None:
    rerank("run.txt", "rank1", *KEEP)
    check = ("--topics", collection.topics, "--first", collection.run)
    lines = Path("run.txt").read_text().splitlines(keepends=True)
    Path("run.txt").write_text("".join(lines[:-1]))
    assert "left out by the metadata [left out]" in said("validate", "run.txt", *check, status=1)
    Path("run.txt").write_text("".join(line for line in lines if not line.startswith("7 ")))
    assert "1 topic missing from the run: 7 [topics]" in said("validate", "run.txt", *check, status=1)
    Path("run.txt").write_text(
        "".join([*lines, "single Q0 single-d0 1 1 t\n"]).replace(" t\n", f" {lines[0].split()[-1]}\n")
    )
    assert "1 topic has documents, but none by the metadata: single" in said("validate", "run.txt", *check, status=1)
    Path("run.txt").write_text("".join(lines))
    sidecar("run.txt").unlink()
    findings = said("validate", "run.txt", *check, status=1)
    assert "of the first stage missing" in findings
    assert "1 topic missing from the run: single" in findings


def test_a_run_with_nothing_relevant_at_all(collection: Collection, rerank: Rerank, said: Callable[..., str]) -> None:
    qids = ("--qids", "single,nothing")
    assert "kept      0 of 1 candidates" in rerank("run.txt", "rank1", *KEEP, inputs=[*collection.inputs, *qids])
    assert Path("run.txt").read_bytes() == b""
    Path("topics.tsv").write_text("single\twhat is it\nnothing\twhat is it\n")
    assert said("validate", "run.txt", "--topics", "topics.tsv").startswith("valid: 0 topics, 0 documents")
    assert "2 topics missing from the run: long, 7" in said("validate", "run.txt", "--first", collection.run, status=1)
    found = json.loads(said("evaluate", "--qrels", "qrels.txt", "--format", "json", "run.txt"))
    assert found["first"]["empty"] == {"found": 1, "right": 1, "without_relevant": 1}
    assert found["first"]["answered"] == 0
    assert " out " in said("trace", "show", "run.txt", "--qid", "single")
    assert said("trace", "pack", "run.txt", "-o", "answers.gz").startswith("answers   2 for 2 queries")
    for inputs in (["run.txt"], ["run.txt", collection.run], [collection.run, "run.txt"]):
        assert "queries   " in said("report", *inputs, "--qrels", "qrels.txt", "--output", "page.html")


def test_a_journal_without_anything_kept_is_that_of_its_run(collection: Collection, rerank: Rerank) -> None:
    inputs = [*collection.inputs, "--qids", "single", "--output-format", "jsonl"]
    rerank("run.jsonl", "rank1", *KEEP, inputs=inputs)
    found = read_run_input(Path("run.jsonl"), None)
    assert (found.hits, found.qids, found.llm["single"]) == ({}, {"single"}, {"single-d0": 0.01})
    rerank("other.jsonl", "rank1", *KEEP, inputs=[*inputs[:-4], "--qids", "7", *inputs[-2:]])
    with pytest.raises(UsageError, match="it has none of its queries"):
        read_run_input(Path("run.jsonl"), "other.jsonl.journal.sqlite")


def test_the_calls_of_an_empty_query_are_shown(rerank: Rerank, said: Callable[..., str]) -> None:
    rerank("run.txt", "rank1", *KEEP)
    shown = said("trace", "show", "run.txt", "--qid", "single")
    assert " out " in shown
    assert "single-d0" in shown
    assert "passages and prompts are not shown" not in shown
    found = read_run_input(Path("run.txt"), None)
    assert any("no documents for 1 query:" in note for note in found.notes)


def test_the_same_command_again_writes_the_same_run(rerank: Rerank) -> None:
    rerank("run.txt", "rank1", *KEEP)
    first = Path("run.txt").read_bytes()
    assert " 0 LLM calls" in rerank("run.txt", "rank1", *KEEP)
    assert Path("run.txt").read_bytes() == first


def test_another_threshold_makes_no_calls(rerank: Rerank) -> None:
    rerank("run.txt", "rank1")
    journal = ("--rerank.journal", "run.txt.journal.sqlite")
    assert " 0 LLM calls" in rerank("strict.txt", "rank1", *KEEP, "--rerank.threshold", "0.9", *journal)


def test_parts_are_merged(collection: Collection, rerank: Rerank, said: Callable[..., str]) -> None:
    rerank("whole.txt", "rank1", *KEEP)
    for shard in ("1/2", "2/2"):
        rerank(f"part-{shard[0]}.txt", "rank1", *KEEP, inputs=[*collection.inputs, "--shard", shard])
    said("merge", "merged.txt", "part-1.txt", "part-2.txt", "--topics", collection.topics)
    assert Path("merged.txt").read_bytes() == Path("whole.txt").read_bytes()
    assert recorded_verdict("merged.txt") == recorded_verdict("whole.txt")
    assert said("validate", "merged.txt", "--topics", collection.topics, "--first", collection.run).startswith("valid")


def test_a_damaged_verdict_is_named(rerank: Rerank, said: Callable[..., str]) -> None:
    rerank("run.txt", "rank1", *KEEP)
    metadata = yaml.safe_load(sidecar("run.txt").read_text())
    metadata["outcome"]["candidates left out"] = {"7": "many"}
    sidecar("run.txt").write_text(yaml.safe_dump(metadata))
    assert "candidates left out has a value that is not a number" in said("validate", "run.txt", status=2)


# --- evaluation


def test_rightly_empty_queries_are_counted(collection: Collection, rerank: Rerank, said: Callable[..., str]) -> None:
    rerank("run.txt", "rank1", *KEEP)
    told = said("evaluate", "--qrels", "qrels.txt", collection.run, "run.txt")
    assert (
        "nothing is relevant for 1 query by its judge, rightly for 1 of the 1 without a relevant document in the qrels and "
        "wrongly for 0." in " ".join(told.split())
    )
    assert "compare runs of the same topics" not in told
    assert "favour" not in told
    assert "mean over the queries of the qrels that the run has documents for" in told
    other = " ".join(said("evaluate", "--qrels", collection.qrels, "run.txt").split())
    assert "nothing is relevant for 1 query by its judge; all queries of the qrels have relevant documents." in other


def test_a_threshold_is_chosen_on_judged_queries(rerank: Rerank, said: Callable[..., str]) -> None:
    rerank("run.txt", "rank1")
    told = said("threshold", "run.txt", "--qrels", "qrels.txt", "--relevant", "3")
    best = told.splitlines()[-1].split()[-1]
    assert 0.67 < float(best) <= 0.99  # between the scores of the grades 2 and 3
    assert "mean F1 1.0000 of 3 queries; 1 empty, 1 of the 1 without a relevant document" in told
    rerank("kept.txt", "rank1", *KEEP, "--rerank.threshold", best)
    again = said("threshold", "kept.txt", "--qrels", "qrels.txt", "--relevant", "3")
    assert again == told
    rerank("order.txt", "reasonrank")
    assert "whose scores do not mean the same for all queries" in said(
        "threshold", "order.txt", "--qrels", "qrels.txt", status=2
    )


# --- Python and servers


def test_a_result_has_what_is_kept(qrels: Path) -> None:
    documents = [{"id": f"7-d{i}", "text": f"text {i}"} for i in range(7)]
    with Reranker("rank1", engine={"name": "oracle", "qrels": str(qrels)}, keep="relevant") as made:
        ranked = made.rank("q", documents, qid="7")
        nothing = made.rank("q", [{"id": "single-d0", "text": "text"}], qid="single")
    assert len(ranked) + len(ranked.dropped) == 7
    assert all(one.llm_score is not None and one.llm_score >= 0.5 for one in ranked)
    assert all(one.llm_score is not None and one.llm_score < 0.5 for one in ranked.dropped)
    assert [one.rank for one in (*ranked, *ranked.dropped)] == list(range(1, 8))
    assert (ranked.relevance(ranked[0]), ranked.relevance(ranked[-1])) == (1.0, 1 / len(ranked))
    assert (len(nothing), nothing.to_run(), len(nothing.dropped), nothing.top(3)) == (0, "", 1, [])

    places = {str(document["id"]): i for i, document in enumerate(documents)}
    request = RerankRequest(query="q", documents=list(documents), top_n=2)
    response = rerank_response(request, "m", ranked, places, 0, "2")
    assert [result["relevance_score"] for result in response["results"]] == [1.0, 1 - 1 / len(ranked)]
    assert sorted(response["dropped"]) == sorted(places[one.docid] for one in ranked.dropped)
    empty = rerank_response(RerankRequest(query="q", documents=["text"]), "m", nothing, {"single-d0": 0}, 0, "2")
    assert (empty["results"], empty["dropped"]) == ([], [0])
    assert tei_response(TeiRequest(query="q", texts=["text"]), nothing, {"single-d0": 0}) == []


def test_the_kept_documents_are_reranked_again(collection: Collection, rerank: Rerank) -> None:
    rerank("kept.txt", "rank1", *KEEP)
    inputs = ["--run", "kept.txt", "--topics", str(collection.topics), "--corpus", str(collection.corpus)]
    assert "2 of 4 reranked, 2 without candidates" in rerank("order.txt", "reasonrank", inputs=inputs)
    assert {qid: {hit.docid for hit in hits} for qid, hits in read_run("order.txt").items()} == {
        qid: relevant(collection, qid) for qid in ("long", "7")
    }
