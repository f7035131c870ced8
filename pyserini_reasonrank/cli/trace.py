"""``trace``: what the journal of a run holds."""

from __future__ import annotations

import json
from pathlib import Path

from pyserini_reasonrank.cli.arguments import command_parser
from pyserini_reasonrank.cli.exit import SUCCESS
from pyserini_reasonrank.journal import export, rankings


def main(argv: list[str]) -> int:
    """Print the records of a journal as JSON lines. Returns the exit status."""
    parser = command_parser("trace", "export run.txt.journal.sqlite --qid 42", "rankings run.txt.journal.sqlite")
    parser.add_argument(
        "action", choices=("export", "rankings"), help="export: every call; rankings: the final order of every query"
    )
    parser.add_argument("journal", type=Path, metavar="JOURNAL", help="journal of a run, RUN.journal.sqlite")
    parser.add_argument("--qid", help="print this query only")
    options = parser.parse_args(argv)
    records = export if options.action == "export" else rankings
    for record in records(options.journal, options.qid):
        print(json.dumps(record, ensure_ascii=False))
    return SUCCESS
