"""A small reranker ranks all candidates, then a large one ranks the top of its order (CoRanking, arXiv 2503.23427)."""

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
    keep: Annotated[int, Field(ge=1, description="candidates that the large reranker ranks")] = 20,
    adjust: Annotated[
        Adjust,
        Field(description="order in which the large reranker sees them: that of the small one (none), worst first (reverse), "
              "or that of the arm `adjuster` (model)"),
    ] = "none",
    show: Annotated[
        Literal["segment", "document"],
        Field(description="what the large reranker reads of a document that the small one judged in segments: the best segment, "
              "or the document from its beginning"),
    ] = "segment",
) -> Ranked:  # fmt: skip
    """The large reranker's order of the small reranker's top ``keep``; the others keep the small reranker's order.

    If the large reranker gives no readable answer, the result is the small reranker's order. If the adjuster gives none, the
    large reranker sees the small reranker's order.
    """
    n = min(keep, len(request.candidates))
    if (depth := depth_of(arms["large"], n)) < n:
        raise UsageError(
            f"the large reranker's depth {depth} is less than combine.keep {keep}: set at least the same depth"
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
    best = {i: segment.passage for i, segment in small.segments.items()} if show == "segment" else {}
    large = await arms["large"](shown, prior=prior, passages=best)
    statuses.update(large.statuses)
    if large.undecided:
        return replace(small, statuses=statuses, notes={"top": "small"})
    order = (*(shown[position] for position in large.order), *small.order[keep:])
    return Ranked(
        order,
        statuses,
        confidence=large.confidence,
        reasoning=large.reasoning,
        notes={"top": "large"},
        segments=small.segments,
    )


def check(arms: Collection[str], where: str, *, keep: int, adjust: Adjust, show: str) -> list[str]:
    """UsageError if ``adjust`` needs an arm ``adjuster`` that is missing, or if there is one that it does not use."""
    if adjust == "model" and "adjuster" not in arms:
        raise UsageError(
            f"{where}.combine.adjust model needs an arm adjuster: set {where}.arms.adjuster.reranker order-adjuster"
        )
    if adjust != "model" and "adjuster" in arms:
        raise UsageError(f"{where}.arms.adjuster is not used: set {where}.combine.adjust model, or remove the arm")
    return []
