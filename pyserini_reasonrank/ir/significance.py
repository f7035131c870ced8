"""Whether runs differ by more than chance: tests over queries, corrections for many comparisons, bootstrap intervals.

All tests are paired and two-sided. Those that draw random numbers have a fixed seed, so their results can be repeated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray

TIED = 1e-9
"""Scores of a query that differ by no more than this are equal: a smaller difference is rounding in the measure."""

RESAMPLES = 10_000
SEED = 42
CONFIDENCE = 0.95

_NUMBERS = 4_000_000
"""How many random numbers one batch of resamples holds (32 MB)."""


class Interval(NamedTuple):
    """The limits of a 95% confidence interval."""

    low: float
    high: float


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


def randomisation_test(differences: Sequence[float]) -> float | None:
    """The p value of Fisher's paired randomisation test of the mean difference (Smucker et al. 2007).

    Under the null hypothesis the two scores of a query are exchangeable, so the sign of each difference is random. All
    signs are enumerated if there are at most 10,000 assignments, else 10,000 are drawn. None for fewer than two queries.
    """
    if len(differences) < 2:
        return None
    # signs of zero do not change the mean, and fewer differences have fewer assignments
    moved = [difference for difference in differences if abs(difference) > TIED]
    if len(moved) < 2:
        return 1.0  # both signs of one difference are as far from zero
    import numpy as np
    from scipy.stats import permutation_test

    found = permutation_test(
        (moved,), lambda values, axis: abs(np.mean(values, axis=axis)), permutation_type="samples", vectorized=True,
        alternative="greater", n_resamples=RESAMPLES, batch=_batch(len(moved)),
        rng=np.random.default_rng(SEED),
    )  # fmt: skip
    return min(1.0, float(found.pvalue))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction of p values (Holm 1979): adjusted values, in the same order."""
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for position, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, p_values[index] * (len(p_values) - position)))
        adjusted[index] = largest
    return adjusted


def tukey_hsd(scores: Sequence[Sequence[float]]) -> Mapping[tuple[int, int], float] | None:
    """The p value of each pair of runs by the randomised Tukey HSD test (Carterette 2012, TOIS 30(1)).

    ``scores`` has the scores of each run, over the same queries in the same order. Each of 10,000 permutations shuffles
    the scores of every query among the runs and takes the difference of the largest and smallest mean. The p value of a
    pair is the share of permutations, with the observed scores counted as one of them, whose difference is at least that
    of the pair. This controls the error over all pairs. Keys are the indices of the runs, the smaller first. None for fewer
    than two queries or runs.
    """
    if len(scores) < 2 or len(scores[0]) < 2:
        return None
    import numpy as np

    values = np.asarray(scores, dtype=float).T  # queries x runs
    observed = values.mean(axis=0)
    rng = np.random.default_rng(SEED)
    ranges: list[NDArray[float64]] = []
    batch = _batch(values.size)
    for start in range(0, RESAMPLES, batch):
        shuffled = np.tile(values, (min(batch, RESAMPLES - start), 1, 1))
        rng.permuted(shuffled, axis=2, out=shuffled)
        means = shuffled.mean(axis=1)
        ranges.append(means.max(axis=1) - means.min(axis=1))
    spread = np.concatenate(ranges)
    return {
        (i, j): (1 + int(np.sum(spread >= abs(observed[i] - observed[j]) - TIED))) / (RESAMPLES + 1)
        for i, j in combinations(range(len(scores)), 2)
    }


def bootstrap_interval(values: Sequence[float]) -> Interval | None:
    """The 95% interval of the mean by the percentile bootstrap over queries, 10,000 resamples. None for fewer than two."""
    if len(values) < 2:
        return None
    import numpy as np
    from scipy.stats import bootstrap

    found = bootstrap(
        (values,), np.mean, vectorized=True, n_resamples=RESAMPLES, batch=_batch(len(values)),
        confidence_level=CONFIDENCE, method="percentile", rng=np.random.default_rng(SEED),
    )  # fmt: skip
    return Interval(float(found.confidence_interval.low), float(found.confidence_interval.high))


def wins(differences: Sequence[float]) -> tuple[int, int, int]:
    """How many differences are positive, zero and negative."""
    won = sum(difference > TIED for difference in differences)
    lost = sum(difference < -TIED for difference in differences)
    return won, len(differences) - won - lost, lost


def _batch(numbers: int) -> int:
    """How many resamples of so many numbers fit in a batch."""
    return max(1, min(RESAMPLES, _NUMBERS // max(1, numbers)))
