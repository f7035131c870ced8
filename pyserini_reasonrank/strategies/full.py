"""The whole list in one call (DRanker and other long-context listwise rerankers)."""

from __future__ import annotations

from pyserini_reasonrank.strategies.protocols import Permute


async def full(n: int, judge: Permute) -> list[int]:
    """Order ``n`` candidates with one question that shows all of them."""
    order = list(range(n))
    return list(await judge(order)) if n > 1 else order
