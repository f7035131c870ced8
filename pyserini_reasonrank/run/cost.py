"""The cost of a plan per query, computed before anything is loaded: strategies run on questions that are only counted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from pyserini_reasonrank.combine.arms import completed
from pyserini_reasonrank.combine.combined import joined
from pyserini_reasonrank.ir.runs import read_run
from pyserini_reasonrank.records import Candidate, Query, Ranked, Request
from pyserini_reasonrank.run.parts import Plan, SinglePlan

USUAL_DEPTH = 1_000
"""The depth up to which a run is planned for its depth; for more, for the candidates that it really has, if they are known."""
MOST_CANDIDATES = 10_000
"""The most candidates of a query for which the cost is counted: a simulation has as many as it counts."""
MOST_COMBINED = 1_000
"""The same for combinations, which also combine orders."""
MOST_QUESTIONS = 10_000
"""The most questions that are simulated; beyond, the cost is counted for fewer candidates."""
_SHOWN_AT_ONCE = 200
"""The passages of a question that take as long to simulate as a question itself."""


@dataclass(slots=True)
class PartCost:
    """The cost of one reranker for one query: questions, LLM calls, passages shown in total and in the widest question.

    ``alternative``: the query may use a more expensive part instead, so this one is not part of the totals.
    """

    questions: int = 0
    calls: int = 0
    shown: int = 0
    widest: int = 0
    alternative: bool = False


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one query. ``chain``: the longest chain of dependent calls. ``parts``: by reranker, if several combine.

    If a query uses only one of several rerankers, the totals are those of the most expensive one. ``candidates``: the number
    of candidates for which the cost is counted.
    """

    chain: int
    parts: Mapping[str, PartCost] = field(default_factory=dict)
    candidates: int = 0

    @property
    def questions(self) -> int:
        return sum(part.questions for part in self._counted)

    @property
    def calls(self) -> int:
        return sum(part.calls for part in self._counted)

    @property
    def shown(self) -> int:
        return sum(part.shown for part in self._counted)

    @property
    def widest(self) -> int:
        return max((part.widest for part in self.parts.values()), default=0)

    @property
    def _counted(self) -> list[PartCost]:
        return [part for part in self.parts.values() if not part.alternative]


def estimate(plan: Plan, n: int) -> Cost:
    """The cost of one query with ``n`` candidates; those below the depth cost nothing.

    Exact for strategies whose questions do not depend on the answers, and documents in as many segments as may be judged. For
    the others it is the cost if the judge confirms
    the first-stage order. It takes seconds at most: for more than ``MOST_CANDIDATES`` or ``MOST_QUESTIONS`` it is the cost
    of fewer candidates, ``Cost.candidates``. UsageError if a strategy or combination rejects its options.
    """
    n = asked = _counted(plan, n)
    while asked not in plan.costs:
        request = Request(Query("", ""), tuple(Candidate(str(i), float(-i), "") for i in range(n)))
        simulated = partial(_simulate, plan, request, part="")
        try:
            plan.costs[asked] = replace(count(simulated), candidates=n)
        except TooManyQuestions:
            n //= 4
    return plan.costs[asked]


async def estimate_in_a_thread(plan: Plan, n: int) -> Cost:
    """As ``estimate``, without blocking the running event loop: the first simulation for a number of candidates takes time."""
    if (known := plan.costs.get(_counted(plan, n))) is not None:
        return known
    return await asyncio.to_thread(estimate, plan, n)


def _counted(plan: Plan, n: int) -> int:
    """The number of candidates, of ``n``, for which the cost is counted."""
    return min(n, plan.settings.depth, MOST_CANDIDATES if isinstance(plan, SinglePlan) else MOST_COMBINED)


def most_candidates(run: Path, depth: int) -> int:
    """The maximum number of candidates per query in a run or a candidates file, if ``depth`` is unusual; else ``depth``.

    UsageError if the file can't be read as a run.
    """
    if depth <= USUAL_DEPTH:
        return depth
    return min(depth, max(map(len, read_run(run, keep_first=True).values()), default=0))


async def _simulate(plan: Plan, request: Request, meter: Meter, part: str) -> Ranked:
    """Rank ``request`` with ``meter`` in place of the model."""
    if isinstance(plan, SinglePlan):
        return await _simulate_single(plan, request, meter, part)

    def arms(meter: Meter) -> dict[str, _SimulatedArm]:
        return {name: _SimulatedArm(arm, request, meter, joined(part, name)) for name, arm in plan.arms.items()}

    async def alone(name: str, meter: Meter) -> Ranked:
        return await arms(meter)[name](range(len(request.candidates)))

    if plan.combination.one_arm:
        return await meter.most_expensive([partial(alone, name) for name in plan.arms])
    ranked: Ranked = await plan.combination.function(request, arms(meter), **plan.options)
    return ranked


