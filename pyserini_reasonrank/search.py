"""``--rerank`` on the host's command line: the untouched host searches, a reasoning LLM reranks what it finds.

    python -m pyserini.search.lucene --index I --topics T --bm25 --output RUN --rerank reasonrank
    python -m pyserini_reasonrank.search  (the same flags, without the start-up file)

Two processes: the host's, with its JVM and its GPU memory, writes the first-stage run and the candidates; this one
loads the engine meanwhile and never holds a JVM.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path

from pyserini_reasonrank import _startup
from pyserini_reasonrank.cli.arguments import Parser
from pyserini_reasonrank.cli.help import flags_help
from pyserini_reasonrank.cli.summary import guarded, summary
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.metadata import RunRecord
from pyserini_reasonrank.ir.runs import RunFormat
from pyserini_reasonrank.records import Request
from pyserini_reasonrank.run.candidates import child, follow
from pyserini_reasonrank.run.parts import Plan
from pyserini_reasonrank.run.pipeline import Task, rerank
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.settings import layers

HOST_DEFAULT = "pyserini.search.lucene"
FIRST_STAGE = "pyserini_reasonrank.host.first_stage"


def main(argv: Sequence[str], host: str) -> int:
    """Search with ``host`` and rerank. Returns the exit status: 0; 1 a failure; 2 unusable input; else the host's."""
    return guarded(lambda: _main(list(argv), host))


def _main(argv: list[str], host: str) -> int:
    name, flags, rest = layers.lift(argv)
    if {"-h", "--help"} & set(rest):
        print(flags_help(f"python -m {host}"), flush=True)
        paths = ["--run", "-", "--candidates", "-"]
        return subprocess.call([sys.executable, "-m", FIRST_STAGE, "--module", host, *paths, "--", "--help"])
    if name is None:
        raise UsageError(f"--rerank needs the name of a reranker: {', '.join(layers.rerankers())}")
    ours, theirs = _output_flags(host).parse_known_args(rest)
    command = ["python", "-m", host, *argv]
    print(
        summary(
            asyncio.run(_search_and_rerank(plan(*layers.load(name, flags, _data(theirs))), ours, theirs, host, command))
        )
    )
    return 0


async def _search_and_rerank(
    plan: Plan, ours: argparse.Namespace, theirs: Sequence[str], host: str, command: Sequence[str]
) -> RunRecord:
    output, depth = Path(ours.output), plan.settings.depth
    first_run = Path(f"{output}.first-stage.txt")
    with tempfile.TemporaryDirectory(prefix="pyserini_reasonrank-") as folder:
        found, candidates = Path(folder, "first-stage.txt"), Path(folder, "candidates.jsonl")
        wanted = ["--module", host, "--run", str(found), "--candidates", str(candidates), "--depth", str(depth)]
        texts = ["--corpus", plan.settings.corpus] if plan.settings.corpus else []

        async def requests() -> AsyncGenerator[Request]:
            async with child(FIRST_STAGE, *wanted, *texts, "--", *theirs) as search:
                async for request in follow(candidates, search, depth):
                    yield request
            shutil.copyfile(found, first_run)

        async with aclosing(requests()) as stream:
            topics, output_format = _data(theirs)[0], RunFormat(ours.output_format)
            return await rerank(plan, Task(stream, output, first_run, topics, command, output_format))


def _output_flags(host: str) -> argparse.ArgumentParser:
    """The flags of the host that are ours to honour, since the run is ours to write."""
    parser = Parser(prog=f"python -m {host}", allow_abbrev=False, add_help=False)
    parser.add_argument("--output", required=True, metavar="path", help="run file to write")
    parser.add_argument("--output-format", default="trec", choices=[f.value for f in RunFormat])
    return parser


def _data(flags: Sequence[str]) -> list[str]:
    """Topics and index, as the host's flags name them; "" where they don't."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--topics", default="")
    parser.add_argument("--index", default="")
    found = parser.parse_known_args(flags)[0]
    return [found.topics, found.index]


if __name__ == "__main__":
    _startup.uninstall()
    called = __spec__.name.removesuffix(".__main__") if __spec__ else ""
    sys.exit(main(sys.argv[1:], called if called in _startup.HOSTS else HOST_DEFAULT))
