"""The order after each call: windows are followed, and a strategy that they do not explain is recognised."""

from __future__ import annotations

import pytest

from pyserini_reasonrank.report.step_orders import MOST_STEPS, step_orders

WINDOWS = [(("b", "c", "d"), (2, 0, 1)), (("a", "d"), (1, 0))]


def test_each_call_reorders_the_places_of_its_documents() -> None:
    steps = step_orders("abcd", WINDOWS, "dabc")
    assert steps == [["a", "b", "c", "d"], ["a", "d", "b", "c"], ["d", "a", "b", "c"]]


def test_a_run_may_be_cut() -> None:
    steps = step_orders("abcd", WINDOWS, "da")
    assert steps is not None
    assert steps[-1] == ["d", "a", "b", "c"]


@pytest.mark.parametrize(
    ("calls", "final"),
    [
        ([], "abcd"),
        (WINDOWS, "abcd"),  # another order, as after a fusion
        ([(("a",), (0,))], "abcd"),  # pointwise
        ([(("a", "x"), (0, 1))], "abcd"),
        ([(("a", "b"), (0, 0))], "abcd"),
        ([(("a", "b"), (0, 1))] * (MOST_STEPS + 1), "abcd"),
    ],
)
def test_calls_that_do_not_explain_the_order_give_no_steps(
    calls: list[tuple[tuple[str, ...], tuple[int, ...]]], final: str
) -> None:
    assert step_orders("abcd", calls, final) is None
