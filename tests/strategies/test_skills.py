"""Beliefs against values of the package trueskill 0.4.5, and what they mean."""

from __future__ import annotations

import pytest

from pyserini_reasonrank.strategies.skills import Belief, threshold_of, updated

Normal = list[tuple[float, float]]

# means and standard deviations before an order and after it, the candidates best first
ORDERS: list[tuple[Normal, Normal]] = [
    ([(25.0, 8.333), (25.0, 8.333)], [(29.3956, 7.1712), (20.6044, 7.1712)]),
    ([(29.396, 7.171), (20.604, 7.171)], [(31.2295, 6.523), (18.7705, 6.523)]),
    ([(25.0, 8.333)] * 3, [(31.675, 6.6557), (25.0, 6.2077), (18.325, 6.6557)]),
    (
        [(25.0, 6.208), (31.675, 6.656), (18.325, 6.656)],
        [(30.2804, 5.2006), (27.7761, 5.2463), (16.154, 5.8504)],
    ),
    (
        [(25.0, 5.42), (20.942, 5.536), (15.637, 6.136), (29.058, 5.536), (34.363, 6.136)],
        [(29.9956, 4.3522), (25.2246, 4.0821), (21.4342, 4.2204), (24.147, 4.0518), (22.9354, 4.4563)],
    ),
]


def beliefs(normal: Normal) -> list[Belief]:
    return [Belief(mean, deviation**2) for mean, deviation in normal]


@pytest.mark.parametrize(("before", "after"), ORDERS)
def test_an_order_changes_beliefs_as_in_trueskill(before: Normal, after: Normal) -> None:
    found = [(belief.mean, belief.variance**0.5) for belief in updated(beliefs(before))]
    assert found == [pytest.approx(each, abs=1e-3) for each in after]


def test_orders_that_no_one_expected_stay_finite() -> None:
    far = [Belief(-1e4 * i, 1e-3) for i in range(20)]
    for belief in updated(far[::-1]):
        assert abs(belief.mean) < 1e6
        assert 0 < belief.variance < 100


@pytest.mark.parametrize("k", [1, 3, 7])
def test_k_candidates_are_expected_above_the_threshold(k: int) -> None:
    found = [Belief(float(i), 1.0 + i) for i in range(8)]
    threshold = threshold_of(found, k)
    assert sum(belief.above(threshold) for belief in found) == pytest.approx(k, abs=1e-5)


def test_with_fewer_candidates_than_k_all_of_them_are() -> None:
    found = [Belief(), Belief()]
    assert all(belief.above(threshold_of(found, 10)) > 0.99 for belief in found)
