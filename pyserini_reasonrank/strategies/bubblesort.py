"""Setwise bubble sort, the plain and exact one: k passes carry the best of each window from the tail to the head."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pyserini_reasonrank.strategies.protocols import Choose


async def bubblesort(
    n: int,
    judge: Choose,
    *,
    children: Annotated[int, Field(ge=1, description="candidates a window holds beside its head")] = 19,
    k: Annotated[int, Field(ge=1, description="ranks to find; the others stay as the windows left them")] = 10,
) -> list[int]:
    """The top ``k``, one a pass, exact for a consistent judge. 54 calls in a chain for n=100, children=19, k=10.

    The published variant remembers where nothing moved and so skips comparisons it needs; this one does not.
    """
    order = list(range(n))
    for done in range(min(k, n - 1)):
        start = n - children - 1
        while True:
            head = max(start, done)
            end = min(start + children + 1, n)
            window = order[head:end]
            if len(window) > 1:
                best = order.index(await judge(window, f"rank {done + 1}"))
                order[head], order[best] = order[best], order[head]
            if head == done:
                break
            start -= children
    return order
