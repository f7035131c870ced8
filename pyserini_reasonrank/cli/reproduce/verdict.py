"""The comparison of a measured score with the published one, as Pyserini's two-click reproductions make it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import isclose

DIGITS = 4


class Verdict(StrEnum):
    """OK: equal in four digits. OKish: within the tolerance. FAIL: anything else."""

    OK = "[OK]"
    OKISH = "[OKish]"
    FAIL = "[FAIL]"
    UNPUBLISHED = "not published here"


@dataclass(frozen=True, slots=True)
class Compared:
    """A measured score, rounded to four digits, and the published one, or None."""

    measure: str
    score: float
    expected: float | None
    tolerance: float

    @property
    def verdict(self) -> Verdict:
        if self.expected is None:
            return Verdict.UNPUBLISHED
        if isclose(self.score, self.expected):
            return Verdict.OK
        within = round(abs(self.score - self.expected), DIGITS + 2) <= self.tolerance
        return Verdict.OKISH if within else Verdict.FAIL

    def __str__(self) -> str:
        unlike = self.verdict in (Verdict.OKISH, Verdict.FAIL)
        return f"{self.measure:7}: {self.score:.4f} {self.verdict}" + (
            f" expected {self.expected:.4f}" if unlike else ""
        )


def compared(measure: str, score: float, expected: float | None, tolerance: float) -> Compared:
    """Compare a score as it was measured."""
    return Compared(measure, round(score, DIGITS), expected, tolerance)
