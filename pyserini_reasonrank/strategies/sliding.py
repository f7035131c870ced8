"""A sliding window from the end of the list to its head (RankGPT, ReasonRank)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

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


def stride_of(window_size: int, stride: int | None) -> int:
    """The ranks that the window moves up: half the window unless given. UsageError if windows do not overlap."""
    if stride is None:
        return max(window_size // 2, 1)
    if stride > window_size:
        raise UsageError(f"stride {stride} is larger than window_size {window_size}: candidates would be skipped")
    if stride == window_size:
        raise UsageError(
            f"stride {stride} equals window_size {window_size}: windows do not overlap, so no candidate can move up from "
            f"one window to the next; set a smaller stride, such as {max(window_size // 2, 1)}"
        )
    return stride


def with_stride(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of ``sliding`` with the stride that applies. UsageError if windows do not overlap."""
    return {**options, "stride": stride_of(options["window_size"], options["stride"])}


async def sliding(
    n: int,
    judge: Permute,
    *,
    window_size: Annotated[int, Field(ge=2, description="candidates shown in one call")] = 20,
    stride: Annotated[
        int | None, Field(ge=1, description="ranks the window moves up between calls [half the window]")
    ] = None,
    passes: Annotated[
        int, Field(ge=1, description="passes over the list; each one after the first stops `stride` ranks lower")
    ] = 1,
) -> list[int]:
    """Order ``n`` candidates window by window, from the lowest ranks up. All calls are one chain.

    With a consistent judge, the top ``window_size - stride`` are exact after one pass. Pass p, from 0, leaves the top
    ``stride * p`` ranks unchanged, as in the published code.
    """
    stride = stride_of(window_size, stride)
    order = list(range(n))
    for p in range(min(passes, -(-n // stride))):  # a further pass would have nothing to order
        for start, end in windows(n, window_size, stride, first=p * stride):
            order[start:end] = await judge(order[start:end], f"pass {p + 1}")
    return order
