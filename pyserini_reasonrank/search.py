"""``--rerank`` on Pyserini's command line: Pyserini searches, unchanged, and a reasoning LLM reranks the run.

    python -m pyserini.search.lucene --index I --topics T --bm25 --output RUN --rerank reasonrank
    python -m pyserini_reasonrank.search  (the same flags, without the start-up file)

There are two processes. Pyserini's, with its JVM and its GPU memory, writes the first-stage run and the candidates.
This one loads the engine meanwhile and never starts a JVM. With ``--rewrite NAME``, an LLM rewrites the topics before the
search; the reranker sees the original ones.
"""

from __future__ import annotations

import sys

from pyserini_reasonrank import interrupts

if __name__ == "__main__":
    interrupts.install()

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path

from pyserini_reasonrank import _startup
from pyserini_reasonrank.cli.exit import SUCCESS, guarded
from pyserini_reasonrank.cli.rerank_help import HELP_ALL, search_help
from pyserini_reasonrank.cli.rewritten_search import (
    config_inputs,
    host_inputs,
    planned_search,
    rewritten_topics,
    search_rewritten,
    texts_flags,
)
from pyserini_reasonrank.cli.summary import show
from pyserini_reasonrank.errors import UsageError, nearest
from pyserini_reasonrank.ir.metadata import RunRecord
from pyserini_reasonrank.ir.rewrite_record import RewriteRecord
from pyserini_reasonrank.ir.runs import FIRST_RUN, RunFormat
from pyserini_reasonrank.records import Request
from pyserini_reasonrank.run.candidates import child, follow
from pyserini_reasonrank.run.cost import USUAL_DEPTH
from pyserini_reasonrank.run.outputs import Claim, claimed
from pyserini_reasonrank.run.parts import Plan
from pyserini_reasonrank.run.pipeline import Task, rerank
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.run.rewriting.plan import RewritePlan
from pyserini_reasonrank.run.rewriting.searching import FIRST_STAGE, REWRITTEN, with_topics
from pyserini_reasonrank.settings import flags, layers, rerankers, rewriters
from pyserini_reasonrank.settings.host_flags import HostFlags, read_host_flags

HOST_DEFAULT = "pyserini.search.lucene"


def main(argv: Sequence[str], host: str) -> int:
    """Search with Pyserini's module ``host`` and rerank.

    Returns the exit status: 0 success, 1 a failure, 2 unusable input, or Pyserini's own if its search fails.
    """
    return guarded(lambda: _main(list(argv), host))


def _main(argv: list[str], host: str) -> int:
    name, tree, rest = flags.lift(argv)
    rewriter, rewriter_tree, rest = rewriters.lift(rest)
    everything = HELP_ALL in rest
    found = read_host_flags([word for word in rest if word != HELP_ALL])
    if found.help or everything:
        print(search_help(f"python -m {host}", name, tree, everything=everything, rewriter=rewriter), flush=True)
        paths = ["--run", "-", "--candidates", "-"]
        return subprocess.call([sys.executable, "-m", FIRST_STAGE, "--module", host, *paths, "--", "--help"])
    of_faiss = flags.PREFIX in rest and host.endswith("faiss")  # its own switch
    if name is None and (rewriter is None or tree or (flags.PREFIX in rest and not of_faiss)):
        raise rerankers.without_name()
    data = [name for name in (found.topics, found.index) if name]
    command = ["python", "-m", host, *argv]
    if name is None:
        return search_rewritten(str(rewriter), rewriter_tree, rest, host, found, command)
    output, output_format = _output(found, host)
    settings, warnings = layers.load(name, tree, data)
    made = plan(settings, warnings, candidates=found.hits if settings.depth > USUAL_DEPTH else None)
    rewriting = None
    if rewriter is not None:
        rewriting = planned_search(rewriter, rewriter_tree, rest, found, host, strict=settings.strict)
    inputs = [*host_inputs(rest, output), *([(flags.PREFIX, name)] if rerankers.is_file(name) else [])]
    inputs += config_inputs(tree, flags.PREFIX) + config_inputs(rewriter_tree, rewriters.PREFIX)
    also = [FIRST_RUN, *([REWRITTEN] if rewriting else [])]
    of_rewriting = rewriting.settings if rewriting else None
    with claimed(made, output, inputs, output_format, also=also, rewriting=of_rewriting) as claim:
        search = _Search(made, claim, found, rest, host, command)
        record = asyncio.run(search.rewrite_and_rerank(rewriting) if rewriting else search.rerank())
    show(record, output)
    return SUCCESS


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


@dataclass(frozen=True, slots=True)
class _Search:
    """A search whose run is reranked."""

    plan: Plan
    claim: Claim
    found: HostFlags
    argv: Sequence[str]
    host: str
    command: Sequence[str]

    async def rewrite_and_rerank(self, rewriting: RewritePlan) -> RunRecord:
        """Rewrite the topics, search with them, and rerank for the original ones."""
        topics, settings = Path(f"{self.claim.path}{REWRITTEN}"), self.plan.settings
        texts = texts_flags(rewriting.settings.corpus or settings.corpus, settings.exclude)
        record, queries = await rewritten_topics(rewriting, self.found, self.argv, self.host, texts, topics)
        with interrupts.temporary_folder() as folder:
            originals = Path(folder, "originals.jsonl")
            rows = [json.dumps({"qid": query.qid, "query": query.text}, ensure_ascii=False) for query in queries]
            originals.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
            search = replace(self, argv=with_topics(self.argv, topics))
            return await search.rerank(settings.topics or str(originals), record)

    async def rerank(self, topics: str | None = None, rewriting: RewriteRecord | None = None) -> RunRecord:
        """Search and rerank. ``topics`` are those that the LLM reads, in place of those that are searched."""
        settings, first_run = self.plan.settings, Path(f"{self.claim.path}{FIRST_RUN}")
        with interrupts.temporary_folder() as folder:
            found, candidates, depth = Path(folder, "first-stage.txt"), Path(folder, "candidates.jsonl"), settings.depth
            wanted = [
                "--module",
                self.host,
                "--run",
                str(found),
                "--candidates",
                str(candidates),
                "--depth",
                str(depth),
            ]
            given = {"--docid-blanks": settings.docid_blanks, "--rerank-topics": topics or settings.topics}
            wanted += [word for flag, value in given.items() if value for word in (flag, value)]
            wanted += texts_flags(settings.corpus, settings.exclude)

            async def requests() -> AsyncGenerator[Request]:
                async with child(FIRST_STAGE, *wanted, "--", *self.argv, folder=folder) as search:
                    async for request in follow(candidates, search, depth):
                        yield request
                shutil.copyfile(found, first_run)

            async with aclosing(requests()) as stream:
                task = Task(
                    stream,
                    self.claim.path,
                    first_run,
                    self.found.topics or "",
                    self.command,
                    self.claim.output_format,
                    fingerprint=self.claim.fingerprint,
                    rewriting=rewriting,
                    announced=True,
                )
                return await rerank(self.plan, task)


if __name__ == "__main__":
    _startup.uninstall()
    called = __spec__.name.removesuffix(".__main__") if __spec__ else ""
    sys.exit(main(sys.argv[1:], called if called in _startup.HOSTS else HOST_DEFAULT))
