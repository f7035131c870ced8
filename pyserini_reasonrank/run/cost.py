"""What a reranker will cost before anything is loaded: its strategy is rehearsed with questions that are only counted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(slots=True)
class PartCost:
    """What one reranker asks about one query: questions, the calls they take, passages shown in all and at most.

    ``instead``: it is asked in place of a dearer one, so it counts in no total.
    """

    questions: int = 0
    calls: int = 0
    shown: int = 0
    widest: int = 0
    instead: bool = False


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one query. ``chain``: the longest chain of dependent calls. ``parts``: by reranker, where several combine.

    Of rerankers one of which is asked, the totals count the dearest.
    """

    chain: int
    parts: Mapping[str, PartCost] = field(default_factory=dict)

    @property
    def questions(self) -> int:
        return sum(part.questions for part in self.parts.values() if not part.instead)

    @property
    def calls(self) -> int:
        return sum(part.calls for part in self.parts.values() if not part.instead)

    @property
    def shown(self) -> int:
        return sum(part.shown for part in self.parts.values() if not part.instead)

    @property
    def widest(self) -> int:
        return max((part.widest for part in self.parts.values()), default=0)


class Meter:
    """Counts the questions of a rehearsal. All that can be asked at once count as one link of the chain."""

    def __init__(self) -> None:
        self.parts: dict[str, PartCost] = {}
        self.chain = 0
        self._waiting: list[tuple[asyncio.Future[None], int]] = []

    async def question(self, part: str, shown: int, *, calls: int, chain: int | None = None, votes: int = 1) -> None:
        """A question about ``shown`` passages, asked ``votes`` times side by side; ``chain`` of its ``calls`` wait for
        one another, all if not given."""
        cost = self.parts.setdefault(part, PartCost())
        cost.questions += votes
        cost.calls += votes * calls
        cost.shown += votes * calls * shown
        cost.widest = max(cost.widest, shown)
        answered = asyncio.get_running_loop().create_future()
        self._waiting.append((answered, calls if chain is None else chain))
        await answered

    async def dearest[R](self, alternatives: Sequence[Callable[[Meter], Awaitable[R]]]) -> R:
        """Rehearse what only one of will take place: the one with the most calls. The others are put down as ``instead``."""
        costs = [rehearse(alternative) for alternative in alternatives]
        chosen = max(range(len(costs)), key=lambda i: costs[i].calls)
        for i, cost in enumerate(costs):
            if i != chosen:
                self.parts |= {name: replace(part, instead=True) for name, part in cost.parts.items()}
        return await alternatives[chosen](self)

    async def run(self, rehearsal: Awaitable[Any]) -> Cost:
        task = asyncio.ensure_future(rehearsal)
        while not task.done():
            known = -1
            while known != len(self._waiting) and not task.done():  # until everything that can ask has asked
                known = len(self._waiting)
                for _ in range(8):
                    await asyncio.sleep(0)
            self.chain += max((links for _, links in self._waiting), default=0)
            for answered, _ in self._waiting:
                answered.set_result(None)
            self._waiting.clear()
        task.result()
        return Cost(self.chain, self.parts)


def rehearse(rehearsal: Callable[[Meter], Awaitable[Any]]) -> Cost:
    """The cost of ``rehearsal``, in which no answer changes an order.

    Exact for strategies whose questions do not depend on the answers, the case of a good first stage for the others.
    """

    async def counted() -> Cost:
        meter = Meter()
        return await meter.run(rehearsal(meter))

    with ThreadPoolExecutor(1) as thread:  # a loop of its own: the caller may be on one
        return thread.submit(asyncio.run, counted()).result()
