"""``rerank`` of a part of a run, with other texts and without some documents; the parts merged; inputs by name."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, Collection, replaced

from pyserini_reasonrank.__main__ import main
from pyserini_reasonrank.ir.runs import read_run
from pyserini_reasonrank.ir.validate import validate
from pyserini_reasonrank.journal_reader import export, rankings

Rerank = Callable[..., int]


@pytest.fixture
def rerank(collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rerank:
    """``rerank("run.txt", flag, value, ...)``: rerank the collection with the oracle, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(output: str, *words: object, inputs: list[str] = collection.inputs) -> int:
        known = ["--rerank", "reasonrank", "--rerank.engine.name", "oracle", "--rerank.engine.qrels", collection.qrels]
        return main(replaced(["rerank", *inputs, "--output", output, *known], words))

    return run


def metadata(output: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(Path(f"{output}.ir-metadata.yml").read_text())
    return found


def docids(run: str) -> dict[str, list[str]]:
    return {qid: [hit.docid for hit in hits] for qid, hits in read_run(run).items()}


# --- other texts


@pytest.mark.parametrize("source", ["corpus", "candidates"])
def test_a_run_is_reranked_with_the_texts_of_other_topics(
    source: str, rerank: Rerank, collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyserini_reasonrank.rerankers.judging import LLMJudge

    seen: dict[str, str] = {}
    ask = LLMJudge.judgement

    async def noted(self: LLMJudge, preparation: Any, *rest: Any) -> Any:
        seen[preparation.request.query.qid] = preparation.request.query.text
        return await ask(self, preparation, *rest)

    monkeypatch.setattr(LLMJudge, "judgement", noted)
    topics = tmp_path / "originals.jsonl"
    rows = [{"qid": r.query.qid, "query": f"original {r.query.qid}"} for r in collection.requests]
    topics.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"qid": "unused", "query": "x"}]))
    inputs = collection.inputs if source == "corpus" else ["--candidates", str(collection.candidates)]
    assert rerank("run.txt", "--rerank.topics", topics, inputs=inputs) == 0
    assert {"long", "7"} <= seen.keys()
    assert all(text == f"original {qid}" for qid, text in seen.items())
    assert metadata("run.txt")["data"]["test collection"]["rerank topics"] == str(topics)


