"""What combinations know of a reranker: it ranks some candidates of one query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from pyserini_reasonrank.records import Ranked


class Arm(Protocol):
    """A reranker, bound to one query."""

    async def __call__(self, indices: Sequence[int], *, sample: int = 0) -> Ranked:
        """Rank the candidates ``indices``, shown in this order; the result's positions are those of ``indices``.

        Another ``sample`` asks anew, past any answer on record.
        """
        ...

    async def grade(self, texts: Sequence[str]) -> list[float | None]:
        """Grade texts other than the candidates, in one question: an arm whose judge grades."""
        ...


def completed(ranked: Ranked, n: int) -> Ranked:
    """``ranked`` for ``n`` candidates: those below its depth stay below, as they were."""
    return replace(ranked, order=(*ranked.order, *range(len(ranked.order), n)))
