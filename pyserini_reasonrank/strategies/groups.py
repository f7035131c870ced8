"""Candidates are graded in groups; the groups are independent (GroupRank, arXiv 2511.11653)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from statistics import fmean
from typing import Annotated

from pydantic import Field

from pyserini_reasonrank.strategies.pointwise import by_score
from pyserini_reasonrank.strategies.protocols import Grade


async def groups(
    n: int,
    judge: Grade,
    prior: Sequence[int] | None = None,
    *,
    window_size: Annotated[int, Field(ge=1, description="maximum number of candidates in a group")] = 20,
    rounds: Annotated[
        int,
        Field(
            ge=1,
            le=32,
            description="times each candidate is graded, in groups shuffled for each round; its grades are averaged",
        ),
    ] = 1,
    seed: Annotated[int, Field(description="seed of the groups of several rounds")] = 929,
) -> list[int]:
    """Order ``n`` candidates by falling mean grade; ties keep first-stage order. rounds * ceil(n / window_size) questions, all
    independent.

    In a single round, candidate i goes to group i modulo the number of groups: each group has candidates of high and of low
    rank, so that grades are comparable between groups. A candidate without a grade in any round keeps its rank; the others
    are sorted around it.
    """
    asked = _spread(n, window_size) if rounds == 1 else _shuffled(n, window_size, rounds, seed)
    questions = (
        judge(group, f"group {number}" if rounds == 1 else f"round {turn + 1}, group {number}", again=turn)
        for turn, members in enumerate(asked)
        for number, group in enumerate(members, 1)
    )
    found = await asyncio.gather(*questions)
    grades: list[list[float]] = [[] for _ in range(n)]
    for group, answer in zip((group for members in asked for group in members), found, strict=True):
        for candidate, grade in zip(group, answer, strict=True):
            grades[candidate] += [] if grade is None else [grade]
    return by_score([fmean(given) if given else None for given in grades], prior)


def _spread(n: int, window_size: int) -> list[list[list[int]]]:
    count = -(-n // window_size)
    return [[list(range(group, n, count)) for group in range(count)]]


def _shuffled(n: int, window_size: int, rounds: int, seed: int) -> list[list[list[int]]]:
    """The groups of each round, slices of an order that is shuffled before each round."""
    order, chance, asked = list(range(n)), random.Random(seed), list[list[list[int]]]()
    for _ in range(rounds):
        chance.shuffle(order)
        asked.append([order[i : i + window_size] for i in range(0, n, window_size)])
    return asked
