"""The tests of significance, compared with scipy's, with complete enumeration and with worked examples."""

from itertools import combinations, permutations, product
from math import sqrt
from statistics import fmean, stdev

import numpy as np
import pytest
from scipy.stats import studentized_range, ttest_rel

from pyserini_reasonrank.ir.significance import (
    bootstrap_interval,
    holm,
    randomisation_test,
    t_test,
    tukey_hsd,
    wins,
)


def test_t_test_edge_cases() -> None:
    assert t_test([0.0, 1e-17, 0.0]) == 1.0
    assert t_test([0.5, 0.5, 0.5]) == 0.0
    assert t_test([0.5]) is None
    assert t_test([0.5, 0.1, -0.2]) == pytest.approx(ttest_rel([0.5, 0.4, 0], [0, 0.3, 0.2]).pvalue)


def test_differences_within_rounding_are_ties() -> None:
    assert wins([0.5, 1e-12, -1e-12, 0.0, -0.1, 0.2]) == (2, 3, 1)


def test_randomisation_enumerates_the_signs() -> None:
    differences = [0.5, 0.1, -0.2, 0.3, 0.0, 0.25, -0.05, 0.4]
    sums = [abs(sum(s * d for s, d in zip(signs, differences, strict=True))) for signs in product((1, -1), repeat=8)]
    expected = fmean(total >= abs(sum(differences)) - 1e-12 for total in sums)
    assert randomisation_test(differences) == pytest.approx(expected)


def test_randomisation_samples_many_queries() -> None:
    differences = np.random.default_rng(3).normal(0.03, 0.1, 100).tolist()
    found = randomisation_test(differences)
    assert found == randomisation_test(differences)
    assert found == pytest.approx(t_test(differences), abs=0.01)


def test_randomisation_edge_cases() -> None:
    assert randomisation_test([0.5]) is None
    assert randomisation_test([0.0, 0.0, 1e-17]) == 1.0
    assert randomisation_test([0.0, 0.5, 0.0]) == 1.0
    assert randomisation_test([0.5, 0.5]) == 0.5


def test_holm_worked_example() -> None:
    """Four hypotheses, of which the first and the last are rejected at 0.05."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.3, 0.9, 0.6]) == pytest.approx([0.9, 1.0, 1.0])
    assert holm([0.04]) == [0.04]
    assert holm([]) == []


def test_tukey_is_the_share_of_all_permutations() -> None:
    scores = [[0.1, 0.2, 0.3, 0.1], [0.4, 0.3, 0.6, 0.5], [0.2, 0.5, 0.3, 0.2]]
    spreads = []
    for shuffled in product(*(permutations(column) for column in zip(*scores, strict=True))):
        means = [fmean(row) for row in zip(*shuffled, strict=True)]
        spreads.append(max(means) - min(means))
    assert len(spreads) == 6**4
    found = tukey_hsd(scores)
    assert found is not None
    for i, j in combinations(range(3), 2):
        expected = fmean(spread >= abs(fmean(scores[i]) - fmean(scores[j])) - 1e-12 for spread in spreads)
        assert found[i, j] == pytest.approx(expected, abs=0.015)


def test_tukey_of_two_runs_is_the_randomisation_test() -> None:
    one, other = np.random.default_rng(5).random((2, 12)).tolist()
    found = tukey_hsd([one, other])
    assert found is not None
    expected = randomisation_test([b - a for a, b in zip(one, other, strict=True)])
    assert found[0, 1] == pytest.approx(expected, abs=0.015)


def test_tukey_agrees_with_the_studentized_range_on_normal_scores() -> None:
    """The parametric test of a two-way layout: the residuals without the effects of queries and runs give the error."""
    scores = np.random.default_rng(1).normal(0.5, 0.1, (4, 60))
    scores[1] += 0.02
    residuals = scores - scores.mean(axis=0) - scores.mean(axis=1, keepdims=True) + scores.mean()
    freedom = 3 * 59
    error = sqrt((residuals**2).sum() / freedom / 60)
    found = tukey_hsd(scores.tolist())
    assert found is not None
    for (i, j), p in found.items():
        statistic = abs(scores[i].mean() - scores[j].mean()) / error
        assert p == pytest.approx(studentized_range.sf(statistic, 4, freedom), abs=0.03)


def test_tukey_edge_cases() -> None:
    assert tukey_hsd([[0.1, 0.2]]) is None
    assert tukey_hsd([[0.1], [0.2]]) is None
    assert tukey_hsd([[0.1, 0.2], [0.1, 0.2]]) == {(0, 1): 1.0}


def test_bootstrap_interval() -> None:
    values = np.random.default_rng(2).normal(0.4, 0.2, 200).tolist()
    found = bootstrap_interval(values)
    assert found is not None
    assert found == bootstrap_interval(values)
    margin = 1.96 * stdev(values) / sqrt(200)
    assert tuple(found) == pytest.approx((fmean(values) - margin, fmean(values) + margin), abs=0.003)
    assert bootstrap_interval([0.5] * 5) == (0.5, 0.5)
    assert bootstrap_interval([0.5]) is None
