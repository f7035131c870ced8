"""The whole list in one call (DRanker, and any long-context listwise ranker)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence


async def full(n: int, judge: Callable[[Sequence[int]], Awaitable[Sequence[int]]]) -> list[int]:
    """Order ``n`` candidates by one question that shows all of them."""
    order = list(range(n))
    return list(await judge(order)) if n > 1 else order
