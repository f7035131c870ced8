"""Strategies against an assessor in memory: window plans, what they guarantee, what they cost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.explain import predict
from pyserini_reasonrank.judges.registry import JUDGES
from pyserini_reasonrank.strategies import STRATEGIES, options_model
from pyserini_reasonrank.strategies.full import full
from pyserini_reasonrank.strategies.pointwise import pointwise
from pyserini_reasonrank.strategies.sliding import sliding, windows
from pyserini_reasonrank.suggest import validated


def published_windows(n: int, window_size: int, stride: int) -> list[tuple[int, int]]:
    """The loop of the published code, with its own way of suppressing a redundant last window."""
    window_size = min(window_size, n)
    plan, end, start = [], n, n - window_size
    while end > 0 and start + stride != 0:
        start = max(start, 0)
        plan.append((start, end))
        end, start = end - stride, start - stride
    return plan


def perfect(gains: Sequence[float], asked: list[list[int]]) -> Callable[[Sequence[int]], Awaitable[list[int]]]:
    async def judge(indices: Sequence[int]) -> list[int]:
        asked.append(list(indices))
        return sorted(indices, key=lambda i: -gains[i])

    return judge


@pytest.mark.parametrize(
    ("n", "window_size", "stride", "plan"),
    [
        (100, 20, 10, [(80, 100), (70, 90), (60, 80), (50, 70), (40, 60), (30, 50), (20, 40), (10, 30), (0, 20)]),
        (30, 20, 10, [(10, 30), (0, 20)]),
        (25, 20, 10, [(5, 25), (0, 15)]),
        (20, 20, 10, [(0, 20)]),
        (12, 20, 10, [(0, 12)]),
        (5, 2, 2, [(3, 5), (1, 3)]),
        (1, 20, 10, []),
        (0, 20, 10, []),
    ],
)
def test_window_plans(n: int, window_size: int, stride: int, plan: list[tuple[int, int]]) -> None:
    assert list(windows(n, window_size, stride)) == plan


def test_window_10_stride_5_takes_19_windows_for_100() -> None:
    assert len(list(windows(100, 10, 5))) == 19


@given(st.integers(0, 120), st.integers(2, 30), st.integers(1, 30))
def test_window_plans_are_the_published_ones(n: int, window_size: int, stride: int) -> None:
    stride = min(stride, window_size)
    published = [(start, end) for start, end in published_windows(n, window_size, stride) if end - start > 1]
    assert list(windows(n, window_size, stride)) == published


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(2, 25), st.integers(1, 25))
def test_sliding_brings_the_best_to_the_top(gains: list[int], window_size: int, stride: int) -> None:
    stride = min(stride, window_size)
    asked: list[list[int]] = []
    order = asyncio.run(sliding(len(gains), perfect(gains, asked), window_size=window_size, stride=stride))
    assert sorted(order) == list(range(len(gains)))
    exact = len(gains) if len(gains) <= window_size else window_size - stride
    assert [gains[i] for i in order[:exact]] == sorted(gains, reverse=True)[:exact]
    assert all(2 <= len(window) <= window_size for window in asked)
    if stride < window_size:
        assert {i for window in asked for i in window} == (set(order) if len(gains) > 1 else set())


def test_sliding_judges_a_window_only_after_the_one_below_it() -> None:
    asked: list[list[int]] = []
    order = asyncio.run(sliding(6, perfect([0, 0, 0, 0, 0, 9], asked), window_size=3, stride=1))
    assert asked == [[3, 4, 5], [2, 5, 3], [1, 5, 2], [0, 5, 1]]
    assert order == [5, 0, 1, 2, 3, 4]


def test_a_second_pass_leaves_the_top_stride_alone() -> None:
    asked: list[list[int]] = []
    order = asyncio.run(sliding(8, perfect(range(8), asked), window_size=4, stride=2, passes=2))
    assert order[:4] == [7, 6, 5, 4]
    first = asked[:3]
    assert all(7 not in window and 6 not in window for window in asked[len(first) :])


def test_a_stride_that_skips_candidates_is_refused() -> None:
    with pytest.raises(UsageError, match="stride 11 is larger than window_size 10"):
        asyncio.run(sliding(30, perfect([0] * 30, []), window_size=10, stride=11))


@pytest.mark.parametrize("n", [0, 1, 2, 30])
def test_full_asks_once_about_everything(n: int) -> None:
    asked: list[list[int]] = []
    order = asyncio.run(full(n, perfect(range(n), asked)))
    assert order == list(range(n))[::-1]
    assert asked == ([list(range(n))] if n > 1 else [])


@given(st.lists(st.one_of(st.none(), st.sampled_from([0.0, 0.25, 0.5, 1.0])), max_size=30))
def test_pointwise_sorts_what_was_scored_around_what_was_not(scores: list[float | None]) -> None:
    async def judge(indices: Sequence[int]) -> float | None:
        [index] = indices
        return scores[index]

    order = asyncio.run(pointwise(len(scores), judge))
    assert sorted(order) == list(range(len(scores)))
    assert all(order[i] == i for i, score in enumerate(scores) if score is None)
    scored = [i for i in order if scores[i] is not None]
    assert scored == sorted(scored, key=lambda i: (-(scores[i] or 0.0), i))


def test_pointwise_asks_all_at_once() -> None:
    together, most = 0, 0

    async def judge(indices: Sequence[int]) -> float:
        nonlocal together, most
        together += 1
        most = max(most, together)
        await asyncio.sleep(0)
        together -= 1
        return indices[0]

    assert asyncio.run(pointwise(50, judge)) == list(range(50))[::-1]
    assert most == 50


@pytest.mark.parametrize(
    ("name", "kind", "n", "options", "cost"),
    [
        ("sliding", "permutation", 100, {"window_size": 20, "stride": 10, "passes": 1}, (9, 9, 180, 20)),
        ("sliding", "permutation", 100, {"window_size": 10, "stride": 5, "passes": 1}, (19, 19, 190, 10)),
        ("sliding", "permutation", 100, {"window_size": 20, "stride": 10, "passes": 2}, (17, 17, 340, 20)),
        ("sliding", "permutation", 1, {"window_size": 20, "stride": 10, "passes": 1}, (0, 0, 0, 0)),
        ("full", "permutation", 100, {}, (1, 1, 100, 100)),
        ("pointwise", "score", 100, {}, (100, 1, 100, 1)),
        ("pointwise", "score", 0, {}, (0, 0, 0, 0)),
    ],
)
def test_predicted_cost(name: str, kind: str, n: int, options: dict[str, Any], cost: tuple[int, int, int, int]) -> None:
    strategy, kinds = STRATEGIES[name]
    assert kind in kinds
    found = predict(strategy, JUDGES[kind], n, options)
    assert (found.calls, found.chain, found.shown, found.widest) == cost


def test_a_strategy_declares_its_settings_by_its_arguments() -> None:
    model = options_model(sliding)
    assert model().model_dump() == {"window_size": 20, "stride": 10, "passes": 1}
    with pytest.raises(UsageError, match=r"--rerank\.strategy\.windw_size is not known; did you mean 'window_size'\?"):
        validated(model, {"windw_size": 5}, "--rerank.strategy")
    with pytest.raises(UsageError, match=r"--rerank\.strategy\.window_size 1: .*greater than or equal to 2"):
        validated(model, {"window_size": 1}, "--rerank.strategy")
    assert options_model(full).model_fields == options_model(pointwise).model_fields == {}
