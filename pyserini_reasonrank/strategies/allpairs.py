"""All pairs are compared, in both orders, and wins are counted (PRP-Allpair, arXiv 2306.17563)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import permutations

from pyserini_reasonrank.strategies.protocols import Choose


async def allpairs(n: int, judge: Choose, prior: Sequence[int] | None = None) -> list[int]:
    """Order by number of wins; ties keep first-stage order. n (n - 1) questions, all independent.

    Each pair is shown in both orders. If the two answers contradict each other, each candidate has one win.
    """
    pairs = list(permutations(range(n), 2))
    wins = [0] * n
    for winner in await asyncio.gather(*map(judge, pairs)):
        wins[winner] += 1
    return sorted(prior or range(n), key=lambda i: -wins[i])
