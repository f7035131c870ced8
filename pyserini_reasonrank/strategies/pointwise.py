"""One question per candidate, all independent (Rank1, ERank)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pyserini_reasonrank.strategies.protocols import Rate


async def pointwise(n: int, judge: Rate, prior: Sequence[int] | None = None) -> list[int]:
    """Order ``n`` candidates by falling score; equal scores keep first-stage order.

    A candidate without a readable score keeps its rank; the others are sorted around it.
    """
    return by_score(await asyncio.gather(*(judge([i]) for i in range(n))), prior)


def by_score(scores: Sequence[float | None], prior: Sequence[int] | None = None) -> list[int]:
    """Indices by falling score; ties keep their order, or that of ``prior``. Those without a score keep their rank."""
    order = prior or range(len(scores))
    ranked = iter(sorted((i for i in order if scores[i] is not None), key=lambda i: -(scores[i] or 0.0)))
    return [i if scores[i] is None else next(ranked) for i in order]
