"""Iterative elimination: drop the worst until one is left (IRanker, arXiv 2506.21638, section 3)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pyserini_reasonrank.strategies.protocols import Drop


async def elimination(
    n: int,
    judge: Drop,
    *,
    window_size: Annotated[
        int | None, Field(ge=2, description="candidates shown in one call, the lowest left; all of them if not given")
    ] = None,
) -> list[int]:
    """The survivor first, then the dropped in reverse: exact for a consistent judge. All calls are one chain.

    A judge that drops m candidates a call is asked ceil((n - 1) / m) times: n - 1 in the published form, one by one.

    With ``window_size`` w those to go are chosen among the lowest that are left, so that a call stays short. Exact is
    then the top w - m; what has more candidates above it may end up anywhere below.
    """
    left, dropped = list(range(n)), list[int]()
    while len(left) > 1:
        for candidate in await judge(left if window_size is None else left[-window_size:]):
            left.remove(candidate)
            dropped.append(candidate)
    return left + dropped[::-1]
