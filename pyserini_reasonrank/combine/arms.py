"""What a combination knows of a reranker: it ranks some candidates of one query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from pyserini_reasonrank.records import Ranked


class Arm(Protocol):
    """A reranker, bound to one query. ``depth``: how many candidates it ranks; the others keep their order below."""

    @property
    def depth(self) -> int: ...

    async def __call__(self, indices: Sequence[int], *, sample: int = 0, prior: Sequence[int] | None = None) -> Ranked:
        """Rank the candidates ``indices``, shown in this order; the result's positions are those of ``indices``.

        Another ``sample`` requests new answers. ``prior`` has the same candidates in the order that ties and unranked
        candidates follow, where the order shown carries no information (shuffled, or worst first).
        """
        ...

    async def grade(self, texts: Sequence[str]) -> list[float | None]:
        """Grade texts other than the candidates, in one question: for an arm whose judge grades."""
        ...


def depth_of(arm: Arm, n: int) -> int:
    """How many of ``n`` candidates an arm ranks: the first of them."""
    return min(arm.depth, n)


def completed(ranked: Ranked, n: int) -> Ranked:
    """``ranked``, extended to ``n`` candidates: those below its depth follow in their own order."""
    return replace(ranked, order=(*ranked.order, *range(len(ranked.order), n)))
