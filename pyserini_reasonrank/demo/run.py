"""The main job on real text, end to end: collection, index, search, rerank, evaluation. Every command is shown.

It uses what any user has: the literal ``python -m pyserini.search ... --rerank`` and the commands of the package.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from pyserini_reasonrank.demo.collection import write_corpus
from pyserini_reasonrank.errors import Failure
from pyserini_reasonrank.resources import conf

DEPTH = 20
OURS = ["python", "-m", "pyserini_reasonrank"]


def demo(folder: Path, topics: int, rerank: Sequence[str]) -> None:
    """Run the demonstration in ``folder``: the first ``topics`` test topics, BM25, their top 20 reranked.

    ``rerank`` are further ``--rerank`` flags. What is already there and complete is used again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    corpus, index, run = folder / "corpus.jsonl", folder / "index", folder / "run.txt"
    if not index.exists():
        count = write_corpus(corpus)
        print(f"{corpus}: {count:,} documentation strings of this Python's standard library")
        try:
            _show([*OURS, "index", "--corpus", str(corpus), "--index", str(index)], folder / "index.log")
        except Failure:
            shutil.rmtree(index, ignore_errors=True)
            raise
    _write_subset(folder, topics)
    search = ["--index", str(index), "--topics", str(folder / "topics.tsv"), "--bm25", "--hits", "100"]
    _show(
        ["python", "-m", "pyserini.search", *search, "--output", str(run), "--rerank", "upr",
         "--rerank.depth", str(DEPTH), *rerank],
        None,
    )  # fmt: skip
    first = f"{run}.first-stage.txt"
    _show([*OURS, "validate", str(run), "--topics", str(folder / "topics.tsv"), "--first", first], None)
    _show([*OURS, "evaluate", "--qrels", str(folder / "qrels.txt"), first, str(run)], None)


def _write_subset(folder: Path, topics: int) -> None:
    """The first test topics, and the judgments of these alone: a smaller test collection, not a trimmed evaluation."""
    lines = conf("demo", "topics.tsv").read_text(encoding="utf-8").splitlines()[:topics]
    qids = {line.split("\t")[0] for line in lines}
    judgments = conf("demo", "qrels.txt").read_text(encoding="utf-8").splitlines()
    (folder / "topics.tsv").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    kept = [line for line in judgments if line.split()[0] in qids]
    (folder / "qrels.txt").write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def _show(command: Sequence[str], log: Path | None) -> None:
    """Print a command and run it, its output to ``log`` if given. Failure if it ends with an error."""
    print(f"\n$ {shlex.join(command)}", flush=True)
    argv = [sys.executable, *command[1:]]
    if log is None:
        status = subprocess.call(argv)
    else:
        with log.open("wb") as file:
            status = subprocess.call(argv, stdout=file, stderr=subprocess.STDOUT)
    if status:
        raise Failure(f"the command ended with status {status}{f'; see {log}' if log else ''}")
