"""One question per candidate, all of them independent (Rank1, ERank)."""

from __future__ import annotations

import asyncio

from pyserini_reasonrank.strategies.asking import Rate


async def pointwise(n: int, judge: Rate) -> list[int]:
    """Order ``n`` candidates by falling score; equal scores keep first-stage order.

    A candidate whose score could not be read keeps its rank, and the others are sorted around it.
    """
    scores = await asyncio.gather(*(judge([i]) for i in range(n)))
    ranked = iter(sorted((i for i in range(n) if scores[i] is not None), key=lambda i: -(scores[i] or 0.0)))
    return [i if scores[i] is None else next(ranked) for i in range(n)]
