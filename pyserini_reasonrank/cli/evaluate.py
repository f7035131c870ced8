"""``evaluate``: the effectiveness of reranked runs beside that of the first stage."""

from __future__ import annotations

import json

from pyserini_reasonrank.cli.arguments import command_parser
from pyserini_reasonrank.cli.exit import SUCCESS
from pyserini_reasonrank.ir.evaluate import MEASURES, evaluate
from pyserini_reasonrank.ir.runs import DUPLICATES, KEEP_FIRST_CHOICE


def main(argv: list[str]) -> int:
    """Print measures, significance and the number of queries answered. Returns the exit status."""
    parser = command_parser(
        "evaluate",
        "--qrels qrels.txt run.txt.first-stage.txt run.txt",
        "--qrels qrels.txt --measures nDCG@10 RR@10 --json bm25.txt run.txt",
    )
    parser.add_argument("--qrels", required=True, metavar="path", help="relevance judgments; all of them are used")
    parser.add_argument(
        "--measures", nargs="+", default=list(MEASURES), metavar="name",
        help=f"measures as ir_measures names them [{' '.join(map(str, MEASURES))}]",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--duplicates", default=DUPLICATES[0], choices=DUPLICATES,
        help="a document that a query lists twice: an error, or kept at its better place [refuse]",
    )  # fmt: skip
    parser.add_argument("first", metavar="FIRST", help="the run to compare with")
    parser.add_argument("runs", metavar="RUN", nargs="*", help="reranked runs")
    options = parser.parse_args(argv)
    keep_first = options.duplicates == KEEP_FIRST_CHOICE
    report = evaluate(options.qrels, options.first, options.runs, options.measures, keep_first=keep_first)
    print(json.dumps(report.as_json(), indent=2) if options.json else report)
    return SUCCESS
