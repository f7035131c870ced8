"""Rerankers: a judge and a strategy over one engine; and what they share with combinations of them."""

from __future__ import annotations

import asyncio
import inspect
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pyserini_reasonrank.errors import Failure
from pyserini_reasonrank.journal import Journal
from pyserini_reasonrank.judges import Judge
from pyserini_reasonrank.orders.fusion import Fusion
from pyserini_reasonrank.prompts.fitting import Fitter
from pyserini_reasonrank.records import Ranked, Ranking, Request
from pyserini_reasonrank.rerankers.endpoint import Endpoint
from pyserini_reasonrank.rerankers.questions import Asker, Questions, Tally
from pyserini_reasonrank.rerankers.scheduling import together
from pyserini_reasonrank.strategies import Strategy


class Ranker(ABC):
    """Ranks requests; one for a whole run. ``tallies`` are by part, of which a single reranker has one, called ""."""

    tallies: Mapping[str, Tally]

    @abstractmethod
    async def rank(
        self, request: Request, *, part: str = "", sample: int = 0, before: Sequence[int] | None = None
    ) -> Ranked:
        """Rank all candidates of ``request``. Another ``sample`` asks anew, past any answer on record.

        ``before``: the order (of positions) they had before they were shuffled. A strategy's ties, and what it leaves as
        it was, go by that.
        """

    @abstractmethod
    async def grade(self, request: Request, *, part: str = "") -> list[float | None]:
        """Ask one question about all candidates of ``request``, of a judge that grades each of them."""

    @property
    def tally(self) -> Tally:
        """What all parts have spent together."""
        return sum(self.tallies.values(), Tally())


@dataclass(frozen=True, slots=True)
class Desk:
    """Where a ranker's requests come in and rankings go out: depth, fusion with the first stage, the trace."""

    ranker: Ranker
    journal: Journal
    depth: int
    fusion: Fusion

    async def rerank(self, request: Request) -> Ranking:
        """The top ``depth`` candidates in the LLM's order, the others below them as they were."""
        began = time.monotonic()
        n = min(self.depth, len(request.candidates))
        head = replace(request, candidates=request.candidates[:n])
        ranked = await self.ranker.rank(head) if n else Ranked(())
        if sorted(ranked.order) != list(range(n)):
            raise Failure(f"no permutation came back for query {request.query.qid}: {list(ranked.order)}")
        order = self.fusion.order(ranked, [c.score for c in head.candidates]) if n else ()
        ranking = Ranking(request, (*order, *range(n, len(request.candidates))), ranked, time.monotonic() - began)
        self.journal.ranked(ranking)
        return ranking


class Reranker(Ranker):
    """A judge and a strategy over one engine."""

    def __init__(
        self,
        *,
        judge: Judge,
        strategy: Strategy,
        options: Mapping[str, Any],
        fitter: Fitter,
        endpoint: Endpoint,
        on_error: Literal["fail", "keep"],
        watch: Callable[[], None] = lambda: None,
    ) -> None:
        self.strategy, self.options, self.fitter = strategy, options, fitter
        self._leaves_some = "before" in inspect.signature(strategy).parameters
        self.tallies = {"": Tally()}
        self._asker = Asker(judge, fitter, endpoint, on_error, self.tallies[""], watch)

    async def rank(
        self, request: Request, *, part: str = "", sample: int = 0, before: Sequence[int] | None = None
    ) -> Ranked:
        questions = await self._questions(request, part, sample)
        self._asker.tally.rankings += 1
        # the strategy's questions are tasks of one group: one that fails ends the others
        async with together() as spawn:

            async def judge(indices: Any, label: str = "") -> Any:
                return await spawn(questions.ask(indices, label))

            left = {"before": before} if self._leaves_some else {}
            order = await self.strategy(len(request.candidates), judge, **left, **self.options)
        return Ranked(tuple(order), questions.statuses, questions.scores, reasoning=questions.reasoning)

    async def grade(self, request: Request, *, part: str = "") -> list[float | None]:
        questions = await self._questions(request, part, 0)
        grades: list[float | None] = await questions.ask(range(len(request.candidates)))
        return grades

    async def _questions(self, request: Request, part: str, sample: int) -> Questions:
        prepared = await asyncio.to_thread(self.fitter.prepare, request)
        return Questions(self._asker, request, prepared, part, sample)
