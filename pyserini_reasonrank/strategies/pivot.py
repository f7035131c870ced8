"""Top-down partitioning by a pivot (TDPart), modified so that the top k are exact for a consistent judge."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.strategies.protocols import Permute
from pyserini_reasonrank.strategies.sliding import sliding


async def pivot(
    n: int,
    judge: Permute,
    *,
    window_size: Annotated[int, Field(ge=3, description="candidates shown in one call")] = 20,
    k: Annotated[int, Field(ge=1, description="top ranks to determine")] = 10,
    rounds: Annotated[
        int, Field(ge=1, description="maximum number of partitions, after which a sliding window orders the rest")
    ] = 8,
) -> list[int]:
    """Sort the top window, take its k-th candidate as pivot, and compare it with all others in independent groups.

    Candidates that beat the pivot are partitioned again; the others are ranked below it, those of later rounds above those
    of earlier rounds. 7 to 10.5 calls in a chain of 3 to 5.6 for n=100. With an inconsistent judge, ``rounds`` limits the
    number of calls.
    """
    if k >= window_size:
        raise UsageError(
            f"k {k} has to be less than window_size {window_size}: the pivot is the k-th candidate of a window"
        )
    left, tail = list(range(n)), list[int]()
    for number in range(1, rounds + 1):
        label = f"round {number}"
        if len(left) <= window_size:
            return [*(await judge(left, label) if len(left) > 1 else left), *tail]
        top = list(await judge(left[:window_size], label))
        middle, above, below = top[k - 1], top[: k - 1], top[k:]
        groups = [left[i : i + window_size - 1] for i in range(window_size, len(left), window_size - 1)]
        # the position of the pivot varies between groups, since models prefer some positions
        asked = [[*g[: (spot := 7 * i % (len(g) + 1))], middle, *g[spot:]] for i, g in enumerate(groups)]
        found = await asyncio.gather(*(judge(group, label) for group in asked))
        better = [c for order in found for c in order[: list(order).index(middle)]]
        below += [c for order in found for c in order[list(order).index(middle) + 1 :]]
        if not better:
            return [*above, middle, *below, *tail]
        left, tail = above + better, [middle, *below, *tail]

    async def of_left(places: Sequence[int], label: str = "") -> list[int]:
        order = await judge([left[i] for i in places], label)
        return [left.index(c) for c in order]

    order = await sliding(len(left), of_left, window_size=window_size, stride=max(window_size // 2, 1))
    return [*(left[i] for i in order), *tail]
