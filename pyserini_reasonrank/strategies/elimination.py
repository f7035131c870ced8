"""Iterative elimination: drop the worst until one is left (IRanker, arXiv 2506.21638, section 3)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated

from pydantic import Field

Drop = Callable[[Sequence[int]], Awaitable[Sequence[int]]]
"""Asks which candidates go: at least one of them, the worst first, and never all."""


async def elimination(
    n: int,
    judge: Drop,
    *,
    window_size: Annotated[
        int | None, Field(ge=2, description="candidates shown in one call, the lowest left; all of them if not given")
    ] = None,
) -> list[int]:
    """The survivor first, then the dropped in reverse; all calls are one chain. Exact for a consistent judge.

    A judge that drops m candidates a call needs ceil((n - 1) / m) calls: n - 1 in the published form, where m is 1.

    With ``window_size`` w those to go are chosen among the lowest that are left, so that a call stays short. Of a
    candidate with w - m better ones or more anything may then become; the top w - m stay exact.
    """
    left, dropped = list(range(n)), list[int]()
    while len(left) > 1:
        for candidate in await judge(left if window_size is None else left[-window_size:]):
            left.remove(candidate)
            dropped.append(candidate)
    return left + dropped[::-1]
