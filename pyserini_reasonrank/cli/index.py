"""``index``: index a corpus with Pyserini's own indexer, which runs in a process of its own with the JVM."""

from __future__ import annotations

import os
import subprocess
import sys

from pyserini_reasonrank.cli.arguments import command_parser

INDEXING = "pyserini_reasonrank.host.indexing"


def main(argv: list[str]) -> int:
    """Index a corpus. Returns the exit status of the indexer."""
    parser = command_parser("index", "--corpus corpus.jsonl --index index")
    parser.add_argument(
        "--corpus", required=True, metavar="path", help='JSON lines file, {"id": ..., "contents": ...} a line'
    )
    parser.add_argument("--index", required=True, metavar="path", help="folder for the index, new or empty")
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count() or 1, metavar="num", help="indexing threads [one a core]"
    )
    options = parser.parse_args(argv)
    flags = [f"--{name}={value}" for name, value in vars(options).items()]
    return subprocess.call([sys.executable, "-m", INDEXING, *flags])
