"""Killed at any moment, the same command goes on: nothing finished is asked again, and the run is the same bytes."""

from __future__ import annotations

import json
import os
import random
import re
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

KILLS = int(os.environ.get("REASONRANK_KILLS", "4"))
MODEL_KILLS = int(os.environ.get("REASONRANK_MODEL_KILLS", "1"))  # each costs a load of the model


def start(arguments: list[str], output: Path) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "pyserini_reasonrank", "rerank", *arguments, "--output", str(output)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def keys(output: Path) -> set[str]:
    """The calls on record; none before the journal has its tables."""
    journal = Path(f"{output}.journal.sqlite")
    if not journal.exists():
        return set()
    with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as connection:
        try:
            return {key for (key,) in connection.execute("SELECT key FROM calls")}
        except sqlite3.OperationalError:
            return set()


def finish(arguments: list[str], output: Path) -> tuple[int, int, bytes]:
    """Run to the end: calls asked, calls from the journal, the run's bytes."""
    process = start(arguments, output)
    said, complaint = process.communicate(timeout=600)
    assert process.returncode == 0, complaint
    asked, kept = map(int, re.search(r"from (\d+) LLM calls and (\d+) journal entries", said).groups())  # type: ignore[union-attr]
    return asked, kept, output.read_bytes()


def killed_and_resumed(arguments: list[str], folder: Path, kills: int) -> None:
    total, none, whole = finish(arguments, folder / "whole.txt")
    assert none == 0
    output, chance, before = folder / "killed.txt", random.Random(total), set[str]()
    for _ in range(kills):
        process, moment = start(arguments, output), chance.randint(len(before), max(len(before), total - 1))
        while process.poll() is None and len(keys(output)) < moment:
            time.sleep(0.001)
        process.kill()
        process.communicate()
        after = keys(output)
        assert before <= after
        before = after
        if output.exists():  # the last kill came too late: it had finished
            break
    assert output.exists() or before
    asked, kept, resumed = finish(arguments, output)
    assert (asked, kept) == (total - len(before), len(before))
    assert resumed == whole


def test_recorded(data: Path, tmp_path: Path) -> None:
    folder, answers = data / "msmarco-v1-dl19", tmp_path / "answers.jsonl"
    topics = [line.split("\t")[0] for line in (folder / "topics.tsv").read_text().splitlines()]
    order = " > ".join(f"[{i}]" for i in range(20, 0, -1))
    rows = [{"qid": qid, "call": call, "response": order} for qid in topics for call in range(9)]
    answers.write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ["--rerank", "rankgpt", "--rerank.engine.name", "recorded", "--rerank.engine.path", str(answers)]
    killed_and_resumed([*inputs(folder), *flags], tmp_path, KILLS)


@pytest.mark.soak_only  # three loads of the model
def test_transformers(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the transformers engine is not installed")
    folder = data / "msmarco-v1-dl19"
    topics, run = tmp_path / "topics.tsv", tmp_path / "run.txt"
    few = (folder / "topics.tsv").read_text().splitlines(keepends=True)[:2]
    topics.write_text("".join(few))
    qids = {line.split("\t")[0] for line in few}
    run.write_text("".join(line for line in (folder / "run.bm25.txt").open() if line.split()[0] in qids))
    flags = ["--rerank", "reasonrank", "--rerank.engine.name", "transformers", "--rerank.model", "smollm2-135m"]
    small = {
        "depth": 12,
        "strategy.window_size": 4,
        "strategy.stride": 2,
        "sampling.max_tokens": 12,
        "max_bad": 1,
        "judge.repair": "none",
    }
    small_flags = [word for key, value in small.items() for word in (f"--rerank.{key}", str(value))]
    corpus = str(folder / "corpus.jsonl")
    arguments = ["--run", str(run), "--topics", str(topics), "--corpus", corpus, *flags, *small_flags]
    killed_and_resumed(arguments, tmp_path, MODEL_KILLS)


def inputs(folder: Path) -> list[str]:
    files = {"--run": "run.bm25.txt", "--topics": "topics.tsv", "--corpus": "corpus.jsonl"}
    return [word for flag, name in files.items() for word in (flag, str(folder / name))]
