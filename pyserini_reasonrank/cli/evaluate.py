"""``evaluate``: the effectiveness of reranked runs beside that of the first stage."""

from __future__ import annotations

import json

from pyserini_reasonrank.cli.arguments import command_parser
from pyserini_reasonrank.cli.exit import SUCCESS
from pyserini_reasonrank.ir.evaluate import MEASURES, evaluate


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
    parser.add_argument("first", metavar="FIRST", help="the run to compare with")
    parser.add_argument("runs", metavar="RUN", nargs="*", help="reranked runs")
    options = parser.parse_args(argv)
    report = evaluate(options.qrels, options.first, options.runs, options.measures)
    print(json.dumps(report.as_json(), indent=2) if options.json else report)
    return SUCCESS
