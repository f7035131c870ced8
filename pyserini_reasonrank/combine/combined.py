"""A combination of rerankers as a reranker: its arms bound to each query, every call they make told apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pyserini_reasonrank.combine import Combination
from pyserini_reasonrank.combine.arms import Shown, completed
from pyserini_reasonrank.orders.fusion import Fusion
from pyserini_reasonrank.records import Candidate, Ranked, Request
from pyserini_reasonrank.rerankers.reranker import Ranker
from pyserini_reasonrank.rerankers.scheduling import together


class Combined(Ranker):
    """Rerankers by name, and what combines them. ``depths``: how many candidates each of them ranks; ``fusions``: with the
    first stage's scores, of each of them.

    Of an order ``before`` the one it is given it takes no notice: what its arms leave, they leave as it was given.
    """

    def __init__(
        self,
        *,
        combination: Combination,
        options: Mapping[str, Any],
        arms: Mapping[str, Ranker],
        depths: Mapping[str, int],
        fusions: Mapping[str, Fusion],
    ) -> None:
        self._combination, self._options = combination, options
        self._arms, self._depths, self._fusions = arms, depths, fusions
        self.tallies = {joined(name, part): tally for name, arm in arms.items() for part, tally in arm.tallies.items()}

    async def rank(
        self, request: Request, *, part: str = "", sample: int = 0, before: Sequence[int] | None = None
    ) -> Ranked:
        async with together() as spawn:
            arms = {
                name: _Bound(arm, self._depths[name], self._fusions[name], request, joined(part, name), sample, spawn)
                for name, arm in self._arms.items()
            }
            ranked: Ranked = await spawn(self._combination(request, arms, **self._options))
        return ranked

    async def grade(self, request: Request, *, part: str = "") -> list[float | None]:
        raise NotImplementedError("a combination of rerankers does not grade")


@dataclass
class _Bound:
    """An arm. Its second call for a query is a part of its own, ``name#2``, so that no two questions look alike."""

    ranker: Ranker
    depth: int
    fusion: Fusion
    request: Request
    part: str
    sample: int
    spawn: Callable[[Coroutine[Any, Any, Any]], Any]
    used: Counter[str] = field(default_factory=Counter)

    async def __call__(self, indices: Sequence[int], *, sample: int = 0) -> Ranked:
        shown = indices[: self.depth]
        given = replace(self.request, candidates=tuple(self.request.candidates[i] for i in shown))
        before = None
        if isinstance(indices, Shown):
            place = {candidate: position for position, candidate in enumerate(shown)}
            before = [place[candidate] for candidate in indices.before if candidate in place]
        ranked: Ranked = await self.spawn(
            self.ranker.rank(given, part=self._part(), sample=100 * self.sample + sample, before=before)
        )
        if shown:
            order = self.fusion.order(ranked, [c.score for c in given.candidates])
            ranked = replace(ranked, order=order)
        return completed(ranked, len(indices))

    async def grade(self, texts: Sequence[str]) -> list[float | None]:
        items = tuple(Candidate(f"text {i}", 0.0, text) for i, text in enumerate(texts, 1))
        grades: list[float | None] = await self.spawn(
            self.ranker.grade(replace(self.request, candidates=items), part=self._part())
        )
        return grades

    def _part(self) -> str:
        self.used[self.part] += 1
        times = self.used[self.part]
        return self.part if times == 1 else f"{self.part}#{times}"


def joined(outer: str, inner: str) -> str:
    """The name of a part within a part."""
    return "/".join(filter(None, (outer, inner)))
