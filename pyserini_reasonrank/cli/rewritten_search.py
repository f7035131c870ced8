"""``--rewrite`` on Pyserini's command line: the topics are rewritten before the search, with or without a reranker."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from pyserini_reasonrank.cli.exit import SUCCESS
from pyserini_reasonrank.errors import UsageError, nearest
from pyserini_reasonrank.ir.metadata import sidecar, write_metadata
from pyserini_reasonrank.ir.rewrite_record import RewriteRecord, metadata_of
from pyserini_reasonrank.ir.runs import RunFormat
from pyserini_reasonrank.records import Query
from pyserini_reasonrank.run.fingerprint import fingerprint_of
from pyserini_reasonrank.run.named_inputs import host_queries
from pyserini_reasonrank.run.outputs import STDOUT, claimed_file, committing, paths_of
from pyserini_reasonrank.run.rewriting.pipeline import RewriteTask, rewrite
from pyserini_reasonrank.run.rewriting.plan import RewritePlan, planned
from pyserini_reasonrank.run.rewriting.searching import REWRITTEN, HostSearch
from pyserini_reasonrank.settings import flags, rewriters
from pyserini_reasonrank.settings.host_flags import HostFlags, check_searches_text
from pyserini_reasonrank.settings.schema import Tree


def planned_search(
    name: str, tree: Tree, argv: Sequence[str], found: HostFlags, host: str, *, strict: bool = False
) -> RewritePlan:
    """The plan of the rewriter ``name`` for a search with Pyserini's flags ``argv``.

    UsageError if the search does not read the text of its topics, or lacks a flag.
    """
    for flag, value in (("--topics", found.topics), ("--index", found.index)):
        if value is None:
            raise UsageError(f"{rewriters.PREFIX} needs {flag}; see python -m {host} --help")
    check_searches_text(argv)
    data = [str(found.topics), str(found.index)]
    return planned(name, tree, data, strict=strict)


def texts_flags(corpus: str | None, exclude: str | None) -> list[str]:
    """The flags of the search process that decide what passages contain."""
    given = {"--corpus": corpus, "--exclude": exclude}
    return [word for flag, value in given.items() if value for word in (flag, value)]


async def rewritten_topics(
    plan: RewritePlan, found: HostFlags, argv: Sequence[str], host: str, texts: Sequence[str], output: Path
) -> tuple[RewriteRecord, list[Query]]:
    """Write the rewritten topics of a search to ``output``. Returns their record, and the original queries."""
    queries = host_queries(str(found.topics), found.topics_format)
    search = HostSearch(host, argv, plan.settings.depth, texts)
    record = await rewrite(plan, RewriteTask(queries, output, search.passages, announced=True))
    return record, queries


def search_rewritten(
    name: str, tree: Tree, argv: Sequence[str], host: str, found: HostFlags, command: Sequence[str]
) -> int:
    """Rewrite the topics and search with them, without reranking. Returns the exit status."""
    plan = planned_search(name, tree, argv, found, host)
    if found.output is None or found.output == STDOUT:
        raise UsageError(f"--output is required: the run file to write; see python -m {host} --help")
    formats = [known.value for known in RunFormat if known.has_columns]
    if found.output_format not in formats:
        raise UsageError(
            f"--output-format {found.output_format} is not supported{nearest(found.output_format, formats)}"
        )
    run = Path(found.output)
    fingerprint = fingerprint_of(None, (), RunFormat(found.output_format), plan.settings)
    inputs = [*host_inputs(argv, found.output), *config_inputs(tree, rewriters.PREFIX)]
    inputs += paths_of(plan.settings, rewriters.PREFIX)
    overwrite, also = plan.settings.overwrite, [REWRITTEN]
    with claimed_file(run, inputs, fingerprint, also=also, overwrite=overwrite, prefix=rewriters.PREFIX):
        record = asyncio.run(_search(plan, found, argv, host, run, fingerprint))
        write_metadata(sidecar(run), metadata_of(record, command, str(found.topics), fingerprint, run))
    lines = [f"warning: {warning}" for warning in record.warnings]
    lines += [*record.counts(), f"run       {run}", *record.files(), f"metadata  {sidecar(run)}"]
    print("\n".join(lines))
    return SUCCESS


async def _search(
    plan: RewritePlan, found: HostFlags, argv: Sequence[str], host: str, run: Path, fingerprint: str
) -> RewriteRecord:
    topics = Path(f"{run}{REWRITTEN}")
    texts = texts_flags(plan.settings.corpus, None)
    record, _ = await rewritten_topics(plan, found, argv, host, texts, topics)
    committing(run, fingerprint)
    await HostSearch(host, argv, plan.settings.depth).write(topics, run)
    return record


def host_inputs(words: Sequence[str], output: str) -> list[tuple[str, str]]:
    """The words of Pyserini's command line that may name an input, each with its flag."""
    inputs, flag = list[tuple[str, str]](), ""
    for word in words:
        name, equals, value = word.partition("=")
        flag = name if word.startswith("-") else flag
        value = value if word.startswith("-") else word
        if (equals or not word.startswith("-")) and not (flag.startswith("--out") and value == output):
            inputs.append((flag, value))
    return inputs


def config_inputs(tree: Tree, prefix: str) -> list[tuple[str, str]]:
    """The file of settings that the flags ``tree`` name, with its flag."""
    config = tree.get(flags.CONFIG)
    return [(f"{prefix}.{flags.CONFIG}", str(config))] if config is not None else []
