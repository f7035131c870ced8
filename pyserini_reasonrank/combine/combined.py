"""A combination of rerankers as a ranker: binds the arms to each query, and gives each call of an arm its own name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pyserini_reasonrank.combine import Combination
from pyserini_reasonrank.combine.arms import completed
from pyserini_reasonrank.ir.fusion import Fusion
from pyserini_reasonrank.records import Candidate, Ranked, Request
from pyserini_reasonrank.rerankers.reranker import Ranker
from pyserini_reasonrank.rerankers.scheduling import together


@dataclass(frozen=True, slots=True)
class ArmRanker:
    """A ranker as an arm, with the number of candidates that it ranks, and the fusion with first-stage scores."""

    ranker: Ranker
    depth: int
    fusion: Fusion


class CombinedRanker(Ranker):
    """Rankers by name, and the combination that calls them.

    It ignores ``prior``: candidates that its arms do not rank keep the order of the request.
    """

    def __init__(self, combination: Combination, options: Mapping[str, Any], arms: Mapping[str, ArmRanker]) -> None:
        self._combination, self._options, self._arms = combination, options, arms
        self.tallies = {
            joined(name, part): tally for name, arm in arms.items() for part, tally in arm.ranker.tallies.items()
        }

    async def rank(
        self,
        request: Request,
        *,
        part: str = "",
        samples: tuple[int, ...] = (),
        prior: Sequence[int] | None = None,
    ) -> Ranked:
        async with together() as spawn:
            arms = {
                name: _BoundArm(arm, request, joined(part, name), samples, spawn) for name, arm in self._arms.items()
            }
            ranked: Ranked = await spawn(self._combination(request, arms, **self._options))
        return ranked

    async def grade(self, request: Request, *, part: str = "") -> list[float | None]:
        raise NotImplementedError("a combination of rerankers does not grade")


@dataclass
class _BoundArm:
    """An arm bound to a query. Its second call has the part name ``name#2``, so that every question has its own key."""

    arm: ArmRanker
    request: Request
    part: str
    samples: tuple[int, ...]
    spawn: Callable[[Coroutine[Any, Any, Any]], Any]
    calls: Counter[str] = field(default_factory=Counter)

    @property
    def depth(self) -> int:
        return self.arm.depth

    async def __call__(
        self,
        indices: Sequence[int],
        *,
        sample: int = 0,
        prior: Sequence[int] | None = None,
        passages: Mapping[int, Candidate] | None = None,
    ) -> Ranked:
        shown, read = indices[: self.depth], passages or {}
        candidates = tuple(read.get(i, self.request.candidates[i]) for i in shown)
        request = replace(self.request, candidates=candidates)
        positions = None
        if prior is not None:
            position_of = {candidate: position for position, candidate in enumerate(shown)}
            positions = [position_of[candidate] for candidate in prior if candidate in position_of]
        samples = (*self.samples, sample)
        ranked: Ranked = await self.spawn(
            self.arm.ranker.rank(request, part=self._next_part(), samples=samples, prior=positions)
        )
        if shown:
            order = self.arm.fusion.order(ranked, [c.score for c in request.candidates])
            ranked = replace(ranked, order=order)
        return completed(ranked, len(indices))

    async def grade(self, texts: Sequence[str]) -> list[float | None]:
        name, docids = "text", {candidate.docid for candidate in self.request.candidates}
        while any(f"{name} {i}" in docids for i in range(1, len(texts) + 1)):
            name += "*"  # these judgements must not read as those of candidates
        items = tuple(Candidate(f"{name} {i}", 0.0, text) for i, text in enumerate(texts, 1))
        request = replace(self.request, candidates=items)
        grades: list[float | None] = await self.spawn(self.arm.ranker.grade(request, part=self._next_part()))
        return grades

    def _next_part(self) -> str:
        self.calls[self.part] += 1
        times = self.calls[self.part]
        return self.part if times == 1 else f"{self.part}#{times}"


def joined(outer: str, inner: str) -> str:
    """The name of a part within a part."""
    return "/".join(filter(None, (outer, inner)))
