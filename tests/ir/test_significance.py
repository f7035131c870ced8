"""The paired t-test, compared with scipy's, and its edge cases."""

import pytest
from scipy.stats import ttest_rel

from pyserini_reasonrank.ir.significance import t_test, wins


def test_t_test_edge_cases() -> None:
    assert t_test([0.0, 1e-17, 0.0]) == 1.0
    assert t_test([0.5, 0.5, 0.5]) == 0.0
    assert t_test([0.5]) is None
    assert t_test([0.5, 0.1, -0.2]) == pytest.approx(ttest_rel([0.5, 0.4, 0], [0, 0.3, 0.2]).pvalue)


def test_differences_within_rounding_are_ties() -> None:
    assert wins([0.5, 1e-12, -1e-12, 0.0, -0.1, 0.2]) == (2, 3, 1)
