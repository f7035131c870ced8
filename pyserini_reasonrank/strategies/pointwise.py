"""One question per candidate, all of them independent (Rank1, ERank)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pyserini_reasonrank.strategies.asking import Rate


async def pointwise(n: int, judge: Rate) -> list[int]:
    """Order ``n`` candidates by falling score; equal scores keep first-stage order.

    A candidate whose score could not be read keeps its rank, and the others are sorted around it.
    """
    return by_score(await asyncio.gather(*(judge([i]) for i in range(n))))


def by_score(scores: Sequence[float | None]) -> list[int]:
    """Indices by falling score, ties in their order; those without a score stay where they are."""
    ranked = iter(sorted((i for i, s in enumerate(scores) if s is not None), key=lambda i: -(scores[i] or 0.0)))
    return [i if s is None else next(ranked) for i, s in enumerate(scores)]
