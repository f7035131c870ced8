"""The literal command on real collections: the host's own figures before, a valid run after."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Command, more

# collection, qrels, hits, measure, BM25's published figure
CACM = ("cacm", "qrels.anserini-unpadded.txt", 1000, "AP", 0.3123)
OTHERS = [
    ("cranfield", "qrels.txt", 100, "nDCG@10", 0.3416),
    ("beir-scifact", "qrels.txt", 100, "nDCG@10", 0.6789),
]

DEPTH = 10

Index = Callable[[str], Path]


@pytest.fixture(scope="module")
def index(data: Path, tmp_path_factory: pytest.TempPathFactory, command: Command) -> Index:
    """``index("cacm")``: the collection's Lucene index, made once."""
    made: dict[str, Path] = {}

    def of(name: str) -> Path:
        if name not in made:
            folder = tmp_path_factory.mktemp(name) / "index"
            done = command("index", "--corpus", data / name / "corpus.jsonl", "--index", folder)
            assert done.returncode == 0, done.stderr
            made[name] = folder
        return made[name]

    return of


def search(*arguments: object) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "pyserini.search", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, timeout=900, check=False)


@pytest.mark.parametrize(("name", "qrels", "hits", "measure", "figure"), [CACM, *more(*OTHERS)])
def test_oracle_over_bm25(
    name: str, qrels: str, hits: int, measure: str, figure: float,
    data: Path, index: Index, command: Command, tmp_path: Path,
) -> None:  # fmt: skip
    topics, judgments, run = data / name / "topics.tsv", data / name / qrels, tmp_path / "run.txt"
    done = search(
        "--index", index(name), "--topics", topics, "--bm25", "--hits", hits, "--output", run,
        "--rerank", "reasonrank", "--rerank.engine.name", "oracle", "--rerank.engine.qrels", judgments,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first = f"{run}.first-stage.txt"
    valid = command("validate", run, "--topics", topics, "--first", first)
    assert valid.returncode == 0, valid.stdout
    report = json.loads(
        command("evaluate", "--qrels", judgments, "--measures", measure, "--format", "json", first, run).stdout
    )
    before, after = (row["scores"][0]["value"] for row in (report["first"], *report["runs"]))
    assert round(before, 4) == figure
    assert after > before + 0.1


QIDS = ("4", "7", "10", "12", "25")


def rewrites(folder: Path, judgments: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Some topics, and for each a query that a good model could write: the title of a relevant document."""
    topics = dict(line.split("\t", 1) for line in (folder / "topics.tsv").read_text().splitlines())
    documents = {
        row["id"]: row["contents"] for row in map(json.loads, (folder / "corpus.jsonl").read_text().splitlines())
    }
    titles = dict[str, str]()
    for line in judgments.read_text().splitlines():
        qid, _, docid, grade = line.split()
        if int(grade) > 0 and qid in QIDS:
            titles.setdefault(qid, documents[docid].splitlines()[0])
    return {qid: topics[qid] for qid in QIDS}, titles


def test_good_rewrites_improve_the_search_and_the_reranker_reads_the_topics(
    data: Path, index: Index, command: Command, tmp_path: Path
) -> None:
    judgments, topics = data / "cacm" / "qrels.txt", tmp_path / "topics.tsv"
    run, answers = tmp_path / "run.jsonl", tmp_path / "answers.jsonl"
    texts, titles = rewrites(data / "cacm", judgments)
    topics.write_text("".join(f"{qid}\t{text}\n" for qid, text in texts.items()))
    rows = [
        {"qid": qid, "call": 0, "response": f"<think>.</think><answer>{title}</answer>"}
        for qid, title in titles.items()
    ]
    answers.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    words = ["--index", index("cacm"), "--topics", topics, "--bm25", "--hits", 100, "--output-format", "castorini"]
    oracle = ["--rerank", "reasonrank", "--rerank.engine.name", "oracle", "--rerank.engine.qrels", judgments]
    recorded = ["--rewrite.engine.name", "recorded", "--rewrite.engine.path", answers]
    done = search(*words, "--output", run, *oracle, "--rewrite", "reasoning-query", *recorded)
    assert done.returncode == 0, done.stderr
    assert "rewrites  5 of 5 topics" in done.stdout
    found = {row["query"]["qid"]: row["query"]["text"] for row in map(json.loads, run.read_text().splitlines())}
    assert found == texts
    before = tmp_path / "before.txt"
    done = search(*words, "--output", before, *oracle)
    assert done.returncode == 0, done.stderr
    evaluate = ["evaluate", "--qrels", judgments, "--measures", "AP", "--format", "json"]
    report = json.loads(command(*evaluate, f"{before}.first-stage.txt", f"{run}.first-stage.txt").stdout)
    first, second = (row["scores"][0]["value"] for row in (report["first"], *report["runs"]))
    assert second > first + 0.05


@pytest.mark.soak_only
def test_the_embedded_model_rewrites(data: Path, index: Index, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the transformers engine is not installed")
    topics, run = tmp_path / "topics.tsv", tmp_path / "run.txt"
    topics.write_text("".join((data / "cacm" / "topics.tsv").read_text().splitlines(keepends=True)[:2]))
    words = ["--index", index("cacm"), "--topics", topics, "--bm25", "--hits", 20, "--output", run]
    rewriter = [
        "--rewrite",
        "keywords",
        "--rewrite.rounds",
        2,
        "--rewrite.depth",
        2,
        "--rewrite.sampling.max_tokens",
        12,
    ]
    words += [*rewriter, "--rewrite.max_bad", 1, "--rerank", "upr", "--rerank.depth", 3]
    done = search(*words)
    assert done.returncode == 0, done.stderr
    assert "4 judgements" in done.stdout
    before = Path(f"{run}.rewritten.tsv").read_bytes()
    again = search(*words)
    assert "from 0 LLM calls" in again.stdout
    assert Path(f"{run}.rewritten.tsv").read_bytes() == before


@pytest.mark.parametrize("name", ["cacm", "cranfield", "beir-scifact"])
@pytest.mark.soak_only
def test_embedded_model(name: str, data: Path, index: Index, command: Command, tmp_path: Path) -> None:
    """Two topics, some candidates each, with the model that a laptop can run, out of the box."""
    pytest.importorskip("torch", reason="the transformers engine is not installed")
    topics, run = tmp_path / "topics.tsv", tmp_path / "run.txt"
    lines = (data / name / "topics.tsv").read_text().splitlines(keepends=True)[:2]
    topics.write_text("".join(lines))
    done = search(
        "--index", index(name), "--topics", topics, "--bm25", "--hits", 100, "--output", run,
        "--rerank", "reasonrank", "--rerank.model", "smollm2-135m", "--rerank.depth", DEPTH,
        "--rerank.sampling.max_tokens", 16, "--rerank.max_bad", 1,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "2 of 2 reranked" in done.stdout
    valid = command("validate", run, "--topics", topics, "--first", f"{run}.first-stage.txt")
    assert valid.returncode == 0, valid.stdout
    ours, theirs = (_docids(path) for path in (run, Path(f"{run}.first-stage.txt")))
    assert {qid: docids[DEPTH:] for qid, docids in ours.items()} == {
        qid: docids[DEPTH:] for qid, docids in theirs.items()
    }


def _docids(run: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in run.read_text().splitlines():
        qid, _, docid, *_ = line.split()
        found.setdefault(qid, []).append(docid)
    return found
