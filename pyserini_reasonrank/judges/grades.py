"""Grade each of several texts from 0 to 10 in one call: groups of passages (GroupRank), answers side by side (AoR)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from pyserini_reasonrank.judges.score import TOP_GAIN
from pyserini_reasonrank.judges.written import Written
from pyserini_reasonrank.parsing import read_grades
from pyserini_reasonrank.parsing.grade_values import TOP_GRADE
from pyserini_reasonrank.records import Completion, Judgement


class Grades(Written):
    """Shows n texts and reads a whole number from 0 to 10 for each, one per line.

    The outcome is the grades in the order of the candidates; None where a grade could not be read.
    """

    kind = "grades"

    def read(self, completion: Completion, n: int) -> Judgement:
        return read_grades(completion, n, tags=self.options.tags)

    def pattern(self, n: int) -> str:
        return r"\n".join(rf"\[{i}\] (10|[0-9])" for i in range(1, n + 1))

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
        lines = [f"[{i}] {round(TOP_GRADE * min(max(gain / TOP_GAIN, 0), 1))}" for i, gain in enumerate(gains, 1)]
        return self.written(f"The gains are {', '.join(f'{gain:g}' for gain in gains)}.", "\n".join(lines))

    def answer_tokens(self, n: int) -> int:
        return 8 * n + 16  # "[100] 10" and its line break