def test_every_query_that_is_reranked_needs_a_text(
    rerank: Rerank, collection: Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    topics = tmp_path / "originals.tsv"
    topics.write_text("long\toriginal\n7\tseven\n")
    for inputs in (collection.inputs, ["--candidates", str(collection.candidates)]):
        assert rerank("run.txt", "--rerank.topics", topics, inputs=inputs) == 2
        said = capsys.readouterr().err
        assert f"--rerank.topics {topics} has no query single, which " in said
        assert "(2 of 4 are missing)" in said
    assert rerank("run.txt", "--rerank.topics", topics, "--qids", "7,long") == 0


# --- exclusions


@pytest.mark.parametrize("flag", ["--exclude", "--rerank.exclude"])
@pytest.mark.parametrize("source", ["corpus", "candidates"])
def test_excluded_documents_are_removed_before_the_depth(
    flag: str, source: str, rerank: Rerank, collection: Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    excluded = tmp_path / "excluded.jsonl"
    excluded.write_text(json.dumps({"id": "long", "excluded_ids": ["long-d0", "long-d3"]}) + "\n")
    inputs = collection.inputs if source == "corpus" else ["--candidates", str(collection.candidates)]
    assert rerank("run.txt", flag, excluded, "--rerank.depth", 5, inputs=inputs) == 0
    found = docids("run.txt")
    assert sorted(found["long"][:5]) == [f"long-d{i}" for i in (1, 2, 4, 5, 6)]
    assert found["long"][5:] == [f"long-d{i}" for i in range(7, 25)]
    assert len(found["7"]) == 7
    assert metadata("run.txt")["data"]["test collection"]["excluded documents"] == str(excluded)
    assert metadata("run.txt")["outcome"]["documents excluded"] == 2
    assert "excluded  2 documents removed from the candidates\n" in capsys.readouterr().out
    assert not metadata("run.txt")["outcome"]["warnings"]
    first = str(collection.run)
    assert main(["validate", "run.txt", "--first", first, "--exclude", str(excluded)]) == 0
    assert main(["validate", "run.txt", "--first", first]) == 1
    assert main(["validate", first, "--exclude", str(excluded)]) == 1


def test_an_exclusion_list_that_removes_nothing_is_reported(
    rerank: Rerank, collection: Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    excluded = tmp_path / "excluded.tsv"
    excluded.write_text("lnog\tlong-d0\nlong\tother-d0\n")
    warning = f"no candidate is among the excluded documents of {excluded}"
    assert rerank("run.txt", "--exclude", excluded) == 0
    out = capsys.readouterr().out
    assert f"warning: {warning}" in out
    assert "excluded  0 documents removed" in out
    assert metadata("run.txt")["outcome"]["documents excluded"] == 0
    assert rerank("strict.txt", "--exclude", excluded, "--rerank.strict", "true") == 1
    assert warning in capsys.readouterr().err
    parts = parts_of(rerank, 2, "--exclude", excluded, inputs=collection.inputs)
    assert main(["merge", "merged.txt", *parts]) == 0
    assert metadata("merged.txt")["outcome"]["documents excluded"] == 0
    assert warning not in capsys.readouterr().out  # a part may have none of the documents


def test_an_exclusion_list_by_a_wrong_name_and_given_twice(rerank: Rerank, capsys: pytest.CaptureFixture[str]) -> None:
    assert rerank("run.txt", "--exclude", "bright-apos") == 2
    assert "exclusions bright-apos: no such file, and no collection of that name; did you mean 'bright-aops'?" in (
        capsys.readouterr().err
    )
    assert rerank("run.txt", "--exclude", "none.tsv") == 2
    assert "none.tsv does not exist" in capsys.readouterr().err
    assert rerank("run.txt", "--exclude", "a.tsv", "--rerank.exclude", "b.tsv") == 2
    assert "can't both be given" in capsys.readouterr().err


# --- a part of a run, and the parts merged


def test_a_part_of_the_queries_works_where_the_topics_are_a_part_too(
    rerank: Rerank, collection: Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part = tmp_path / "part.tsv"
    part.write_text("7\tseven\nsingle\tone\n")
    inputs = ["--run", str(collection.run), "--topics", str(part), "--corpus", str(collection.corpus)]
    assert rerank("run.txt", inputs=inputs) == 2
    assert f"has query long, which is not in the topics {part} (1 of 3 are not); " in (said := capsys.readouterr().err)
    assert f"--qids FILE, such as {part}" in said
    assert rerank("run.txt", "--qids", part, inputs=inputs) == 0
    assert set(docids("run.txt")) == {"7", "single"}
    for inputs in (collection.inputs, ["--candidates", str(collection.candidates)]):
        assert rerank("other.txt", "--qids", "long", inputs=inputs) == 0
        assert set(docids("other.txt")) == {"long"}
    assert rerank("new.txt", "--qids", "none", inputs=inputs) == 2
    assert "--qids selects query none, which is not in" in capsys.readouterr().err


def test_topics_of_another_collection(
    rerank: Rerank, collection: Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    topics = tmp_path / "others.tsv"
    topics.write_text("x\tone\ny\ttwo\n")
    inputs = ["--run", str(collection.run), "--topics", str(topics), "--corpus", str(collection.corpus)]
    assert rerank("run.txt", inputs=inputs) == 2
    said = capsys.readouterr().err
    assert (
        f"no query of {collection.run} is in the topics {topics} (the first is long): pass the topics of the run"
        in said
    )
    assert "--qids" not in said


def parts_of(rerank: Rerank, n: int, *words: object, inputs: list[str]) -> list[str]:
    names = [f"part-{k}.txt" for k in range(1, n + 1)]
    for k, name in enumerate(names, 1):
        assert rerank(name, "--shard", f"{k}/{n}", *words, inputs=inputs) == 0
    return names


@pytest.mark.parametrize("output_format", ["trec", "msmarco", "jsonl", "castorini"])
@pytest.mark.parametrize("source", ["corpus", "candidates"])
def test_merged_shards_are_the_whole_run(
    output_format: str, source: str, rerank: Rerank, collection: Collection, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = collection.inputs if source == "corpus" else ["--candidates", str(collection.candidates)]
    form = ("--output-format", output_format)
    assert rerank("whole.txt", *form, inputs=inputs) == 0
    parts = parts_of(rerank, 3, *form, inputs=inputs)
    assert main(["merge", "merged.txt", *reversed(parts)]) == 0
    assert "3 parts, 4 topics" in capsys.readouterr().out
    assert Path("merged.txt").read_bytes() == Path("whole.txt").read_bytes()
    assert main(["merge", "merged.txt", *parts]) == 0  # again
    assert main(["validate", "merged.txt", "--topics", str(collection.topics), "--first", str(collection.run)]) == 0
    whole, merged = metadata("whole.txt"), metadata("merged.txt")
    assert merged["outcome"] == whole["outcome"]
    assert merged["resources"]["llm"] == whole["resources"]["llm"]
    assert merged["method"]["retrieval"] == whole["method"]["retrieval"]
    assert merged["data"] == whole["data"]
    assert [part["shard"] for part in merged["parts"]] == ["1/3", "2/3", "3/3"]


def test_a_merged_journal_has_the_calls_and_rankings_of_its_parts(rerank: Rerank, collection: Collection) -> None:
    assert rerank("whole.txt") == 0
    assert main(["merge", "merged.txt", *parts_of(rerank, 3, inputs=collection.inputs)]) == 0

    def content(output: str, read: Callable[[Path], Any]) -> list[dict[str, Any]]:
        records = [record | {"run": ""} for record in read(Path(f"{output}.journal.sqlite"))]
        for record in records:
            for call in record.get("calls", []):
                call["seconds"] = 0
        return records

    assert content("merged.txt", export) == content("whole.txt", export)
    assert content("merged.txt", rankings) == content("whole.txt", rankings)
    shutil.copy("merged.txt.journal.sqlite", "again.txt.journal.sqlite")
    assert rerank("again.txt") == 0  # every call is in the merged journal
    assert metadata("again.txt")["resources"]["llm"]["calls"] == 0


def test_merge_refuses_what_is_not_one_whole_run(
    rerank: Rerank, collection: Collection, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two, three = parts_of(rerank, 3, inputs=collection.inputs)
    assert rerank("deep.txt", "--shard", "2/3", "--rerank.depth", 3) == 0
    assert rerank("named.txt", "--qids", "7,single") == 0
    Path("bare.txt").write_text(Path(two).read_text())
    Path("unfinished.txt.partial").touch()
    for words, says in [
        (["run.txt", one, three], "1 shard (2/3) missing: pass every part"),
        (["run.txt", "named.txt"], "2 queries (long, nothing) of the topics in no part"),
        (["run.txt", one, two, three, "named.txt"], "part-2.txt and named.txt both have 1 query (7)"),
        (["run.txt", one, "deep.txt", three], "part-1.txt and deep.txt have different settings: reranker.depth is 100 and 3"),
        (["run.txt", one, "bare.txt", three], "bare.txt has no metadata (bare.txt.ir-metadata.yml)"),
        (["run.txt", one, "unfinished.txt"], "unfinished.txt is not finished"),
        (["run.txt", one, "none.txt"], "none.txt does not exist"),
        (["run.txt", one, one], "the part part-1.txt is given twice"),
        ([one, one, two, three], "part-1.txt is a part of the run"),
        (["named.txt", one, two, three], "named.txt exists and was not merged from runs of these settings"),
        (["run.txt"], "required: PART"),
    ]:  # fmt: skip
        assert main(["merge", *words]) == 2, words
        assert says in capsys.readouterr().err
        assert not Path("run.txt").exists()
    few = Path("few.tsv")
    few.write_text("long\tx\n7\tx\n")
    assert main(["merge", "run.txt", one, two, three, "--topics", str(few)]) == 2
    assert re.search(r"2 queries \((nothing, single|single, nothing)\) not among the topics", capsys.readouterr().err)


@pytest.mark.process
def test_the_array_job_of_the_page_on_clusters(collection: Collection, tmp_path: Path) -> None:
    """The commands of docs/usage-cluster.md, with the oracle in place of the model, make the run of one command."""
    page = (ROOT / "docs" / "usage-cluster.md").read_text(encoding="utf-8")
    script, merging = page.split("## Many nodes\n")[1].split("\n    python -m pyserini_reasonrank merge ")
    job = "\n".join(line[4:] for line in script.splitlines() if line.startswith("    "))
    merge = "python -m pyserini_reasonrank merge " + merging.splitlines()[0]
    for name, path in {
        "first.txt": collection.run,
        "topics.tsv": collection.topics,
        "corpus.jsonl": collection.corpus,
    }.items():
        shutil.copy(path, tmp_path / name)
    shutil.copy(collection.qrels, tmp_path / "qrels.txt")
    oracle = "--rerank.engine.name oracle --rerank.engine.qrels qrels.txt"
    assert "--rerank.model reasonrank-7b" in job
    job = job.replace("--rerank.model reasonrank-7b", oracle).replace("/8", "/3").replace("1-8", "1-3")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    paths = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def bash(text: str, **more: str) -> None:
        environment = {**os.environ, **paths, **more}
        done = subprocess.run(
            ["bash", "-c", text], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    for k in (1, 2, 3):
        bash(job, SLURM_ARRAY_TASK_ID=str(k), SLURM_ARRAY_TASK_COUNT="3")
    bash(merge)
    found = validate(tmp_path / "run.txt", [r.query.qid for r in collection.requests], collection.run, ["nothing"])
    assert found.findings == ()
    assert found.documents == 33


# --- Castorini's requests


def test_what_is_written_as_castorini_requests_is_read_as_candidates(
    rerank: Rerank, collection: Collection, tmp_path: Path
) -> None:
    fields = {"title": "T \u201cq\u201d", "text": " body\n", "url": "http://a", "start_char": 0, "end_char": 60}
    rows = [json.loads(line) for line in collection.candidates.read_text().splitlines()]
    rows[0]["candidates"][1] = {"docid": "with blank", "score": 29.0, **fields}
    source = tmp_path / "candidates.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    qrels = tmp_path / "qrels.txt"
    qrels.write_text(collection.qrels.read_text() + "long 0 with blank 3\n")
    judged = ("--rerank.engine.qrels", qrels, "--output-format", "castorini")
    assert rerank("one.jsonl", *judged, inputs=["--candidates", str(source)]) == 0
    written = [json.loads(line) for line in Path("one.jsonl").read_text().splitlines()]
    assert [set(row) for row in written] == [{"query", "candidates"}] * 4
    assert written[0]["query"] == {"text": "what is topic 0", "qid": "long"}
    first = {row["docid"]: row for row in written[0]["candidates"]}
    assert first["with blank"]["doc"] == fields
    assert first["long-d0"]["doc"] == {"contents": "Passage 0 says what there is to say of topic 0."}
    scores = [row["score"] for row in written[0]["candidates"]]
    assert scores == sorted(scores, reverse=True) == list(range(25, 0, -1))
    assert rerank("two.jsonl", *judged, inputs=["--candidates", "one.jsonl"]) == 0
    assert Path("two.jsonl").read_bytes() == Path("one.jsonl").read_bytes()
    assert main(["validate", "one.jsonl", "--first", str(source)]) == 0


def test_rank_llm_reads_castorini_requests(rerank: Rerank) -> None:
    data = pytest.importorskip("rank_llm.data", reason="rank-llm is not installed")
    assert rerank("run.jsonl", "--output-format", "castorini", "--qids", "7,single") == 0
    seven, single = data.read_requests_from_file("run.jsonl")
    assert (seven.query.qid, len(seven.candidates), single.candidates[0].docid) == ("7", 7, "single-d0")


# --- inputs by name

IR_DATASETS = """
from collections import namedtuple
Qrel, Query = namedtuple("Qrel", "query_id doc_id relevance iteration"), namedtuple("Query", "query_id text")
class Data:
    def qrels_iter(self):
        return iter({qrels})
    def queries_iter(self):
        return iter({queries})
class Documents:
    pass
def load(name):
    return {{"small/test": Data(), "small": Documents()}}[name]
"""


@pytest.fixture
def ir_datasets(collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package ir_datasets that has the collection as ``small/test``."""
    judged = [(qid, docid, grade) for qid, found in collection.grades.items() for docid, grade in found.items()]
    qrels = ", ".join(f"Qrel({qid!r}, {docid!r}, {grade}, '0')" for qid, docid, grade in judged)
    queries = ", ".join(f"Query({r.query.qid!r}, {r.query.text!r})" for r in collection.requests)
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "ir_datasets.py").write_text(IR_DATASETS.format(qrels=f"[{qrels}]", queries=f"[{queries}]"))
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "ir_datasets", raising=False)


@pytest.mark.parametrize("name", ["irds:small/test", "small/test"])
@pytest.mark.usefixtures("ir_datasets")
def test_topics_and_qrels_by_the_names_of_ir_datasets(
    name: str, rerank: Rerank, collection: Collection, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = ["--run", str(collection.run), "--topics", name, "--corpus", str(collection.corpus)]
    assert rerank("run.txt", inputs=inputs) == 0
    assert metadata("run.txt")["data"]["test collection"]["topics"] == name
    assert main(["validate", "run.txt", "--topics", name]) == 0
    capsys.readouterr()
    assert main(["evaluate", "--qrels", name, "--format", "json", "run.txt"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["qrels"], report["first"]["scores"][0]["value"]) == (name, 1.0)
    for bad, says in (("irds:none", "ir_datasets has no data set of that name"), ("irds:small", "has no qrels")):
        assert main(["evaluate", "--qrels", bad, "run.txt"]) == 2
        assert says in capsys.readouterr().err


def test_ir_datasets_that_is_not_installed(
    collection: Collection, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pyserini_reasonrank.ir.names.find_spec", lambda name: None)
    assert main(["evaluate", "--qrels", "irds:vaswani", str(collection.run)]) == 2
    assert "need the package ir_datasets; run: pip install ir_datasets" in capsys.readouterr().err


@pytest.mark.jvm
def test_names_that_pyserini_can_not_fetch(
    collection: Collection, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for variable in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    assert main(["evaluate", "--qrels", "dl19-passage", str(collection.run)]) == 2
    assert "qrels dl19-passage: no such file, and Pyserini has no qrels of that name (" in capsys.readouterr().err
    assert main(["validate", str(collection.run), "--topics", "dl19-passage"]) == 2
    assert "topics dl19-passage: no such file, and Pyserini has no topics of that name" in capsys.readouterr().err
