"""Setwise heap sort: a c-ary heap, in which the judge picks the best of a node and its children (Rank-R1, section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from pyserini_reasonrank.strategies.protocols import Choose


async def heapsort(
    n: int,
    judge: Choose,
    prior: Sequence[int] | None = None,
    *,
    children: Annotated[
        int, Field(ge=1, description="children of a node; a call shows the node and its children")
    ] = 19,
    k: Annotated[int, Field(ge=1, description="top ranks to determine; the others keep first-stage order")] = 10,
) -> list[int]:
    """The top ``k`` by extraction from a heap, exact for a consistent judge; the others keep first-stage order.

    All calls are one chain: about 23 for n=100, children=19, k=10.
    """
    heap = list(range(n))

    async def sift(node: int, size: int, label: str) -> None:
        while (first := children * node + 1) < size:
            family = [node, *range(first, min(first + children, size))]
            winner = await judge([heap[i] for i in family], label)
            place = next(i for i in family if heap[i] == winner)
            if place == node:
                return
            heap[node], heap[place] = heap[place], heap[node]
            node = place

    for node in range(n // children, -1, -1):
        await sift(node, n, "heap")
    found: list[int] = []
    for size in range(n - 1, max(n - 1 - k, -1), -1):
        found.append(heap[0])
        heap[0], heap[size] = heap[size], heap[0]
        if len(found) < min(k, n):
            await sift(0, size, f"rank {len(found) + 1}")
    return [*found, *(i for i in prior or range(n) if i not in set(found))]
