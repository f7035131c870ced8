"""``merge``: join the parts of a run."""

from __future__ import annotations

from pathlib import Path

from pyserini_reasonrank.cli.arguments import command_parser
from pyserini_reasonrank.cli.commands import PROGRAM
from pyserini_reasonrank.cli.exit import SUCCESS
from pyserini_reasonrank.run.merging import merge


def main(argv: list[str]) -> int:
    """Join runs, their metadata and their journals. Returns the exit status."""
    parser = command_parser("merge", "run.txt part-1.txt part-2.txt", "--topics topics.tsv run.txt part-*.txt")
    parser.add_argument("output", type=Path, metavar="OUT", help="the run to write")
    parser.add_argument(
        "parts", type=Path, nargs="+", metavar="PART", help="runs of parts of the topics, each finished"
    )
    parser.add_argument(
        "--topics", metavar="path", help="all topics: TSV or JSON lines [those that the metadata of the parts name]"
    )
    options = parser.parse_args(argv)
    merged = merge(options.output, options.parts, options.topics, [*PROGRAM.split(), "merge", *argv])
    print(f"merged    {len(options.parts)} parts, {merged.topics:,} topics")
    print("\n".join(f"wrote     {path}" for path in merged.files))
    return SUCCESS
