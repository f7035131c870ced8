"""``trace`` of rewritten topics: shown with their prompts, and packed so that a replay writes the same topics."""

from __future__ import annotations

import asyncio
import gzip
import json
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest

from pyserini_reasonrank.__main__ import main
from pyserini_reasonrank.ir.metadata import sidecar, write_metadata
from pyserini_reasonrank.ir.rewrite_record import metadata_of
from pyserini_reasonrank.ir.runs import RunFormat
from pyserini_reasonrank.ir.topics import read_topics
from pyserini_reasonrank.records import Candidate, Query
from pyserini_reasonrank.run import named_inputs
from pyserini_reasonrank.run.fingerprint import fingerprint_of
from pyserini_reasonrank.run.rewriting.pipeline import Passages, RewriteTask, rewrite
from pyserini_reasonrank.run.rewriting.plan import planned
from pyserini_reasonrank.settings import rewriters

ANSWERS = {
    ("q1", 0): "<think>lamps</think><answer>lamp light</answer>",
    ("q1", 1): "<answer>dorsal light</answer>",
    ("q2", 0): "",
    ("q2", 1): "<answer>tides</answer>",
}
TEXTS = {"d1": "Moths turn their backs to the light.", "d2": "The moon moves the sea."}
Shown = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("topics.tsv").write_text("q1\twhy moths\nq2\tmoon\n")
    rows = [{"qid": qid, "call": call, "response": text} for (qid, call), text in ANSWERS.items()]
    Path("answers.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    lines = [{"id": docid, "contents": text} for docid, text in TEXTS.items()]
    Path("corpus.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))


RECORDED = ["--rewrite.engine.name", "recorded", "--rewrite.engine.path", "answers.jsonl"]


def rewritten(*words: str, name: str = "reasoning-query", output: str = "new.tsv") -> Path:
    """Topics rewritten by the command ``rewrite``."""
    assert main(["rewrite", "--topics", "topics.tsv", "--output", output, "--rewrite", name, *RECORDED, *words]) == 0
    return Path(output)


async def search(queries: Sequence[Query]) -> Passages:
    return {query.qid: (Candidate(docid, 1.0, TEXTS[docid]),) for query, docid in zip(queries, TEXTS, strict=True)}


def searched(*words: str) -> Path:
    """Topics rewritten in two rounds as a search does it, with the metadata of its run."""
    flags = ["--rewrite", "keywords", "--rewrite.rounds", "2", "--rewrite.corpus", "corpus.jsonl", *RECORDED, *words]
    made = planned("keywords", rewriters.lift(flags)[1])
    output = Path("run.txt.rewritten.tsv")
    record = asyncio.run(rewrite(made, RewriteTask(read_topics("topics.tsv"), output, search)))
    host = ["--index", "/indexes/mine", "--topics", "topics.tsv", "--bm25", "--output", "run.txt"]
    Path("run.txt").write_text("q1 Q0 d1 1 1.0 bm25\n")
    fingerprint = fingerprint_of(None, (), RunFormat.TREC, made.settings)
    command = ["python", "-m", "pyserini.search.lucene", *host, *flags]
    write_metadata(sidecar("run.txt"), metadata_of(record, command, "topics.tsv", fingerprint, Path("run.txt")))
    return output


def trace(capsys: Shown, *words: object) -> str:
    capsys.readouterr()
    assert main(["trace", *map(str, words)]) == 0
    return capsys.readouterr().out


def refused(capsys: Shown, *words: object) -> str:
    capsys.readouterr()
    assert main(["trace", *map(str, words)]) == 2
    return capsys.readouterr().err


def test_show_a_rewritten_query_with_its_prompt(capsys: Shown) -> None:
    topics = rewritten()
    text = trace(capsys, "show", topics, "--qid", "q1")
    lines = text.splitlines()
    assert lines[0] == "query      q1  why moths"
    assert "searched   why moths lamp light" in lines
    assert "call 0 - round 1  ok" in lines
    assert "reasoning  lamps" in lines
    assert "prompt     user: Somebody asks:" in lines
    assert "why moths" in text.partition("Somebody asks:")[2]
    for absent in ("differs from the prompt", "first stage", "shown", "order ", "note"):
        assert absent not in text
    journal = trace(capsys, "show", "new.tsv.journal.sqlite", "--qid", "q1")
    assert "prompts are not shown: the settings of new.tsv.journal.sqlite are unknown" in " ".join(journal.split())
    assert "searched   why moths lamp light" in journal


def test_the_topics_of_a_rewriting_may_have_a_name(capsys: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    topics = rewritten()
    Path("topics.tsv").rename("elsewhere.tsv")
    monkeypatch.setattr(named_inputs, "_from_pyserini", lambda *named: Path("elsewhere.tsv"))
    assert "why moths" in trace(capsys, "show", topics, "--qid", "q1", "--topics", "mine").splitlines()[0]
    refusal = refused(capsys, "show", topics, "--qid", "q1", "--candidates", "c.jsonl")
    assert "--candidates has the texts of a run" in refusal


def test_show_the_rounds_of_a_search_with_their_passages(capsys: Shown) -> None:
    topics = searched()
    text = trace(capsys, "show", topics, "--qid", "q1", "--full")
    assert "searched   why moths dorsal light" in text
    assert "call 1 - round 2  ok" in text
    assert f"[1] {TEXTS['d1']}" in text
    assert "shown      [1]" in text
    assert "differs from the prompt" not in text
    Path("corpus.jsonl").unlink()
    without = " ".join(trace(capsys, "show", topics, "--qid", "q1", "--full").split())
    assert "prompts with passages are not shown: corpus.jsonl" in without
    assert TEXTS["d1"] not in without
    assert "user: Somebody asks: why moths" in without


def test_export_and_rankings_of_rewritten_topics_whose_journal_is_elsewhere(capsys: Shown) -> None:
    topics = rewritten("--rewrite.journal", "calls.sqlite")
    [line] = trace(capsys, "export", topics, "--qid", "q1").splitlines()
    assert json.loads(line)["label"] == "round 1"
    [line] = trace(capsys, "rankings", topics, "--qid", "q1").splitlines()
    assert json.loads(line)["notes"] == {"searched": "why moths lamp light"}


@pytest.mark.parametrize(
    "words", [["keywords"], ["passage", "--rewrite.originals", "2"], ["inf-query-aligner"], ["mine.yaml"]]
)
def test_packed_rewrites_give_the_same_topics(capsys: Shown, words: list[str]) -> None:
    Path("mine.yaml").write_text("rewriter: keywords\noriginals: 3\nquery_tokens: 64\n")
    topics = rewritten(*words[1:], name=words[0])
    said = trace(capsys, "pack", topics, "-o", "packed.gz")
    assert "answers   2 for 2 queries" in said
    assert "replay    python -m pyserini_reasonrank rewrite --topics TOPICS --output REWRITTEN \\" in said
    command = said.partition("replay    ")[2].replace("\\\n", " ").replace("TOPICS", "topics.tsv")
    replay = shlex.split(command.replace("REWRITTEN", "again.tsv"))
    Path("answers.jsonl").unlink()
    Path("mine.yaml").unlink()
    assert main(replay[3:]) == 0
    assert Path("again.tsv").read_bytes() == topics.read_bytes()
    records = [trace(capsys, "export", path).splitlines() for path in (topics, "again.tsv")]
    statuses = [[(row["qid"], row["status"], len(row["calls"])) for row in map(json.loads, rows)] for rows in records]
    assert statuses[0] == statuses[1]
    header = json.loads(gzip.decompress(Path("packed.gz").read_bytes()).splitlines()[0])
    assert header["rewritten topics"]["name"] == "new.tsv"
    assert header["topics"] == "topics.tsv"
    assert header["flags"][:1] == ["--rewrite"]


def test_packed_rewrites_of_a_search_with_rounds_are_replayed_by_a_search(capsys: Shown) -> None:
    topics = searched()
    said = trace(capsys, "pack", topics, "-o", "packed.gz")
    head = "python -m pyserini.search.lucene --index INDEX --topics TOPICS --bm25 --output RUN \\"
    assert f"replay    {head}" in said
    flags = shlex.split(said.partition(head)[2].replace("\\\n", " "))
    before = topics.read_bytes()
    made = planned("keywords", rewriters.lift(flags)[1])
    again = Path("again.tsv")
    asyncio.run(rewrite(made, RewriteTask(read_topics("topics.tsv"), again, search)))
    assert again.read_bytes() == before


def test_rewrites_that_can_not_be_packed(capsys: Shown) -> None:
    topics = rewritten()
    assert "is a journal: name the topics file" in refused(capsys, "pack", f"{topics}.journal.sqlite", "-o", "a.gz")
    assert "is its journal; name another file" in refused(capsys, "pack", topics, "-o", f"{topics}.journal.sqlite")
    assert "has no query 'q9'" in refused(capsys, "show", topics, "--qid", "q9")
    kept = topics.read_text()
    topics.write_text(kept.replace("lamp light", "lamps"))
    assert "their texts of query q1 differ" in refused(capsys, "pack", topics, "-o", "a.gz")
    topics.write_text(kept)
    metadata = sidecar(topics).read_text()
    sidecar(topics).write_text(metadata.replace("--rewrite reasoning-query", "--rewrite keywords"))
    assert "its command gives other settings here than when it ran" in refused(capsys, "pack", topics, "-o", "a.gz")
    assert not Path("a.gz").exists()
