"""Iterative elimination: drop the worst until one is left (IRanker, arXiv 2506.21638, section 3)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated

from pydantic import Field


async def elimination(
    n: int,
    judge: Callable[[Sequence[int]], Awaitable[int]],
    *,
    window_size: Annotated[
        int | None, Field(ge=2, description="candidates shown in one call, the lowest left; all of them if not given")
    ] = None,
) -> list[int]:
    """The survivor first, then the dropped in reverse. n - 1 calls in one chain.

    With ``window_size`` the candidate to go is chosen among the lowest that are left, so that a call stays short; the
    top ``window_size`` are then judged against one another as in the published form.
    """
    left, dropped = list(range(n)), list[int]()
    while len(left) > 1:
        worst = await judge(left if window_size is None else left[-window_size:])
        left.remove(worst)
        dropped.append(worst)
    return left + dropped[::-1]
