"""A sliding window from the end of the list to its head (RankGPT, ReasonRank)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.strategies.protocols import Permute


def windows(n: int, window_size: int, stride: int, first: int = 0) -> Iterator[tuple[int, int]]:
    """Yield the (start, end) of each window over the ranks ``first``..``n``, from the lowest ranks to ``first``."""
    end, start = n, max(first, n - window_size)
    while end - start > 1:
        yield start, end
        if start == first:
            return
        end, start = end - stride, max(first, start - stride)


async def sliding(
    n: int,
    judge: Permute,
    *,
    window_size: Annotated[int, Field(ge=2, description="candidates shown in one call")] = 20,
    stride: Annotated[int, Field(ge=1, description="ranks the window moves up between calls")] = 10,
    passes: Annotated[
        int, Field(ge=1, description="passes over the list; each one after the first stops `stride` ranks lower")
    ] = 1,
) -> list[int]:
    """Order ``n`` candidates window by window, from the lowest ranks up. All calls are one chain.

    With a consistent judge, the top ``window_size - stride`` are exact after one pass. Pass p, from 0, leaves the top
    ``stride * p`` ranks unchanged, as in the published code.
    """
    if stride > window_size:
        raise UsageError(f"stride {stride} is larger than window_size {window_size}: candidates would be skipped")
    order = list(range(n))
    for p in range(passes):
        for start, end in windows(n, window_size, stride, first=p * stride):
            order[start:end] = await judge(order[start:end], f"pass {p + 1}")
    return order
