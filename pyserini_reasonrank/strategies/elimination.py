"""Iterative elimination: drop the worst candidates until one is left (IRanker, arXiv 2506.21638, section 3)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pyserini_reasonrank.strategies.protocols import Drop


async def elimination(
    n: int,
    judge: Drop,
    *,
    window_size: Annotated[
        int | None, Field(ge=2, description="candidates shown in one call: the lowest remaining ones; all by default")
    ] = None,
) -> list[int]:
    """The survivor, then the dropped candidates in reverse order: exact for a consistent judge. All calls are one chain.

    A judge that drops m candidates per call needs ceil((n - 1) / m) calls; the published form drops one per call.

    With ``window_size`` w, the judge sees only the lowest w remaining candidates, which keeps prompts short. Then only the
    top w - m are exact.
    """
    left, dropped = list(range(n)), list[int]()
    while len(left) > 1:
        for candidate in await judge(left if window_size is None else left[-window_size:]):
            left.remove(candidate)
            dropped.append(candidate)
    return left + dropped[::-1]
