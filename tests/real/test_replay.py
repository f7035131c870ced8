"""Recorded answers of published listwise rerankers, replayed: the stored runs come out again, document by document."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from pyserini_reasonrank.ir.evaluate import evaluate
from pyserini_reasonrank.ir.metadata import RunRecord
from pyserini_reasonrank.ir.runs import read_run
from pyserini_reasonrank.parsing.identifiers import identifiers
from pyserini_reasonrank.records import Request, Status
from pyserini_reasonrank.run.candidates import read_requests, stream
from pyserini_reasonrank.run.pipeline import Task, rerank
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.settings import layers

FIRST_STAGES = {
    "BM25": "bm25",
    "BM25_RM3": "bm25_rm3",
    "D_BERT_KD_TASB": "tasb",
    "OPEN_AI_ADA2": "ada2",
    "SPLADE_P_P_ENSEMBLE_DISTIL": "splade_pp_ed",
}
RANKVICUNA = "2023-09-13T16:36:10.051205"

Recording = dict[str, Any]


@cache
def manifest(data: Path) -> list[Recording]:
    found: list[Recording] = json.loads((data / "rankllm_raw_outputs" / "replay_manifest.json").read_text())
    return found


@cache
def answers(data: Path) -> dict[tuple[str, str, int, str], str]:
    """The answers of each recording, as the recorded engine reads them."""
    lines = defaultdict[tuple[str, str, int, str], list[str]](list)
    with gzip.open(data / "rankllm_raw_outputs" / "responses.dl19.jsonl.gz", "rt", encoding="utf-8") as rows:
        for row in map(json.loads, rows):
            key = row["first_stage"], row["model"], row["top_k"], row["timestamp"]
            lines[key].append(json.dumps({"qid": row["qid"], "call": row["window"], "response": row["response"]}))
    return {key: "\n".join(found) for key, found in lines.items()}


@cache
def requests(data: Path, first_stage: str) -> list[Request]:
    folder = data / "msmarco-v1-dl19"
    return list(read_requests(first_run(data, first_stage), folder / "topics.tsv", folder / "corpus.jsonl", 100))


def first_run(data: Path, first_stage: str) -> Path:
    return data / "msmarco-v1-dl19" / f"run.{FIRST_STAGES[first_stage]}.txt"


def replay(data: Path, recording: Recording, folder: Path) -> RunRecord:
    file = folder / "answers.jsonl"
    file.write_text(
        answers(data)[recording["first_stage"], recording["model"], recording["top_k"], recording["timestamp"]]
    )
    flags = {
        "engine": {"name": "recorded", "path": str(file)},
        "judge": {"identifiers": "digits"},
        "depth": recording["top_k"],
        "prompt": "listwise",  # no model reads it, and one turn is rendered faster than a dialogue
    }
    first_stage = recording["first_stage"]
    task = Task(
        stream(iter(requests(data, first_stage))),
        folder / "run.txt",
        first_run(data, first_stage),
        "topics.tsv",
        ["rerank"],
    )
    return asyncio.run(rerank(plan(*layers.load("rankgpt", flags)), task))


def stored(data: Path, recording: Recording) -> dict[str, list[str]]:
    """The stored run; read line by line, since its scores are not its order."""
    name = f"{recording['first_stage']}__{recording['reproduces_run'].replace(':', '')}.gz"
    run = defaultdict[str, list[str]](list)
    with gzip.open(data / "rankllm_raw_outputs" / "runs" / name, "rt", encoding="utf-8") as lines:
        for qid, _, docid, *_ in map(str.split, lines):
            run[qid].append(docid)
    return run


@pytest.mark.parametrize("number", range(33))
def test_every_recording_called_exact_gives_its_stored_run(data: Path, number: int, tmp_path: Path) -> None:
    recording = manifest(data)[number]
    if recording["queries_exact"] != recording["queries"]:
        pytest.skip(
            f"{recording['reproduces_run']} is no run of these answers: {recording['queries_exact']} queries agree"
        )
    outcome = replay(data, recording, tmp_path)
    ours = {qid: [hit.docid for hit in hits] for qid, hits in read_run(outcome.output).items()}
    theirs = stored(data, recording)
    assert len(theirs) == recording["queries"]
    assert {qid: ours[qid][: len(docids)] for qid, docids in theirs.items()} == theirs
    assert outcome.tally.judgements == recording["responses"]
    assert outcome.tally.statuses[Status.OK] >= recording["kinds"].get("ok", 0)
    assert outcome.tally.statuses[Status.REPAIRED] >= recording["kinds"].get("well_formed_but_missing_or_repeated", 0)


def test_the_manifest_is_whole(data: Path) -> None:
    assert len(manifest(data)) == 33
    assert sum(r["queries_exact"] == r["queries"] for r in manifest(data)) == 32


def test_well_formed_answers_read_the_same_by_brackets(data: Path) -> None:
    agree: Counter[tuple[str, bool]] = Counter()
    with gzip.open(data / "rankllm_raw_outputs" / "responses.dl19.jsonl.gz", "rt", encoding="utf-8") as rows:
        for row in map(json.loads, rows):
            same = identifiers(row["response"], "brackets") == identifiers(row["response"], "digits")
            agree[row["kind"], same] += 1
    assert agree["ok", True] == 5502
    assert agree["well_formed_but_missing_or_repeated", True] == 818
    # the others say "20 passages are provided", or "100% of the passages should be included" before a list
    assert {kind for (kind, same) in agree if not same} == {"not_well_formed"}


def test_rankvicuna_over_bm25(data: Path, tmp_path: Path) -> None:
    [recording] = [r for r in manifest(data) if r["timestamp"] == RANKVICUNA]
    outcome = replay(data, recording, tmp_path)
    report = evaluate(data / "msmarco-v1-dl19" / "qrels.txt", first_run(data, "BM25"), [outcome.output], ["nDCG@10"])
    assert report.first.scores[0].value == pytest.approx(0.5058, abs=5e-5)
    assert report.runs[0].scores[0].value == pytest.approx(0.6682, abs=5e-5)
