"""``rewrite``: rewrite topics without a search, and write them to a topics file."""

from __future__ import annotations

import asyncio
from pathlib import Path

from pyserini_reasonrank.cli.arguments import Parser, command_parser
from pyserini_reasonrank.cli.exit import SUCCESS
from pyserini_reasonrank.cli.rerank_help import asks_for_help, rewrite_help
from pyserini_reasonrank.cli.rewritten_search import config_inputs
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.metadata import sidecar, write_metadata
from pyserini_reasonrank.ir.rewrite_record import metadata_of
from pyserini_reasonrank.ir.runs import RunFormat
from pyserini_reasonrank.ir.topics import has_json_lines, read_topics
from pyserini_reasonrank.run.fingerprint import fingerprint_of
from pyserini_reasonrank.run.named_inputs import local_file
from pyserini_reasonrank.run.outputs import claimed_file, paths_of
from pyserini_reasonrank.run.rewriting.pipeline import RewriteTask, rewrite
from pyserini_reasonrank.run.rewriting.plan import planned
from pyserini_reasonrank.settings import rewriters


def main(argv: list[str]) -> int:
    """Rewrite topics. Returns the exit status."""
    name, tree, rest = rewriters.lift(argv)
    parser = _parser()
    if asks_for_help(rest):
        parser.print_help()
        print(f"\n{rewrite_help(name)}")
        return SUCCESS
    options = parser.parse_args(rest)
    if name is None:
        raise rewriters.without_name()
    plan = planned(name, tree, [options.topics])
    if plan.settings.rounds > 1:
        raise UsageError(
            "--rewrite.rounds above 1 needs a search, whose passages later rounds show: use python -m pyserini.search ... "
            "--rewrite NAME"
        )
    output: Path = options.output
    fingerprint = fingerprint_of(None, (), RunFormat.TREC, plan.settings)
    inputs = [("--topics", options.topics), *config_inputs(tree, rewriters.PREFIX)]
    inputs += paths_of(plan.settings, rewriters.PREFIX)
    with (
        local_file("topics", options.topics) as topics,
        claimed_file(output, inputs, fingerprint, overwrite=plan.settings.overwrite, prefix=rewriters.PREFIX),
    ):
        if has_json_lines(output) or output.suffix == ".json":
            raise UsageError(
                f"--output {output} has the name of a JSON file, and topics are written as TSV: name it .tsv"
            )
        record = asyncio.run(
            rewrite(plan, RewriteTask(read_topics(topics), output, announced=True, fingerprint=fingerprint))
        )
        command = ["python", "-m", "pyserini_reasonrank", "rewrite", *argv]
        write_metadata(sidecar(output), metadata_of(record, command, options.topics, fingerprint))
    lines = [f"warning: {warning}" for warning in record.warnings]
    print("\n".join([*lines, *record.counts(), *record.files(), f"metadata  {sidecar(output)}"]))
    return SUCCESS


def _parser() -> Parser:
    parser = command_parser(
        "rewrite",
        "--topics topics.tsv --output rewritten.tsv --rewrite keywords",
        usage="--topics TOPICS --output FILE --rewrite NAME [--rewrite.KEY VALUE ...]",
    )
    parser.add_argument(
        "--topics", required=True, metavar="path",
        help="topics: TSV or JSON lines, or a name that Pyserini or ir_datasets (irds:NAME) knows",
    )  # fmt: skip
    parser.add_argument("--output", required=True, type=Path, metavar="path", help="topics file to write, in TSV")
    group = parser.add_argument_group("rewriter")
    group.add_argument("--rewrite", metavar="NAME", help="the rewriter; with --help, its settings")
    group.add_argument("--rewrite.KEY", metavar="VALUE", dest="_key", help="a setting of it")
    return parser
