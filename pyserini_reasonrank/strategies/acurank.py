"""Calls where the order is uncertain, until it is not (AcuRank, arXiv 2505.18512)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from pyserini_reasonrank.strategies.protocols import Permute
from pyserini_reasonrank.strategies.skills import MEAN, Belief, threshold_of, updated

SPREAD = 0.49
"""How far apart the first and the last candidate of the first stage are at the beginning (the release's value)."""


def first_belief(place: int, n: int) -> Belief:
    """The relevance of the candidate at ``place`` of the first stage before any call, as the release sets it by rank."""
    mean = MEAN + SPREAD / max(n - 1, 1) * ((n - 1) / 2 - place)
    return Belief(mean, (mean / 3) ** 2)


async def acurank(
    n: int,
    judge: Permute,
    prior: Sequence[int] | None = None,
    *,
    window_size: Annotated[int, Field(ge=2, description="maximum number of candidates in a group")] = 20,
    k: Annotated[int, Field(ge=1, description="top ranks to determine")] = 10,
    tolerance: Annotated[
        float,
        Field(
            gt=0,
            lt=0.5,
            description="a candidate is certain if its probability to be in the top k is this close to 0 or 1",
        ),
    ] = 0.01,
    uncertain: Annotated[int, Field(ge=1, description="a last round is made when fewer candidates are uncertain")] = 10,
    calls: Annotated[int, Field(ge=1, description="maximum number of calls after the first round")] = 100,
) -> list[int]:
    """Order by the mean of each candidate's relevance, a normal distribution that every order of a group updates.

    The first round shows all candidates once. Further rounds show those whose place in the top k is uncertain, the most
    probable ones together. When few are left, a last round shows all that are not certainly outside of the top k
    (algorithm 1). Groups of a round are independent; a candidate that is left alone in one is not shown. With at most
    ``window_size`` candidates, one call decides.
    """  # fmt: skip
    order = list(prior or range(n))
    places = {candidate: place for place, candidate in enumerate(order)}
    beliefs = [first_belief(places[candidate], n) for candidate in range(n)]

    async def show(candidates: Sequence[int], label: str, most: int = n) -> int:
        """Ask about groups of the candidates. Returns the number of calls."""
        groups = [candidates[i : i + window_size] for i in range(0, len(candidates), window_size)]
        groups = [group for group in groups if len(group) > 1][:most]
        for found in await asyncio.gather(*(judge(group, label) for group in groups)):
            for candidate, belief in zip(found, updated([beliefs[c] for c in found]), strict=True):
                beliefs[candidate] = belief
        return len(groups)

    def ranked() -> list[int]:
        return sorted(order, key=lambda c: (-beliefs[c].mean, places[c]))

    await show(order, "round 1")
    asked, number, last = 0, 2, n <= window_size
    while not last and asked < calls:
        threshold = threshold_of(beliefs, k)
        chance = [belief.above(threshold) for belief in beliefs]
        likely = sorted(order, key=lambda c: (-chance[c], places[c]))
        shown = [c for c in likely if tolerance < chance[c] < 1 - tolerance]
        if last := len(shown) < max(uncertain, 2):  # a single one can't be compared with anything
            shown = [c for c in likely if chance[c] > tolerance]
        asked += await show(shown, f"round {number}", calls - asked)
        number += 1
    return ranked()
