"""Setwise bubble sort: each of k passes moves the best candidate from window to window to the head of the list."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from pyserini_reasonrank.strategies.protocols import Choose


async def bubblesort(
    n: int,
    judge: Choose,
    *,
    children: Annotated[int, Field(ge=1, description="candidates in a window besides its head")] = 19,
    k: Annotated[
        int, Field(ge=1, description="top ranks to determine; the others keep the order in which the passes leave them")
    ] = 10,
    both_orders: Annotated[
        bool,
        Field(description="show each window in both orders; its head is replaced only if both answers agree (PRP)"),
    ] = False,
) -> list[int]:
    """The top ``k``, exact for a consistent judge. 54 calls in a chain for n=100, children=19, k=10.

    The published variant skips windows in which the previous pass moved nothing, and so misses necessary comparisons.
    This one compares all windows.

    With ``both_orders`` and children=1 it is PRP-Sliding-K for K = k (arXiv 2306.17563): two independent questions per pair.
    """

    async def best_of(window: Sequence[int], label: str) -> int:
        if not both_orders:
            return await judge(window, label)
        answers = await asyncio.gather(judge(window, label), judge(window[::-1], label))
        return answers[0] if answers[0] == answers[1] else window[0]

    order = list(range(n))
    for done in range(min(k, n - 1)):
        start = n - children - 1
        while True:
            head = max(start, done)
            end = min(start + children + 1, n)
            window = order[head:end]
            if len(window) > 1:
                best = order.index(await best_of(window, f"rank {done + 1}"))
                order[head], order[best] = order[best], order[head]
            if head == done:
                break
            start -= children
    return order
