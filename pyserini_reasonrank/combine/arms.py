"""The interface through which a combination calls a reranker: it ranks some candidates of one query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from pyserini_reasonrank.records import Candidate, Ranked


class Arm(Protocol):
    """A reranker, bound to one query. It ranks the first ``depth`` candidates; the others keep their order below them."""

    @property
    def depth(self) -> int: ...

    async def __call__(
        self,
        indices: Sequence[int],
        *,
        sample: int = 0,
        prior: Sequence[int] | None = None,
        passages: Mapping[int, Candidate] | None = None,
    ) -> Ranked:
        """Rank the candidates ``indices``, shown in this order. The positions of the result are those of ``indices``.

        Another ``sample`` requests new answers. ``prior`` has the same candidates in the order of tied and unranked ones, if
        the order shown carries no information (shuffled, or worst first). ``passages`` are read in place of these candidates,
        whose docids they have.
        """
        ...

    async def grade(self, texts: Sequence[str]) -> list[float | None]:
        """Grade texts other than the candidates, in one question. Only for arms whose judge grades."""
        ...


def depth_of(arm: Arm, n: int) -> int:
    """How many of ``n`` candidates an arm ranks."""
    return min(arm.depth, n)


def completed(ranked: Ranked, n: int) -> Ranked:
    """``ranked``, extended to ``n`` candidates: those below its depth keep their order."""
    return replace(ranked, order=(*ranked.order, *range(len(ranked.order), n)))
