"""Rankers: what reranks one query. The basic one is a judge and a strategy over one engine."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from pyserini_reasonrank.records import Ranked, Request, Tally
from pyserini_reasonrank.rerankers.judging import LLMJudge, QueryJudge
from pyserini_reasonrank.rerankers.scheduling import together
from pyserini_reasonrank.rerankers.segments import Segmenter, SegmentJudge
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
    """A judge and a strategy over one engine. With a ``segmenter``, the judge is asked about the segments of documents."""

    def __init__(
        self, llm: LLMJudge, strategy: StrategyEntry, options: Mapping[str, Any], segmenter: Segmenter | None = None
    ) -> None:
        self._llm, self._strategy, self._options, self._segmenter = llm, strategy, options, segmenter
        self.tallies = {"": llm.tally}

    async def rank(
        self,
        request: Request,
        *,
        part: str = "",
        samples: tuple[int, ...] = (),
        prior: Sequence[int] | None = None,
    ) -> Ranked:
        segmented = None if self._segmenter is None else await asyncio.to_thread(self._segmenter.split, request)
        query_judge = QueryJudge(self._llm, request if segmented is None else segmented.request, part, samples)
        of_segments: SegmentJudge | None = None
        self._llm.tally.rankings += 1
        async with together() as spawn:  # if one of the strategy's questions fails, the others are cancelled

            async def judge(
                indices: Sequence[int], label: str = "", keep: int | None = None, *, samples: int = 0, again: int = 0
            ) -> Any:
                return await spawn(query_judge.ask(indices, label, keep, samples=samples, again=again))

            if self._segmenter is not None and segmented is not None:
                of_segments = SegmentJudge(judge, segmented, self._segmenter.options)
            order = await self._strategy.bound(self._options, prior)(len(request.candidates), of_segments or judge)
        scores, segments = query_judge.scores, {}
        if of_segments is not None:
            scores, segments = of_segments.scores, of_segments.segments
        return Ranked(
            tuple(order),
            query_judge.statuses,
            scores,
            reasoning=query_judge.reasoning,
            segments=segments,
            grades=query_judge.grades,
        )

    async def grade(self, request: Request, *, part: str = "") -> list[float | None]:
        query_judge = QueryJudge(self._llm, request, part)
        grades: list[float | None] = await query_judge.ask(range(len(request.candidates)))
        return grades
