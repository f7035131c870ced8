"""Every pair compared in both orders, wins counted (PRP-Allpair, arXiv 2306.17563)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import permutations

from pyserini_reasonrank.strategies.protocols import Choose


async def allpairs(n: int, judge: Choose, prior: Sequence[int] | None = None) -> list[int]:
    """Order by wins; ties in first-stage order. n (n - 1) questions, all independent.

    Each pair is shown both ways round; a judge that contradicts itself gives each of the two half a win.
    """
    asked = list(permutations(range(n), 2))
    wins = [0] * n
    for winner in await asyncio.gather(*map(judge, asked)):
        wins[winner] += 1
    return sorted(prior or range(n), key=lambda i: -wins[i])
