"""Tournaments: candidates that are best in their group go on to the next stage and get a point (TourRank)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from math import isqrt
from typing import Annotated

from pydantic import Field

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.strategies.protocols import Select


def stages(n: int, window_size: int) -> list[tuple[int, int]]:
    """(groups, survivors of each group) for every stage of a tournament of ``n`` candidates.

    For n=100 and window_size=20 these are the published stages: 5 groups keep 10, 5 keep 4, 1 keeps 10, 1 keeps 5, 1 keeps
    2. For n=2 one of the two is kept.
    """
    if n == 2:
        return [(1, 1)]
    plan, left, first = list[tuple[int, int]](), n, -(-n // window_size)
    while left > 2:
        if first == 1:
            keep = max(left // 2, 2)
            plan.append((1, keep))
        elif not plan:
            keep = window_size // 2
            plan.append((first, keep))
        else:
            keep = max(window_size // first, 1)
            plan.append((first, keep))
            first = 1
        groups = plan[-1][0]
        left = sum(min(keep, len(range(g, left, groups))) for g in range(groups))
    return plan


async def tournament(
    n: int,
    judge: Select,
    prior: Sequence[int] | None = None,
    *,
    window_size: Annotated[int, Field(ge=4, description="maximum number of candidates in a group")] = 20,
    tournaments: Annotated[int, Field(ge=1, description="independent tournaments, whose points are added")] = 1,
    seed: Annotated[int, Field(description="seed of the order inside the groups")] = 929,
) -> list[int]:
    """Order by points; ties keep first-stage order. 13 calls per tournament for n=100, in a chain of 5 for all tournaments."""
    if n > window_size * window_size:
        raise UsageError(
            f"window_size {window_size} is too small for a tournament of {n} candidates: set at least {isqrt(n - 1) + 1}"
        )

    points, left = [0] * n, [list(range(n))] * tournaments
    shufflers = [random.Random(seed + number) for number in range(tournaments)]
    for stage, (groups, keep) in enumerate(stages(n, window_size), 1):
        # all tournaments proceed stage by stage, so that the questions do not depend on the time that answers take
        members = [survivors[g::groups] for survivors in left for g in range(groups)]
        for i, group in enumerate(members):
            shufflers[i // groups].shuffle(group)
        found = await asyncio.gather(
            *(
                judge(group, f"tournament {i // groups + 1}, stage {stage}", keep) if len(group) > keep else _all(group)
                for i, group in enumerate(members)
            )
        )
        left = [
            sorted(c for order in found[first : first + groups] for c in order[:keep])
            for first in range(0, len(found), groups)
        ]
        for c in (c for survivors in left for c in survivors):
            points[c] += 1
    return sorted(prior or range(n), key=lambda i: -points[i])


async def _all(group: Sequence[int]) -> Sequence[int]:
    return group
