"""An evaluation as a table for a paper: LaTeX (booktabs) and Markdown, with marks of significance."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import combinations

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.evaluation_notes import (
    ALL_ANSWERED,
    limits,
    queries,
    queries_of_means,
    remarks,
    similarities,
    some_unanswered,
    test_of,
)
from pyserini_reasonrank.ir.scores import Evaluation, MeasureScore

MARKS = ((0.01, "‡"), (0.05, "†"))
"""Marks of a corrected p value below a level, the smallest level first."""


def as_markdown(report: Evaluation) -> str:
    """A table with a row per run and a column per measure, marks of significance, notes; then queries."""
    header, rows = _by_run(report, lambda cell, mark, best: _bold_markdown(escape_markdown(cell), best) + _sup(mark))
    parts = [_markdown_table(header, [(escape_markdown(name), *cells) for name, *cells in rows], left=1)]
    parts.append("\n".join(f"- {escape_markdown(note)}" for note in _mark_notes(report)))
    if report.per_query:
        header, rows = queries(report)
        parts.append(_markdown_table(header, [tuple(map(escape_markdown, row)) for row in rows], left=2))
    return "\n\n".join(parts)


def as_latex(report: Evaluation) -> str:
    r"""A table for the package booktabs, with a row per run and a column per measure. UsageError for values of queries."""
    if report.per_query:
        raise UsageError("--format latex has no table of queries: use --format csv, json, markdown or text")
    header, rows = _by_run(report, _latex_cell)
    lines = [
        r"% requires \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{' '.join(f'{escape_latex(note)}' for note in _mark_notes(report))}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}",
        r"\toprule",
        rf"{' & '.join(map(escape_latex, header))} \\",
        r"\midrule",
        *(rf"{' & '.join((escape_latex(name), *cells))} \\" for name, *cells in rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines)


def _by_run(report: Evaluation, cell: Callable[[str, str, bool], str]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """A header and rows of run and means; ``cell`` writes a value, its mark, and whether it is the best of the column."""
    costs = any(run.cost for run in report.every)
    header = ("run", *(score.measure for score in report.first.scores), *["calls", "tokens", "seconds"] * costs)
    best = [max(round(run.scores[i].value, 4) for run in report.every) for i in range(len(report.first.scores))]
    rows = []
    for index, run in enumerate(report.every):
        name = report.label(run.run)
        cells = [f"({_letter(index)}) {name}" if report.pairs else name]
        for i, score in enumerate(run.scores):
            value = f"{score.value:.4f}"
            mark = _better_than(report, index, i) if report.pairs else _mark(score)
            written = cell(value, mark, round(score.value, 4) == best[i] and bool(report.runs))
            cells.append(f"{written} ({limits(score.interval)})" if score.interval else written)
        if costs and (cost := run.cost):
            seconds = "" if cost.seconds is None else f"{cost.seconds:,.1f}"
            cells += [f"{cost.calls + cost.from_journal:,}", f"{cost.tokens:,}", seconds]
        elif costs:
            cells += [""] * 3
        rows.append(tuple(cells))
    return header, rows


def _mark(score: MeasureScore) -> str:
    p = score.comparison.corrected if score.comparison else None
    return next((mark for level, mark in MARKS if p is not None and p < level), "")


def _better_than(report: Evaluation, index: int, measure: int) -> str:
    """The letters of the runs that a run is significantly better than, at the level 0.05."""
    found = []
    for (i, j), pair in zip(combinations(range(len(report.every)), 2), report.pairs, strict=True):
        comparison = pair.comparisons[measure]
        if comparison.corrected is None or comparison.corrected >= MARKS[-1][0]:
            continue
        winner, loser = (j, i) if comparison.change > 0 else (i, j)
        if winner == index:
            found.append(_letter(loser))
    return ",".join(found) if any(len(letter) > 1 for letter in found) else "".join(found)


def _letter(index: int) -> str:
    """a to z, then aa, ab, ..."""
    return (_letter(index // 26 - 1) if index >= 26 else "") + chr(ord("a") + index % 26)


def _mark_notes(report: Evaluation) -> list[str]:
    found = [f"Means {queries_of_means(report)}", _answered(report) if some_unanswered(report) else ALL_ANSWERED]
    if report.runs:
        letters = "Letters name the runs that a run is better than (p < 0.05)"
        found.append(f"{letters if report.pairs else '† p < 0.05, ‡ p < 0.01'}: {test_of(report)}.")
    found += remarks(report)
    if any(score.interval for run in report.every for score in run.scores):
        found.append("In parentheses: 95% bootstrap intervals of the means.")
    if report.runs:
        found.append("Bold: the highest mean.")
    found += [
        f"{run} and {base}: RBO (p = 0.9) {rbo}, Kendall's tau {tau} over {shared} queries."
        for run, base, rbo, tau, shared in similarities(report)
    ]
    if any(run.cost for run in report.every):
        found.append("Calls and tokens include those that a journal answered.")
    return found


def _answered(report: Evaluation) -> str:
    means = [
        f"{report.label(run.run)} ({run.answered} of {report.queries}) "
        + ", ".join(f"{score.answered_value:.4f}" for score in run.scores)
        for run in report.every
    ]
    return f"Means over answered queries only: {'; '.join(means)}."


_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}", "†": r"$\dagger$", "‡": r"$\ddagger$",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}  # fmt: skip


def escape_latex(text: str) -> str:
    """Text with LaTeX's special characters escaped."""
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))


def escape_markdown(text: str) -> str:
    """Text with Markdown's special characters escaped, also for use in a table."""
    return re.sub(r"([\\`*_\[\]<>|~&])", r"\\\1", " ".join(text.split()))


def _latex_cell(value: str, mark: str, best: bool) -> str:
    value = rf"\textbf{{{value}}}" if best else value
    symbols = {"†": r"\dagger", "‡": r"\ddagger"}
    return f"{value}$^{{{symbols.get(mark, rf'\mathrm{{{mark}}}')}}}$" if mark else value


def _bold_markdown(value: str, best: bool) -> str:
    return f"**{value}**" if best else value


def _sup(mark: str) -> str:
    return f"<sup>{mark}</sup>" if mark else ""


def _markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    ruler = ["---" if i < left else "---:" for i in range(len(header))]
    every = [list(map(escape_markdown, header)), ruler, *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in every)
