"""The formats of an evaluation: text and JSON here, CSV, LaTeX and Markdown in their own modules."""

from __future__ import annotations

import json
from collections.abc import Callable

from pyserini_reasonrank.ir.evaluation_csv import as_csv
from pyserini_reasonrank.ir.evaluation_notes import limits, notes, queries, signed, similarities, some_unanswered
from pyserini_reasonrank.ir.paper_tables import as_latex, as_markdown
from pyserini_reasonrank.ir.scores import Comparison, Evaluation
from pyserini_reasonrank.ir.tables import table


def as_text(report: Evaluation) -> str:
    """Plain-text tables: for each measure the first run, then each other run; pairs; costs; notes."""
    parts = [table(*_scores(report), left=(0, 1)), "\n".join(notes(report))]
    if report.pairs:
        parts.insert(1, table(*_pairs(report), left=(0, 1, 2)))
    if similar := similarities(report):
        parts.append(table(("run", "compared with", "RBO", "tau", "queries"), similar, left=(0, 1)))
        parts.append("\n".join(SIMILARITY_NOTES))
    if costs := _costs(report):
        parts.append(table(COST_HEADER, costs, left=(0, 6)))
    if report.per_query:
        parts.insert(0, table(*queries(report), left=(0, 1)))
    return "\n\n".join(parts)


def as_json(report: Evaluation) -> str:
    """All figures, not rounded."""
    return json.dumps(report.as_json(), indent=2, ensure_ascii=False)


FORMATS: dict[str, Callable[[Evaluation], str]] = {
    "text": as_text,
    "csv": as_csv,
    "json": as_json,
    "latex": as_latex,
    "markdown": as_markdown,
}

SIMILARITY_NOTES = (
    "RBO: rank-biased overlap with p = 0.9, extrapolated; tau: Kendall's tau over the documents that both runs have.",
    "Both are means over the judged queries that both runs answer.",
)

COST_HEADER = ("run", "calls", "from journal", "prompt tokens", "output tokens", "seconds", "GPU")


def _scores(report: Evaluation) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The header and rows of the text table of scores."""
    partly = some_unanswered(report)
    intervals = any(score.interval for run in report.every for score in run.scores)
    compared = not report.pairs
    header = ["measure", "run", "score"]
    header += ["on answered"] * partly + ["95% interval"] * intervals
    header += ["change"] * compared + ["95% of change"] * (compared and intervals)
    header += ["p", "won", "tied", "lost"] * compared + ["answered"]
    rows = []
    for i, of_first in enumerate(report.first.scores):
        for run in report.every:
            score = run.scores[i]
            cells = [of_first.measure if run is report.first else "", report.label(run.run), f"{score.value:.4f}"]
            cells += [f"{score.answered_value:.4f}"] * partly + [limits(score.interval)] * intervals
            cells += _compared(score.comparison, intervals) if compared else []
            rows.append((*cells, f"{run.answered} of {report.queries}"))
    return tuple(header), rows


def _pairs(report: Evaluation) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    intervals = any(each.interval for pair in report.pairs for each in pair.comparisons)
    header = ("measure", "run", "compared with", "change", *["95% of change"] * intervals, "p", "won", "tied", "lost")
    rows = []
    for i, of_first in enumerate(report.first.scores):
        for number, pair in enumerate(report.pairs):
            names = (report.label(pair.run), report.label(pair.base))
            rows.append(
                ("" if number else of_first.measure, *names, *_compared(pair.comparisons[i], intervals))
            )  # fmt: skip
    return header, rows


def _compared(comparison: Comparison | None, intervals: bool) -> list[str]:
    if comparison is None:
        return [""] * (5 + intervals)
    p = comparison.corrected
    shown = "n/a" if p is None else "<0.0001" if p < 0.0001 else f"{p:.4f}"
    counts = map(str, (comparison.won, comparison.tied, comparison.lost))
    return [signed(comparison.change), *[limits(comparison.interval, with_sign=True)] * intervals, shown, *counts]


def _costs(report: Evaluation) -> list[tuple[str, ...]]:
    rows = []
    for run in report.every:
        if cost := run.cost:
            counts = (cost.calls, cost.from_journal, cost.prompt_tokens, cost.output_tokens)
            seconds = "n/a" if cost.seconds is None else f"{cost.seconds:,.1f}"
            rows.append((report.label(run.run), *(f"{count:,}" for count in counts), seconds, cost.gpu or "none"))
    return rows
