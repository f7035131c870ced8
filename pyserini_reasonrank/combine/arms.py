"""What combinations know of a reranker: it ranks some candidates of one query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, Self

from pyserini_reasonrank.records import Ranked


class Shown(tuple[int, ...]):
    """Candidates in an order that says nothing of their worth, as a shuffled one; ``before`` is the order that does.

    What an arm leaves as it was, it leaves in the order before.
    """

    before: tuple[int, ...]

    def __new__(cls, indices: Sequence[int], before: Sequence[int]) -> Self:
        shown = super().__new__(cls, indices)
        shown.before = tuple(before)
        return shown


class Arm(Protocol):
    """A reranker, bound to one query. ``depth``: how many candidates it ranks, the others staying below as they were."""

    @property
    def depth(self) -> int: ...

    async def __call__(self, indices: Sequence[int], *, sample: int = 0) -> Ranked:
        """Rank the candidates ``indices``, shown in this order; the result's positions are those of ``indices``.

        Another ``sample`` asks anew, past any answer on record.
        """
        ...

    async def grade(self, texts: Sequence[str]) -> list[float | None]:
        """Grade texts other than the candidates, in one question: an arm whose judge grades."""
        ...


def depth_of(arm: Arm, n: int) -> int:
    """How many of ``n`` candidates, the first of them, an arm ranks."""
    return min(arm.depth, n)


def completed(ranked: Ranked, n: int) -> Ranked:
    """``ranked`` for ``n`` candidates: those below its depth stay below, as they were."""
    return replace(ranked, order=(*ranked.order, *range(len(ranked.order), n)))
