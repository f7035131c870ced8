"""Grade each of several texts from 0 to 10 in one call: groups of passages (GroupRank), answers side by side (AoR)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Annotated

from pydantic import Field

from pyserini_reasonrank.judges import published
from pyserini_reasonrank.judges.score import TOP_GAIN
from pyserini_reasonrank.judges.written import Written
from pyserini_reasonrank.parsing import GradesForm, read_grades
from pyserini_reasonrank.parsing.grade_values import TOP_GRADE
from pyserini_reasonrank.records import Completion, Judgement

_GRADE = "(10|[0-9])"


class Grades(Written):
    """Shows n texts and reads a whole number from 0 to 10 for each: one per line, or in one JSON object.

    The outcome is the grades in the order of the candidates; None where a grade could not be read.
    """

    kind = "grades"

    class Options(Written.Options):
        form: Annotated[
            GradesForm,
            Field(
                description='form of the grades that the prompt asks for; lines: [1] 7; json: a block {"[1]": 7, ...} of JSON, '
                "after a reason in <reason> tags (GroupRank)"
            ),
        ] = "lines"
        parser: Annotated[
            published.GradesParser,
            Field(description="grouprank: read as its release does; every grade of an unreadable answer is 0"),
        ] = "careful"

    @property
    def thought_tag(self) -> str:
        return "reason" if self.options.form == "json" else "think"

    @property
    def begins(self) -> str:
        return "\n```json\n{" if self.options.form == "json" else "["

    @property
    def counts_unreadable(self) -> bool:
        return bool(self.options.parser != "careful")

    def read(self, completion: Completion, n: int) -> Judgement:
        if self.options.parser == "grouprank":
            return published.read_grouprank(completion, n)
        return read_grades(completion, n, tags=self.options.tags, form=self.options.form)

    def pattern(self, n: int) -> str:
        if self.options.form == "lines":
            return r"\n".join(rf"\[{i}\] {_GRADE}" for i in range(1, n + 1))
        named = ", ".join(rf'"\[{i}\]": {_GRADE}' for i in range(1, n + 1))
        block = rf"```json\n\{{{named}\}}\n```"
        return rf"\n{block}\n" if self.options.tags else block

    @staticmethod
    def outcome(judgement: Judgement, indices: Sequence[int]) -> list[float | None]:
        """Return the grade of each of ``indices``."""
        found = dict(zip(judgement.order, judgement.scores, strict=False))  # no scores where none could be read
        return [found.get(position) for position in range(len(indices))]

    @staticmethod
    def agreed(outcomes: Sequence[Sequence[float | None]], indices: Sequence[int]) -> list[float | None]:
        """Return the mean of each candidate's readable grades."""
        read = [[grade for grade in grades if grade is not None] for grades in zip(*outcomes, strict=True)]
        return [fmean(grades) if grades else None for grades in read]

    @property
    def scale(self) -> tuple[float, float]:
        return (0.0, float(TOP_GRADE))

    @staticmethod
    def scores(outcome: Sequence[float | None], indices: Sequence[int]) -> Mapping[int, float]:
        """Return the grades that could be read."""
        return {i: grade for i, grade in zip(indices, outcome, strict=True) if grade is not None}

    def unmoved(self, indices: Sequence[int]) -> list[float | None]:
        return [0.0] * len(indices)

    def ideal(self, gains: Sequence[float]) -> str:
        grades = [round(TOP_GRADE * min(max(gain / TOP_GAIN, 0), 1)) for gain in gains]
        thought = f"The gains are {', '.join(f'{gain:g}' for gain in gains)}."
        if self.options.form == "lines":
            return self.written(thought, "\n".join(f"[{i}] {grade}" for i, grade in enumerate(grades, 1)))
        named = ", ".join(f'"[{i}]": {grade}' for i, grade in enumerate(grades, 1))
        block = f"```json\n{{{named}}}\n```"
        return self.written(thought, f"\n{block}\n" if self.options.tags else block)

    def answer_tokens(self, n: int) -> int:
        """Return room for ``[100] 10`` and its line break per text, or for the name and grade in JSON."""
        return 8 * n + 16 if self.options.form == "lines" else 12 * n + 24
