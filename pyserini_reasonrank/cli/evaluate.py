"""``evaluate``: the effectiveness of reranked runs beside that of the first stage."""

from __future__ import annotations

import json
from dataclasses import replace

from pyserini_reasonrank.cli.arguments import add_duplicates, command_parser
from pyserini_reasonrank.cli.exit import SUCCESS
from pyserini_reasonrank.ir.evaluate import MEASURES, evaluate
from pyserini_reasonrank.ir.runs import KEEP_FIRST_CHOICE
from pyserini_reasonrank.run.named_inputs import local_file


def main(argv: list[str]) -> int:
    """Print measures, significance and the number of queries answered. Returns the exit status."""
    parser = command_parser(
        "evaluate",
        "--qrels qrels.txt run.txt.first-stage.txt run.txt",
        "--qrels qrels.txt --measures nDCG@10 RR@10 --json bm25.txt run.txt",
    )
    parser.add_argument(
        "--qrels", required=True, metavar="path",
        help="relevance judgments, all of which are used: a file, or a name that Pyserini or ir_datasets (irds:NAME) knows",
    )  # fmt: skip
    parser.add_argument(
        "--measures", nargs="+", default=list(MEASURES), metavar="name",
        help=f"measures as ir_measures names them [{' '.join(map(str, MEASURES))}]",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    add_duplicates(parser)
    parser.add_argument("first", metavar="FIRST", help="the run to compare with")
    parser.add_argument("runs", metavar="RUN", nargs="*", help="reranked runs")
    options = parser.parse_args(argv)
    keep_first = options.duplicates == KEEP_FIRST_CHOICE
    with local_file("qrels", options.qrels) as qrels:
        found = evaluate(qrels, options.first, options.runs, options.measures, keep_first=keep_first)
    report = replace(found, qrels=options.qrels)
    print(json.dumps(report.as_json(), indent=2) if options.json else report)
    return SUCCESS
