"""Every pair compared, Copeland scores (PRP-Allpair, arXiv 2306.17563)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import combinations


async def allpairs(n: int, judge: Callable[[Sequence[int]], Awaitable[float]]) -> list[int]:
    """Order by wins, a draw counting half; ties in first-stage order.

    ``judge`` gives the first of two candidates 1 for a win, 0.5 for a draw, 0 for a loss. n (n - 1) / 2 questions, all
    independent.
    """
    pairs = list(combinations(range(n), 2))
    wins = [0.0] * n
    for (i, j), share in zip(pairs, await asyncio.gather(*map(judge, pairs)), strict=True):
        wins[i] += share
        wins[j] += 1 - share
    return sorted(range(n), key=lambda i: (-wins[i], i))
