"""A small reranker over all candidates, then a large one over the best of them (CoRanking, arXiv 2503.23427)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from pyserini_reasonrank.combine.arms import Arm, depth_of
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.records import Ranked, Request, Status

Adjust = Literal["none", "reverse", "model"]


async def cascade(
    request: Request,
    arms: Mapping[str, Arm],
    *,
    keep: Annotated[int, Field(ge=1, description="candidates that go on to the large reranker")] = 20,
    adjust: Annotated[
        Adjust,
        Field(description="order in which the large one sees them: as the small one left them, worst first, or as the "
              "arm `adjuster` puts them"),
    ] = "none",
) -> Ranked:  # fmt: skip
    """The large reranker's order of the small one's top ``keep``; below them the small one's order.

    Where the large reranker gives no readable answer, the small one's order stands, whatever the large one was shown;
    where the adjuster gives none, the large one sees the small one's order.
    """
    n = min(keep, len(request.candidates))
    if (depth := depth_of(arms["large"], n)) < n:
        raise UsageError(
            f"the large reranker's depth {depth} is less than combine.keep {keep}: it would not rank all that it is shown"
        )
    small = await arms["small"](range(len(request.candidates)))
    statuses: Counter[Status] = Counter(small.statuses)
    head = shown = small.order[:keep]
    prior: Sequence[int] | None = None
    if adjust == "reverse":
        shown, prior = head[::-1], head
    elif adjust == "model":
        adjusted = await arms["adjuster"](head)
        statuses.update(adjusted.statuses)
        shown, prior = tuple(head[position] for position in adjusted.order), head
    large = await arms["large"](shown, prior=prior)
    statuses.update(large.statuses)
    if large.undecided:
        return replace(small, statuses=statuses, notes={"top": "small"})
    order = (*(shown[position] for position in large.order), *small.order[keep:])
    return Ranked(order, statuses, confidence=large.confidence, reasoning=large.reasoning, notes={"top": "large"})


def check(arms: Collection[str], where: str, *, keep: int, adjust: Adjust) -> list[str]:
    """UsageError if the order is to be adjusted by no arm, or an arm is there to adjust nothing."""
    if adjust == "model" and "adjuster" not in arms:
        raise UsageError(
            f"{where}.combine.adjust model needs an arm adjuster: say {where}.arms.adjuster.reranker order-adjuster"
        )
    if adjust != "model" and "adjuster" in arms:
        raise UsageError(f"{where}.arms.adjuster is asked nothing: say {where}.combine.adjust model")
    return []
