"""The rounds of calls that a query takes, counted and not timed, and the quality reached with an oracle."""

from __future__ import annotations

from latency import QUERIES, reached


def test_pivot_takes_at_most_three_fifths_of_the_rounds_of_sliding_at_the_same_quality() -> None:
    pivot, sliding = reached("pivot"), reached("sliding")
    assert QUERIES == 43
    assert sliding.rounds == 9
    assert pivot.rounds <= 0.6 * sliding.rounds
    assert pivot.ndcg == sliding.ndcg == 1
