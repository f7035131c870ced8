"""``evaluate``: the effectiveness of runs, compared with the first one or with each other."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace

from pyserini_reasonrank.cli.arguments import Parser, add_duplicates, command_parser
from pyserini_reasonrank.cli.exit import SUCCESS
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.evaluate import evaluate
from pyserini_reasonrank.ir.evaluation_formats import FORMATS
from pyserini_reasonrank.ir.measure_names import (
    MEASURES,
    has_the_form_of_a_measure,
    names_a_measure,
    parse_measure,
)
from pyserini_reasonrank.ir.names import looks_like_a_file
from pyserini_reasonrank.ir.runs import KEEP_FIRST_CHOICE
from pyserini_reasonrank.ir.scores import Analysis, SignificanceTest
from pyserini_reasonrank.run.named_inputs import local_file

log = logging.getLogger(__name__)

_LISTED = "--measures"


def main(argv: list[str]) -> int:
    """Print measures, significance and the number of queries answered. Returns the exit status."""
    parser = command_parser(
        "evaluate",
        "--qrels qrels.txt run.txt.first-stage.txt run.txt",
        "--qrels qrels.txt --measures nDCG@10 RR@10 --format json bm25.txt run.txt",
        "--qrels dl19-passage --all-pairs --test tukey --format latex bm25.txt upr.txt rankgpt.txt",
    )
    parser.add_argument(
        "--qrels", required=True, metavar="path",
        help="relevance judgments, all of which are used: a file, or a name that Pyserini or ir_datasets (irds:NAME) knows",
    )  # fmt: skip
    parser.add_argument(
        _LISTED, nargs="+", metavar="name",
        help=f"measures as ir_measures or trec_eval names them [{' '.join(MEASURES)}]; runs may follow",
    )  # fmt: skip
    parser.add_argument(
        "--format", default="text", choices=tuple(FORMATS),
        help="text, csv, json, latex (booktabs) or markdown [text]",
    )  # fmt: skip
    parser.add_argument(
        "--test", default="t", choices=tuple(map(str, SignificanceTest)),
        help="significance: paired t-test or Fisher's randomisation test, both with Holm's correction, "
        "or randomised Tukey HSD [t]",
    )  # fmt: skip
    parser.add_argument("--all-pairs", action="store_true", help="compare each run with each other one")
    parser.add_argument("--intervals", action="store_true", help="add 95%% bootstrap intervals")
    parser.add_argument(
        "--similarity", action="store_true", help="add RBO and Kendall's tau between the rankings of the compared runs"
    )
    parser.add_argument("--per-query", action="store_true", help="add the values of each query")
    add_duplicates(parser)
    parser.add_argument(
        "runs", metavar="RUN", nargs="+", help="runs; the first, such as the first stage, is compared with the others"
    )
    options = parser.parse_args(separate_runs(parser, argv))
    analysis = Analysis(
        test=SignificanceTest(options.test),
        all_pairs=options.all_pairs,
        intervals=options.intervals,
        similarity=options.similarity,
        per_query=options.per_query,
    )
    first, *others = options.runs
    keep_first = options.duplicates == KEEP_FIRST_CHOICE
    with local_file("qrels", options.qrels) as qrels:
        measures = options.measures or MEASURES
        found = evaluate(qrels, first, others, measures, keep_first=keep_first, analysis=analysis)
    report = replace(found, qrels=options.qrels)
    print(FORMATS[options.format](report))
    if options.format == "csv":  # the other formats have the warnings
        for warning in report.warnings:
            log.warning("%s", warning)
    return SUCCESS


def separate_runs(parser: Parser, words: Sequence[str]) -> list[str]:
    """``words`` with the runs at the end, so that runs may follow the values of ``--measures``.

    A value of ``--measures`` that is a measure is a measure, other values are runs. UsageError for a value that is both
    a measure and a file, and for one that is neither but has the form of a measure.
    """
    flags: list[str] = []
    measures: list[str] = []
    runs: list[str] = []
    after_measures = False
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if word == "--":
            runs += rest
        elif word == _LISTED:
            after_measures = True
        elif word.startswith("--") and name == _LISTED:
            measures.append(value)
        elif word.startswith("-"):
            after_measures = False
            flags.append(word)
            if not equals and _takes_a_value(parser, name):
                flags += [value for value in [next(rest, None)] if value is not None]
        elif after_measures and _is_measure(word):
            measures.append(word)
        else:
            runs.append(word)
    if _LISTED in words and not measures:
        parser.error(f"argument {_LISTED}: expected at least one measure")
    return [*flags, *([_LISTED, *measures] if measures else []), *(["--", *runs] if runs else [])]


def _takes_a_value(parser: Parser, flag: str) -> bool:
    action = parser._option_string_actions.get(flag)
    return action is not None and action.nargs != 0


def _is_measure(word: str) -> bool:
    """Whether a value of ``--measures`` is a measure; else it is a run."""
    if names_a_measure(word):
        if os.path.exists(word):
            raise UsageError(
                f"{word} is both a measure and a file: write ./{word} for the file, or run the command elsewhere"
            )
        return True
    if has_the_form_of_a_measure(word) and not looks_like_a_file(word):
        parse_measure(word)  # raises, and proposes the nearest measure
    return False