async def _simulate_single(plan: SinglePlan, request: Request, meter: Meter, part: str) -> Ranked:
    judge, segments = plan.judge, plan.settings.segments
    judged = 1 if segments is None else segments.judged

    async def confirm(
        indices: Sequence[int], label: str = "", keep: int | None = None, *, samples: int = 0, again: int = 0
    ) -> Any:
        votes = (samples or judge.options.votes) * judged
        await meter.question(part, len(indices), calls=judge.calls, chain=judge.chain, votes=votes)
        return judge.unmoved(indices)

    n = len(request.candidates)
    if plan.strategy.independent is not None:
        questions, shown = plan.strategy.independent(n)
        if questions:
            votes = questions * judge.options.votes * judged
            await meter.question(part, shown, calls=judge.calls, chain=judge.chain, votes=votes)
        return Ranked(tuple(range(n)))
    return Ranked(tuple(await plan.strategy.bound(plan.options, prior=None)(n, confirm)))


@dataclass(frozen=True, slots=True)
class _SimulatedArm:
    """An arm whose questions are only counted."""

    plan: Plan
    request: Request
    meter: Meter
    part: str

    @property
    def depth(self) -> int:
        return self.plan.settings.depth

    async def __call__(
        self,
        indices: Sequence[int],
        *,
        sample: int = 0,
        prior: Sequence[int] | None = None,
        passages: Mapping[int, Candidate] | None = None,
    ) -> Ranked:
        candidates = tuple(self.request.candidates[i] for i in indices[: self.depth])
        request = replace(self.request, candidates=candidates)
        return completed(await _simulate(self.plan, request, self.meter, self.part), len(indices))

    async def grade(self, texts: Sequence[str]) -> list[float | None]:
        await self.meter.question(self.part, len(texts), calls=1)
        return [0.0] * len(texts)


class TooManyQuestions(Exception):
    """A simulation has more than ``MOST_QUESTIONS`` questions."""


class Meter:
    """Counts the questions of a simulated ranking. Independent questions are one link of the chain."""

    def __init__(self) -> None:
        self.parts: dict[str, PartCost] = {}
        self.chain = 0
        self._work = 0
        self._waiting: list[tuple[asyncio.Future[None], int]] = []

    async def question(self, part: str, shown: int, *, calls: int, chain: int | None = None, votes: int = 1) -> None:
        """Count a question about ``shown`` passages, asked ``votes`` times in parallel.

        ``chain`` of its ``calls`` depend on one another; all of them by default. TooManyQuestions if the simulation has
        become too long.
        """
        self._work += 1 + shown // _SHOWN_AT_ONCE
        if self._work > MOST_QUESTIONS:
            raise TooManyQuestions
        cost = self.parts.setdefault(part, PartCost())
        cost.questions += votes
        cost.calls += votes * calls
        cost.shown += votes * calls * shown
        cost.widest = max(cost.widest, shown)
        answered = asyncio.get_running_loop().create_future()
        self._waiting.append((answered, calls if chain is None else chain))
        await answered

    async def most_expensive[R](self, alternatives: Sequence[Callable[[Meter], Awaitable[R]]]) -> R:
        """Simulate alternatives if a query uses only one: count the one with the most calls, and list the others."""
        costs = [count(alternative) for alternative in alternatives]
        chosen = max(range(len(costs)), key=lambda i: costs[i].calls)
        for i, cost in enumerate(costs):
            if i != chosen:
                self.parts |= {name: replace(part, alternative=True) for name, part in cost.parts.items()}
        return await alternatives[chosen](self)

    async def run(self, ranking: Awaitable[Any]) -> Cost:
        """Run a simulated ranking to its end, releasing its questions link by link."""
        task = asyncio.ensure_future(ranking)
        while not task.done():
            known = -1
            while known != len(self._waiting) and not task.done():  # until all tasks wait for an answer
                known = len(self._waiting)
                for _ in range(8):
                    await asyncio.sleep(0)
            self.chain += max((links for _, links in self._waiting), default=0)
            for answered, _ in self._waiting:
                answered.set_result(None)
            self._waiting.clear()
        task.result()
        return Cost(self.chain, self.parts)


def count(ranking: Callable[[Meter], Awaitable[Any]]) -> Cost:
    """The cost of a simulated ``ranking``, in which the judge confirms every order."""

    async def counted() -> Cost:
        meter = Meter()
        return await meter.run(ranking(meter))

    with ThreadPoolExecutor(1) as thread:  # with its own event loop, since the caller may run in one
        return thread.submit(asyncio.run, counted()).result()
