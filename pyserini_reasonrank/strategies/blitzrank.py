"""Tournaments whose results are put together: no call asks what earlier answers imply (BlitzRank, arXiv 2602.05448)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.strategies.preference_graph import PreferenceGraph
from pyserini_reasonrank.strategies.protocols import Permute

MOST_RELATIONS = 1_000_000
"""Candidates times ranks to determine: with more, the account of who is above whom takes seconds per query."""


async def blitzrank(
    n: int,
    judge: Permute,
    prior: Sequence[int] | None = None,
    *,
    window_size: Annotated[int, Field(ge=2, description="candidates shown in one call")] = 20,
    k: Annotated[int, Field(ge=1, description="top ranks to determine")] = 10,
) -> list[int]:
    """Order groups of candidates until the top k are known; the others follow by what is known of them.

    Each order is added to a preference graph, whose transitive closure says which ranks are certain (section 3). The next
    call shows the candidates with the fewest others above them whose rank is not certain, one of each group of ties: each
    call therefore decides something. Groups that no candidate shares are asked about at once. Exact for a consistent
    judge; answers that contradict each other make ties, which keep first-stage order. 7 to 8 calls for n=100, k=10.
    """
    if n * min(k, n) > MOST_RELATIONS:
        raise UsageError(
            f"k {k} of {n} candidates is too many to keep account of: set k to at most {MOST_RELATIONS // n}"
        )
    graph, places = PreferenceGraph(n), {candidate: place for place, candidate in enumerate(prior or range(n))}

    def ranked() -> list[int]:
        return sorted(range(n), key=lambda i: (graph.above(i), graph.below(i), places[i]))

    fresh, number = list(places), 1
    if n >= window_size:
        ends = range(window_size, n + 1, window_size)
        groups = [fresh[end - window_size : end] for end in ends]
        for order in await asyncio.gather(*(judge(group, "round 1") for group in groups)):
            graph.add(order)
        number = 2
    while not all(map(graph.placed, (candidates := ranked())[:k])):
        graph.add(await judge(_shown(candidates, graph, window_size), f"round {number}"))
        number += 1
    return sorted(range(n), key=lambda i: (graph.above(i), -graph.below(i), places[i]))


def _shown(candidates: Sequence[int], graph: PreferenceGraph, window_size: int) -> list[int]:
    """The first candidates whose rank is not certain, one of each group of ties."""
    shown, seen = list[int](), 0
    for candidate in candidates:
        if len(shown) < window_size and not graph.placed(candidate) and not seen >> candidate & 1:
            shown.append(candidate)
            seen |= graph.tied(candidate)
    return shown
