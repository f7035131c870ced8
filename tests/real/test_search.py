"""The literal command on real collections: the host's own figures before, a valid run after."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
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


def good_rewrites(folder: Path, grades: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """For each topic, a query that a model could write: the titles of some relevant documents."""
    documents = {
        row["id"]: row["contents"] for row in map(json.loads, (folder / "corpus.jsonl").read_text().splitlines())
    }
    return {qid: ". ".join(documents[docid].splitlines()[0] for docid in docids[:5]) for qid, docids in grades.items()}


def test_good_rewrites_improve_the_search_and_the_reranker_reads_the_topics(
    data: Path, index: Index, command: Command, tmp_path: Path
) -> None:
    topics, answers, qrels = tmp_path / "topics.tsv", tmp_path / "answers.jsonl", tmp_path / "qrels.txt"
    run, folder, relevant = tmp_path / "run.jsonl", data / "cacm", dict[str, list[str]]()
    for line in (folder / "qrels.txt").read_text().splitlines():
        qid, _, docid, _ = line.split()
        if qid in QIDS:
            relevant.setdefault(qid, []).append(docid)
    texts = dict(line.split("\t", 1) for line in (folder / "topics.tsv").read_text().splitlines())
    topics.write_text("".join(f"{qid}\t{texts[qid]}\n" for qid in QIDS))
    qrels.write_text("".join(f"{qid} 0 {docid} 1\n" for qid in QIDS for docid in relevant[qid]))
    rows = [
        {"qid": qid, "call": 0, "response": f"<think>It is this.</think><answer>{rewrite}</answer>"}
        for qid, rewrite in good_rewrites(folder, relevant).items()
    ]
    answers.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    done = search(
        "--index", index("cacm"), "--topics", topics, "--bm25", "--hits", 100, "--output", run, "--output-format", "castorini",
        "--rewrite", "reasoning-query", "--rewrite.engine.name", "recorded", "--rewrite.engine.path", answers,
        "--rerank", "reasonrank", "--rerank.engine.name", "oracle", "--rerank.engine.qrels", qrels,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "rewrites  5 of 5 topics" in done.stdout
    read = {row["query"]["qid"]: row["query"]["text"] for row in map(json.loads, run.read_text().splitlines())}
    assert read == {qid: texts[qid] for qid in QIDS}
    before = tmp_path / "before.txt"
    lines = (folder / "run.bm25.anserini.top100.txt").read_text().splitlines(keepends=True)
    before.write_text("".join(line for line in lines if line.split()[0] in QIDS))
    evaluate = ["evaluate", "--qrels", qrels, "--measures", "AP", "--format", "json"]
    report = json.loads(command(*evaluate, before, f"{run}.first-stage.txt").stdout)
    without, rewritten = (row["scores"][0]["value"] for row in (report["first"], *report["runs"]))
    assert rewritten > without + 0.05


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
