"""A small reranker over all candidates, then a large one over the best of them (CoRanking, arXiv 2503.23427)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from pyserini_reasonrank.combine.arms import Arm
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.records import Ranked, Request


async def cascade(
    request: Request,
    arms: Mapping[str, Arm],
    *,
    keep: Annotated[int, Field(ge=1, description="candidates that go on to the large reranker")] = 20,
    adjust: Annotated[
        Literal["none", "reverse", "model"],
        Field(description="order in which the large one sees them: as the small one left them, worst first, or as the "
              "arm `adjuster` puts them"),
    ] = "none",
) -> Ranked:  # fmt: skip
    """The large reranker's order of the small one's top ``keep``; below them the small one's order.

    Where the large reranker gives no readable answer, the small one's order stands.
    """
    if adjust == "model" and "adjuster" not in arms:
        raise UsageError("combine.adjust model needs an arm `adjuster`: say --rerank.arms.adjuster.reranker NAME")
    small = list((await arms["small"](range(len(request.candidates)))).order)
    head = shown = small[:keep]
    if adjust == "reverse":
        shown = head[::-1]
    elif adjust == "model":
        shown = [head[position] for position in (await arms["adjuster"](head)).order]
    large = await arms["large"](shown)
    top = head if large.undecided else [shown[position] for position in large.order]
    return Ranked((*top, *small[keep:]), large.statuses, reasoning=large.reasoning)
