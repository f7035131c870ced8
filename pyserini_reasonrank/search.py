"""``--rerank`` on Pyserini's command line: Pyserini searches, unchanged, and a reasoning LLM reranks the run.

    python -m pyserini.search.lucene --index I --topics T --bm25 --output RUN --rerank reasonrank
    python -m pyserini_reasonrank.search  (the same flags, without the start-up file)

There are two processes. Pyserini's, with its JVM and its GPU memory, writes the first-stage run and the candidates.
This one loads the engine meanwhile and never starts a JVM.
"""

from __future__ import annotations

import sys

from pyserini_reasonrank import interrupts

if __name__ == "__main__":
    interrupts.install()

import asyncio
import shutil
import subprocess
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path

from pyserini_reasonrank import _startup
from pyserini_reasonrank.cli.exit import SUCCESS, guarded
from pyserini_reasonrank.cli.rerank_help import HELP_ALL, search_help
from pyserini_reasonrank.cli.summary import show
from pyserini_reasonrank.errors import UsageError, nearest
from pyserini_reasonrank.ir.metadata import RunRecord
from pyserini_reasonrank.ir.runs import FIRST_RUN, RunFormat
from pyserini_reasonrank.records import Request
from pyserini_reasonrank.run.candidates import child, follow
from pyserini_reasonrank.run.cost import USUAL_DEPTH
from pyserini_reasonrank.run.outputs import Claim, claimed, temporary_prefix
from pyserini_reasonrank.run.parts import Plan
from pyserini_reasonrank.run.pipeline import Task, rerank
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.settings import flags, layers, rerankers
from pyserini_reasonrank.settings.host_flags import HostFlags, read_host_flags
from pyserini_reasonrank.settings.schema import Tree

HOST_DEFAULT = "pyserini.search.lucene"
FIRST_STAGE = "pyserini_reasonrank.host.first_stage"


def main(argv: Sequence[str], host: str) -> int:
    """Search with Pyserini's module ``host`` and rerank.

    Returns the exit status: 0 success, 1 a failure, 2 unusable input, or Pyserini's own if its search fails.
    """
    return guarded(lambda: _main(list(argv), host))


def _main(argv: list[str], host: str) -> int:
    name, tree, rest = flags.lift(argv)
    everything = HELP_ALL in rest
    found = read_host_flags([word for word in rest if word != HELP_ALL])
    if found.help or everything:
        print(search_help(f"python -m {host}", name, tree, everything=everything), flush=True)
        paths = ["--run", "-", "--candidates", "-"]
        return subprocess.call([sys.executable, "-m", FIRST_STAGE, "--module", host, *paths, "--", "--help"])
    if name is None:
        raise rerankers.without_name()
    data = [name for name in (found.topics, found.index) if name]
    output, output_format = _output(found, host)
    settings, warnings = layers.load(name, tree, data)
    made = plan(settings, warnings, candidates=found.hits if settings.depth > USUAL_DEPTH else None)
    command = ["python", "-m", host, *argv]
    inputs = [*_inputs(rest, output, tree), *([(flags.PREFIX, name)] if rerankers.is_file(name) else [])]
    with claimed(made, output, inputs, output_format, also=[FIRST_RUN]) as claim:
        record = asyncio.run(_search_and_rerank(made, claim, found.topics or "", rest, host, command))
    show(record, output)
    return SUCCESS


def _inputs(words: Sequence[str], output: str, tree: Tree) -> list[tuple[str, str]]:
    """The words of Pyserini's command line that may name an input, each with its flag, and our settings file."""
    inputs, flag = list[tuple[str, str]](), ""
    for word in words:
        name, equals, value = word.partition("=")
        flag = name if word.startswith("-") else flag
        value = value if word.startswith("-") else word
        if (equals or not word.startswith("-")) and not (flag.startswith("--out") and value == output):
            inputs.append((flag, value))
    config = tree.get(flags.CONFIG)
    return [*inputs, *([(f"{flags.PREFIX}.{flags.CONFIG}", str(config))] if config is not None else [])]


def _output(found: HostFlags, host: str) -> tuple[str, RunFormat]:
    """The run to write and its format: Pyserini's flags, which apply to the reranked run."""
    formats = [known.value for known in RunFormat]
    if found.output is None:
        raise UsageError(f"--output is required: the run file to write; see python -m {host} --help")
    if found.output_format not in formats:
        raise UsageError(
            f"--output-format {found.output_format} is not supported{nearest(found.output_format, formats)}"
        )
    return found.output, RunFormat(found.output_format)


async def _search_and_rerank(
    plan: Plan, claim: Claim, topics: str, host_argv: Sequence[str], host: str, command: Sequence[str]
) -> RunRecord:
    depth, first_run = plan.settings.depth, Path(f"{claim.path}{FIRST_RUN}")
    with interrupts.temporary_folder(temporary_prefix()) as folder:
        found, candidates = Path(folder, "first-stage.txt"), Path(folder, "candidates.jsonl")
        wanted = ["--module", host, "--run", str(found), "--candidates", str(candidates), "--depth", str(depth)]
        texts = ["--corpus", plan.settings.corpus] if plan.settings.corpus else []
        given = {"--docid-blanks": plan.settings.docid_blanks, "--rerank-topics": plan.settings.topics,
                 "--exclude": plan.settings.exclude}  # fmt: skip
        wanted += [word for flag, value in given.items() if value for word in (flag, value)]

        async def requests() -> AsyncGenerator[Request]:
            async with child(FIRST_STAGE, *wanted, *texts, "--", *host_argv, folder=folder) as search:
                async for request in follow(candidates, search, depth):
                    yield request
            shutil.copyfile(found, first_run)

        async with aclosing(requests()) as stream:
            task = Task(
                stream,
                claim.path,
                first_run,
                topics,
                command,
                claim.output_format,
                fingerprint=claim.fingerprint,
                announced=True,
            )
            return await rerank(plan, task)


if __name__ == "__main__":
    _startup.uninstall()
    called = __spec__.name.removesuffix(".__main__") if __spec__ else ""
    sys.exit(main(sys.argv[1:], called if called in _startup.HOSTS else HOST_DEFAULT))
