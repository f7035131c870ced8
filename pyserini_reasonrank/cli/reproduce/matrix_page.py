"""The page of a matrix: tables of published scores, and a command for each condition, as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import fill

from pyserini_reasonrank.cli.commands import PROGRAM
from pyserini_reasonrank.cli.reproduce.matrix import Condition, Matrix, merged
from pyserini_reasonrank.cli.reproduce.steps import DATA, WIDTH, step, wrapped

LOG_HEADING = "## Reproduction log"
UNKNOWN = "-"
HARDWARE = {
    "cpu": "These conditions run on a CPU.",
    "gpu": "These conditions need a GPU, except those without a model. This project has not run them: it tests that each "
    "command is accepted and planned.",
}


def page(matrix: Matrix, log: Sequence[str] = ()) -> str:
    """The page, with the lines of its reproduction log at the end."""
    return "\n".join([*_lines(matrix), LOG_HEADING, "", *log]).rstrip("\n") + "\n"


def logged(text: str) -> list[str]:
    """The lines of the reproduction log at the end of a page."""
    return [line for line in text.partition(f"\n{LOG_HEADING}\n")[2].splitlines() if line.strip()]


def _lines(matrix: Matrix) -> Iterator[str]:
    yield f"# {matrix.display}"
    yield f"\n<!-- Written by `{PROGRAM} 2cr report {matrix.name}`; do not edit. -->\n"
    yield fill(f"{matrix.about.strip()} {HARDWARE[matrix.hardware]}", WIDTH)
    yield f"\n    {PROGRAM} 2cr run {matrix.name} --condition {matrix.conditions[0].name}"
    yield f"    {PROGRAM} 2cr run {matrix.name} --condition all --dry-run    # all commands\n"
    for measure in _measures(matrix):
        yield from _table(matrix, measure)
    yield "## Conditions\n"
    for condition in matrix.conditions:
        yield from _section(matrix, condition)


def _measures(matrix: Matrix) -> list[str]:
    return list(dict.fromkeys(m for c in matrix.conditions for scores in _all_scores(c) for m in scores))


def _all_scores(condition: Condition) -> list[dict[str, float]]:
    return [*(topics.expected for topics in condition.topics), merged(condition.average)]


def _table(matrix: Matrix, measure: str) -> Iterator[str]:
    """A row for each condition with this measure, a column for each topic set."""
    shown = [
        condition for condition in matrix.conditions if any(measure in scores for scores in _all_scores(condition))
    ]
    columns = list(dict.fromkeys(topics.name for condition in shown for topics in condition.topics))
    averages = any(measure in merged(condition.average) for condition in shown)
    yield f"## Published {measure}\n"
    yield f"| condition | {' | '.join(columns)} |" + (" mean |" if averages else "")
    yield "| --- |" + " ---: |" * (len(columns) + averages)
    for condition in shown:
        scores = {topics.name: topics.expected.get(measure) for topics in condition.topics}
        cells = [_cell(scores.get(name)) for name in columns]
        mean = [_cell(merged(condition.average).get(measure))] if averages else []
        yield f"| {condition.display} | {' | '.join([*cells, *mean])} |"
    yield ""


def _cell(score: float | None) -> str:
    return UNKNOWN if score is None else f"{score:.4f}"


def _section(matrix: Matrix, condition: Condition) -> Iterator[str]:
    first, *others = condition.topics
    yield f"### {condition.name}\n"
    tolerance = matrix.tolerance_of(condition)
    equal = f"A difference of up to {tolerance:g} is `[OKish]`." if tolerance else "Any difference is a `[FAIL]`."
    yield fill(f"{condition.display}. Source: {condition.source.strip()}. {equal}", WIDTH) + "\n"
    output = f"run.{matrix.name}.{condition.name}.{first.name}.txt"
    made = step(condition, first, {"data": f"${DATA}", "folder": ".", "output": output})
    for command in [*made.commands, made.evaluation]:
        yield "    " + wrapped(command).replace("\n", "\n    ")
    if others:
        names = ", ".join(f"`{topics.name}`" for topics in others)
        yield "\n" + fill(f"Likewise for {names}.", WIDTH, break_long_words=False, break_on_hyphens=False)
    yield ""
