"""``demo``: an end-to-end run on real text: corpus, index, search, reranking, evaluation, report.

It prints and runs the commands that a user would type: ``python -m pyserini.search ... --rerank`` and the commands of
this package.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from pyserini_reasonrank.cli.arguments import command_parser, positive
from pyserini_reasonrank.cli.exit import SUCCESS
from pyserini_reasonrank.demo.collection import write_corpus
from pyserini_reasonrank.errors import Failure
from pyserini_reasonrank.ir.runs import FIRST_RUN
from pyserini_reasonrank.resources import conf
from pyserini_reasonrank.settings import flags, layers

DEPTH = 20
OURS = ["python", "-m", "pyserini_reasonrank"]


def main(argv: list[str]) -> int:
    """Run the demo. Returns the exit status."""
    parser = command_parser(
        "demo",
        "",
        "--queries 20 --rerank setwise --rerank.model smollm2-135m",
        usage="[--folder path] [--queries num] [--rerank NAME] [--rerank.KEY VALUE ...]",
    )
    parser.add_argument("--folder", type=Path, default=Path("demo"), metavar="path", help="folder to work in [demo]")
    parser.add_argument("--queries", type=positive(int), default=10, metavar="num", help="topics to search [10]")
    ours, rest = flags.split(argv)
    options = parser.parse_args(rest)
    demo(options.folder, options.queries, [f"{flag}={value}" for flag, value in ours])
    return SUCCESS


def demo(folder: Path, topics: int, rerank: Sequence[str]) -> None:
    """Search the first ``topics`` test topics with BM25 and rerank the top 20 of each, in ``folder``.

    ``rerank`` has additional ``--rerank`` flags; UsageError, before anything is written, if they can't be used here. An
    index that already exists is reused.
    """
    given = {word.partition("=")[0] for word in rerank}
    usual = {"--rerank": "upr", "--rerank.depth": str(DEPTH)}
    reranking = [*(f"{flag}={value}" for flag, value in usual.items() if flag not in given), *rerank]
    layers.load(*flags.lift(reranking)[:2])
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
    _show(["python", "-m", "pyserini.search", *search, "--output", str(run), *reranking], None)
    first = f"{run}{FIRST_RUN}"
    _show([*OURS, "validate", str(run), "--topics", str(folder / "topics.tsv"), "--first", first], None)
    qrels = str(folder / "qrels.txt")
    _show([*OURS, "evaluate", "--qrels", qrels, first, str(run)], None)
    texts = ["--corpus", str(corpus)] if corpus.exists() else ["--index", str(index)]
    page = str(folder / "report.html")
    _show([*OURS, "report", str(run), "--qrels", qrels, *texts, "--output", page], None)
    print(f"\nOpen {page} in a browser: it shows both orders of every query, and every call.")


def _write_subset(folder: Path, topics: int) -> None:
    """Write the first ``topics`` test topics and their judgments as a smaller test collection."""
    lines = conf("demo", "topics.tsv").read_text(encoding="utf-8").splitlines()[:topics]
    qids = {line.split("\t")[0] for line in lines}
    judgments = conf("demo", "qrels.txt").read_text(encoding="utf-8").splitlines()
    (folder / "topics.tsv").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    kept = [line for line in judgments if line.split()[0] in qids]
    (folder / "qrels.txt").write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def _show(command: Sequence[str], log: Path | None) -> None:
    """Print a command and run it, with its output in ``log`` if given. Failure if its exit status is not 0."""
    print(f"\n$ {shlex.join(command)}", flush=True)
    argv = [sys.executable, *command[1:]]
    if log is None:
        status = subprocess.call(argv)
    else:
        with log.open("wb") as file:
            status = subprocess.call(argv, stdout=file, stderr=subprocess.STDOUT)
    if status:
        raise Failure(f"the command above failed (exit status {status}){f'; see {log}' if log else ''}")
