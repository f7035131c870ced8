"""``rerank``: rerank a run that is already there."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from pyserini_reasonrank.cli.arguments import Parser, add_duplicates, command_parser, exclusive
from pyserini_reasonrank.cli.exit import SUCCESS
from pyserini_reasonrank.cli.rerank_help import add_rerank_flags, printed_help
from pyserini_reasonrank.cli.summary import show
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.interrupts import temporary_folder
from pyserini_reasonrank.ir.metadata import RunRecord
from pyserini_reasonrank.ir.runs import KEEP_FIRST_CHOICE, RunFormat
from pyserini_reasonrank.records import Query, Request
from pyserini_reasonrank.run.candidates import child, follow, from_file, read_requests, stream, with_first_read
from pyserini_reasonrank.run.cost import most_candidates
from pyserini_reasonrank.run.named_inputs import local_file, read_selection
from pyserini_reasonrank.run.outputs import Claim, claimed
from pyserini_reasonrank.run.parts import Plan
from pyserini_reasonrank.run.pipeline import Task, rerank
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.settings import flags, layers, rerankers, rewriters
from pyserini_reasonrank.settings.schema import Settings, Tree

TEXTS = "pyserini_reasonrank.host.candidates_writer"
"""The module that reads topics and texts with Pyserini, in a process of its own."""

_USAGE = """--output RUN --rerank NAME [--rerank.KEY VALUE ...]
           (--run RUN --topics TOPICS (--index INDEX | --corpus FILE) | --candidates FILE)"""
_FILES = "--run bm25.txt --topics topics.tsv --corpus corpus.jsonl --output run.txt \\\n      "


def main(argv: list[str]) -> int:
    """Rerank a run. Returns the exit status."""
    name, tree, rest = flags.lift(argv)
    if rewriters.lift(rest)[0] is not None:
        raise UsageError(
            "rerank reads a run that was already searched, so --rewrite comes too late: use python -m pyserini.search ... "
            "--rewrite NAME --rerank NAME"
        )
    parser = _parser()
    if printed_help(parser, name, tree, rest):
        return SUCCESS
    options = parser.parse_args(rest)
    _check_sources(options, tree)
    if options.exclude is not None and tree.setdefault("exclude", options.exclude) != options.exclude:
        raise UsageError("--exclude and --rerank.exclude can't both be given")
    data = [str(path) for path in (options.topics, options.index, options.corpus, options.candidates) if path]
    settings, warnings = layers.load(name, tree, data)
    first = options.run or options.candidates
    most = most_candidates(first, settings.depth) if first else None
    made = plan(settings, warnings, candidates=most)
    command = ["python", "-m", "pyserini_reasonrank", "rerank", *argv]
    output_format = RunFormat(options.output_format)
    with claimed(made, options.output, _inputs(options, name, tree), output_format) as claim:
        record = asyncio.run(_rerank(made, options, claim, command))
    show(record, options.output)
    return SUCCESS


def _check_sources(options: argparse.Namespace, tree: Tree) -> None:
    """UsageError for an input that would not be read, and yet be recorded: each kind of input has one source."""
    exclusive(options, "--candidates", "--run", "--topics", "--index", "--corpus")
    exclusive(options, "--index", "--corpus")
    if tree.get("corpus") is not None:
        for flag in ("candidates", "index", "corpus"):
            if getattr(options, flag) is not None:
                raise UsageError(f"--{flag} and {flags.PREFIX}.corpus can't both be given")


def _inputs(options: argparse.Namespace, name: str | None, tree: Tree) -> list[tuple[str, str]]:
    """The flags of the command that name an input, with their values."""
    names = ("run", "topics", "index", "corpus", "candidates", "qids", "shard")
    given = {f"--{name}": getattr(options, name) for name in names}
    given[f"{flags.PREFIX}.{flags.CONFIG}"] = tree.get(flags.CONFIG)
    given[flags.PREFIX] = name if name and rerankers.is_file(name) else None
    return [(flag, str(value)) for flag, value in given.items() if value is not None]


def _parser() -> Parser:
    parser = command_parser(
        "rerank",
        f"{_FILES} --rerank upr",
        f"{_FILES} --rerank rank1 --rerank.model rank1-7b --rerank.depth 50",
        "--candidates candidates.jsonl --output run.txt --rerank reasonrank",
        usage=_USAGE,
    )
    inputs = parser.add_argument_group("input")
    inputs.add_argument("--run", type=Path, metavar="path", help="first-stage run, in TREC or MS MARCO format")
    inputs.add_argument(
        "--topics", metavar="path",
        help="topics: TSV or JSON lines, or a name that Pyserini or ir_datasets (irds:NAME) knows; "
        "with --index any topics that Pyserini reads",
    )  # fmt: skip
    inputs.add_argument("--index", metavar="path", help="Lucene index that stores the texts")
    inputs.add_argument("--corpus", type=Path, metavar="path", help="JSON lines file with the texts")
    inputs.add_argument(
        "--candidates", type=Path, metavar="path", help="JSON lines of qid, query and candidates, in place of all these"
    )
    add_duplicates(inputs)
    inputs.add_argument("--qids", metavar="qids", help="rerank these queries only: a,b or a file of qids or topics")
    inputs.add_argument("--shard", metavar="K/N", help="rerank every N-th query, from the K-th; see merge")
    inputs.add_argument(
        "--exclude",
        metavar="path",
        help="documents to remove from the candidates before the depth, as --rerank.exclude",
    )
    add_rerank_flags(parser)
    outputs = parser.add_argument_group("output")
    outputs.add_argument("--output", required=True, metavar="path", help="run file to write; - is stdout")
    outputs.add_argument(
        "--output-format", default="trec", choices=[f.value for f in RunFormat], help="its format [trec]"
    )
    return parser


async def _rerank(plan: Plan, options: argparse.Namespace, claim: Claim, command: Sequence[str]) -> RunRecord:
    async with AsyncExitStack() as stack:
        queries, requests = await requests_of(options, plan.settings, stack)
        first = options.run or options.candidates
        part = {name: getattr(options, name) for name in ("qids", "shard") if getattr(options, name) is not None}
        task = Task(requests, claim.path, first, str(options.topics or first), command,
                    claim.output_format, queries, claim.fingerprint, part, announced=True)  # fmt: skip
        return await rerank(plan, task)


async def requests_of(
    options: argparse.Namespace, settings: Settings, stack: AsyncExitStack
) -> tuple[Sequence[Query], AsyncIterator[Request]]:
    """The queries, if they are known at once, and the requests of the input flags ``options``.

    Temporary files and processes are in ``stack``. UsageError if a flag is missing, and for a fault of the input.
    """
    depth, corpus = settings.depth, options.corpus or settings.corpus
    keep_first = options.duplicates == KEEP_FIRST_CHOICE
    if not options.candidates and (not options.run or not options.topics or not (options.index or corpus)):
        raise UsageError("rerank needs --run, --topics and the texts (--index or --corpus), or else --candidates")
    if options.candidates or corpus:
        selection = read_selection(options.qids, options.shard, settings.topics, settings.exclude)
    if options.candidates:
        requests = from_file(options.candidates, depth, keep_first=keep_first, selection=selection)
        return (), await with_first_read(requests)
    if corpus:
        topics = stack.enter_context(local_file("topics", options.topics))
        found = read_requests(options.run, topics, Path(corpus), depth, keep_first=keep_first, selection=selection)
        known = list(found)
        return [request.query for request in known], stream(known)
    folder = stack.enter_context(temporary_folder())
    candidates = Path(folder, "candidates.jsonl")
    words = [*_writer_flags(settings, options), "--candidates", str(candidates)]
    texts = await stack.enter_async_context(child(TEXTS, *words, folder=folder))
    return (), follow(candidates, texts, depth)


def _writer_flags(settings: Settings, options: argparse.Namespace) -> list[str]:
    """The flags of the process that writes candidates with the texts of an index."""
    flags = {
        "--run": options.run, "--topics": options.topics, "--texts": options.index, "--depth": settings.depth,
        "--duplicates": options.duplicates, "--qids": options.qids, "--shard": options.shard,
        "--rerank-topics": settings.topics, "--exclude": settings.exclude,
    }  # fmt: skip
    return [word for flag, value in flags.items() if value is not None for word in (flag, str(value))]
