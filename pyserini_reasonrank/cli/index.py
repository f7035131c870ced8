"""``index``: index a corpus with Pyserini's own indexer, which runs in a process of its own with the JVM."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from pyserini_reasonrank.cli.arguments import command_parser, positive
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.interrupts import cleaning, temporary_folder

INDEXING = "pyserini_reasonrank.host.indexing"


def main(argv: list[str]) -> int:
    """Index a corpus. Returns the exit status of the indexer."""
    parser = command_parser("index", "--corpus corpus.jsonl --index index")
    parser.add_argument(
        "--corpus", required=True, metavar="path", help='JSON lines file, {"id": ..., "contents": ...} a line'
    )
    parser.add_argument("--index", type=Path, required=True, metavar="path", help="folder for the index, new or empty")
    parser.add_argument(
        "--threads",
        type=positive(int),
        default=os.cpu_count() or 1,
        metavar="num",
        help="indexing threads [one a core]",
    )
    options = parser.parse_args(argv)
    index: Path = options.index
    if index.exists() and (not index.is_dir() or any(index.iterdir())):
        raise UsageError(f"--index {index} is not empty; name a new folder, or delete this one")
    # beside the index, where there is room for the corpus; a signal deletes it and the incomplete index
    with temporary_folder(".corpus-", _existing_parent(index)) as folder:
        collection = Path(folder, "collection")
        collection.mkdir()
        flags = [f"--{name}={value}" for name, value in (vars(options) | {"collection": collection}).items()]
        with cleaning(lambda: shutil.rmtree(index, ignore_errors=True)):
            return subprocess.call([sys.executable, "-m", INDEXING, *flags], env=os.environ | {"TMPDIR": folder})


def _existing_parent(path: Path) -> Path:
    return next(parent for parent in path.absolute().parents if parent.is_dir())
