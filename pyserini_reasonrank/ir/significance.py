"""Whether two runs differ by more than chance: a paired t-test over queries, and wins, ties and losses."""

from __future__ import annotations

from collections.abc import Sequence

TIED = 1e-9
"""Scores of a query that differ by no more than this are equal: a smaller difference is rounding in the measure."""


def t_test(differences: Sequence[float]) -> float | None:
    """The p value of a paired two-sided t-test, from the difference of each query.

    1 if all differences are zero; 0 if all have the same other value; None for fewer than two queries.
    """
    if len(differences) < 2:
        return None
    if all(abs(difference) <= TIED for difference in differences):
        return 1.0
    from scipy.stats import ttest_1samp

    if all(abs(difference - differences[0]) <= TIED for difference in differences):
        return 0.0  # without variance, t is infinite
    return float(ttest_1samp(differences, 0.0).pvalue)


def wins(differences: Sequence[float]) -> tuple[int, int, int]:
    """How many differences are positive, zero and negative."""
    won = sum(difference > TIED for difference in differences)
    lost = sum(difference < -TIED for difference in differences)
    return won, len(differences) - won - lost, lost
