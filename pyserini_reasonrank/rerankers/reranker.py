"""Rankers: what reranks one query. The basic one is a judge and a strategy over one engine."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from pyserini_reasonrank.records import Ranked, Request, Tally
from pyserini_reasonrank.rerankers.judging import LLMJudge, QueryJudge
from pyserini_reasonrank.rerankers.scheduling import together
from pyserini_reasonrank.strategies import StrategyEntry


class Ranker(ABC):
    """Ranks the candidates of requests, one ranker for a whole run.

    ``tallies`` counts by part; a single reranker has one part, named "".
    """

    tallies: Mapping[str, Tally]

    @abstractmethod
    async def rank(
        self,
        request: Request,
        *,
        part: str = "",
        samples: tuple[int, ...] = (),
        prior: Sequence[int] | None = None,
    ) -> Ranked:
        """Rank all candidates of ``request``.

        Other ``samples`` request new answers (see ``records.Repeat``). ``prior`` is an order of the positions: ties, and
        candidates that the strategy does not rank, follow it instead of the order of the request.
        """

    @abstractmethod
    async def grade(self, request: Request, *, part: str = "") -> list[float | None]:
        """Ask one question about all candidates, for judges that grade each of them. None: unreadable."""

    @property
    def tally(self) -> Tally:
        """The sum over all parts."""
        return sum(self.tallies.values(), Tally())


class SingleRanker(Ranker):
    """A judge and a strategy over one engine."""

    def __init__(self, llm: LLMJudge, strategy: StrategyEntry, options: Mapping[str, Any]) -> None:
        self._llm, self._strategy, self._options = llm, strategy, options
        self.tallies = {"": llm.tally}

    async def rank(
        self,
        request: Request,
        *,
        part: str = "",
        samples: tuple[int, ...] = (),
        prior: Sequence[int] | None = None,
    ) -> Ranked:
        query_judge = await self._bind(request, part, samples)
        self._llm.tally.rankings += 1
        async with together() as spawn:  # if one of the strategy's questions fails, the others are cancelled

            async def judge(
                indices: Sequence[int], label: str = "", keep: int | None = None, *, samples: int = 0, again: int = 0
            ) -> Any:
                return await spawn(query_judge.ask(indices, label, keep, samples=samples, again=again))

            order = await self._strategy.bound(self._options, prior)(len(request.candidates), judge)
        return Ranked(tuple(order), query_judge.statuses, query_judge.scores, reasoning=query_judge.reasoning)

    async def grade(self, request: Request, *, part: str = "") -> list[float | None]:
        query_judge = await self._bind(request, part, ())
        grades: list[float | None] = await query_judge.ask(range(len(request.candidates)))
        return grades

    async def _bind(self, request: Request, part: str, samples: tuple[int, ...]) -> QueryJudge:
        prepared = await asyncio.to_thread(self._llm.fitter.prepare, request)
        return QueryJudge(self._llm, request, prepared, part, samples)
