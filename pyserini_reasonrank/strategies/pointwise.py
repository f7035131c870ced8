"""One question per candidate, all of them independent (Rank1, ERank)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pyserini_reasonrank.strategies.protocols import Rate


async def pointwise(n: int, judge: Rate, prior: Sequence[int] | None = None) -> list[int]:
    """Order ``n`` candidates by falling score; equal scores keep first-stage order.

    A candidate whose score could not be read keeps its rank, and the others are sorted around it.
    """
    return by_score(await asyncio.gather(*(judge([i]) for i in range(n))), prior)


def by_score(scores: Sequence[float | None], prior: Sequence[int] | None = None) -> list[int]:
    """Indices by falling score, ties in their order, or in that of ``prior``; those without a score stay where they are."""
    order = prior or range(len(scores))
    ranked = iter(sorted((i for i in order if scores[i] is not None), key=lambda i: -(scores[i] or 0.0)))
    return [i if scores[i] is None else next(ranked) for i in order]
