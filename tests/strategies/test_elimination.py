"""Elimination: what one by one, several at once and windows leave exact, and in how many calls."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyserini_reasonrank.judges.worst import Worst
from pyserini_reasonrank.records import Completion, Sampling
from pyserini_reasonrank.strategies.elimination import elimination
from pyserini_reasonrank.strategies.protocols import Drop


def worst(drop: int) -> Worst:
    return Worst(Worst.Options(drop=drop), Sampling(), frozenset(), "")


def assessor(ranks: Sequence[int], judge: Worst, asked: list[list[int]]) -> Drop:
    """Knows the true ``ranks``, and answers through the judge's own ideal answer and reading of it."""

    async def ask(indices: Sequence[int], label: str = "") -> Sequence[int]:
        asked.append(list(indices))
        judgement = judge.read(Completion(judge.ideal([-ranks[i] for i in indices])), len(indices))
        return judge.outcome(judgement, indices)

    return ask


def eliminated(n: int, drop: int, window_size: int | None, seed: int = 0) -> tuple[list[int], list[list[int]]]:
    """The true ranks in the order found, and what was asked about."""
    ranks, asked = list(range(n)), list[list[int]]()
    random.Random(seed).shuffle(ranks)
    order = asyncio.run(elimination(n, assessor(ranks, worst(drop), asked), window_size=window_size))
    assert sorted(order) == list(range(n))
    return [ranks[i] for i in order], asked


@pytest.mark.parametrize("drop", [1, 2, 5, 19, 300])
@pytest.mark.parametrize("n", [*range(25), 50, 99, 100, 101, 200])
def test_every_rank_is_exact_and_every_call_drops_its_share(n: int, drop: int) -> None:
    found, asked = eliminated(n, drop, None, seed=n)
    assert found == list(range(n))
    assert len(asked) == ceil(max(n - 1, 0) / drop)
    assert [len(indices) for indices in asked] == list(range(n, 1, -drop))


@given(st.integers(0, 200), st.integers(1, 25), st.integers(2, 30), st.integers(0, 999))
def test_a_window_keeps_its_top_exact(n: int, drop: int, window_size: int, seed: int) -> None:
    found, asked = eliminated(n, drop, window_size, seed)
    at_once = min(drop, window_size - 1)
    exact = n if n <= window_size else window_size - at_once
    assert found[:exact] == list(range(exact))
    assert all(2 <= len(indices) <= window_size for indices in asked)
    assert len(asked) == ceil(max(n - 1, 0) / at_once)


def test_100_candidates_in_windows_of_20_dropping_5_take_20_calls() -> None:
    found, asked = eliminated(100, 5, 20)
    assert len(asked) == 20
    assert found[:15] == list(range(15))
    assert asked[0] == list(range(80, 100))


def test_the_survivor_is_first_and_dropped_candidates_are_reversed() -> None:
    found, asked = eliminated(4, 1, None)
    assert found == [0, 1, 2, 3]
    assert [len(indices) for indices in asked] == [4, 3, 2]
