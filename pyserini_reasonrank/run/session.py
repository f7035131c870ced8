"""Execution of a plan: reranking requests with its engines, and closing them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pyserini_reasonrank.combine.combined import ArmRanker, CombinedRanker, joined
from pyserini_reasonrank.engines import Engine
from pyserini_reasonrank.errors import CallFailed, Failure
from pyserini_reasonrank.ir.documents import title_only
from pyserini_reasonrank.prompts.fitting import Fitter
from pyserini_reasonrank.records import Query, Ranked, Ranking, Request, Tally
from pyserini_reasonrank.rerankers.call_store import CallStore
from pyserini_reasonrank.rerankers.endpoint import Endpoint
from pyserini_reasonrank.rerankers.judging import LLMJudge
from pyserini_reasonrank.rerankers.reranker import Ranker, SingleRanker
from pyserini_reasonrank.rerankers.scheduling import MAX_AHEAD, QueryLoad, rerank_all
from pyserini_reasonrank.rerankers.segments import Segmenter
from pyserini_reasonrank.run.cost import Cost, estimate, estimate_in_a_thread
from pyserini_reasonrank.run.parts import Plan, SinglePlan
from pyserini_reasonrank.run.plan import check_context, preset_warnings
from pyserini_reasonrank.run.progress import Waiting
from pyserini_reasonrank.settings.schema import Settings


async def close(engines: Sequence[Engine[Any]]) -> None:
    """Close all engines."""
    await asyncio.gather(*(engine.close() for engine in engines))


class Session:
    """Reranks requests by ``plan``, whose engines have started or are started by ``ready``.

    ``candidates`` is the maximum per query, by default the plan's or the depth.
    ``ready`` is awaited before each call, for engines that start on demand. UsageError if the context that an engine reports
    is too small.
    """

    def __init__(
        self,
        plan: Plan,
        journal: CallStore,
        *,
        candidates: int | None = None,
        ready: Callable[[Engine[Any]], Awaitable[None]] | None = None,
    ) -> None:
        self.plan, self.journal, self._ready = plan, journal, ready
        costs = estimate(plan, candidates or plan.candidates or plan.settings.depth).parts
        self._fitters = {
            name: fitter_for(part, costs[name].widest if name in costs else 0) for name, part in plan.parts.items()
        }
        self._endpoints: dict[Engine[Any], Endpoint] = {}
        self.ranker = self._build(plan, "")
        self._titles: set[str] = set()
        self._presets = [warning for part in plan.parts.values() for warning in preset_warnings(part)]

    @property
    def tallies(self) -> Mapping[str, Tally]:
        """The counts of each part so far."""
        return self.ranker.tallies

    @property
    def tally(self) -> Tally:
        """The counts of all parts together so far."""
        return self.ranker.tally

    @property
    def width(self) -> int:
        """The maximum number of concurrent calls."""
        widths: list[int] = [engine.options.concurrency for engine in self.plan.engines]
        return max(widths)

    def endpoint(self, engine: Engine[Any]) -> Endpoint:
        """The endpoint of an engine, which all its rerankers share."""
        if engine not in self._endpoints:
            self._endpoints[engine] = Endpoint(engine, self.journal, self._ready)
        return self._endpoints[engine]

    @property
    def waiting(self) -> Waiting:
        """The calls in flight, and how long the oldest has waited."""
        return Waiting.of(self._endpoints.values())

    @property
    def warnings(self) -> list[str]:
        """The warnings of the plan, of its engines since they have started, and of prompts truncated so far."""
        tokens = [warning for part in self.plan.parts.values() for warning in part.token_warnings]
        notices = [notice for engine in self.plan.engines for notice in engine.notices]
        return list(
            dict.fromkeys([*self.plan.warnings, *notices, *tokens, *self._presets, *self._title_only(), *self._cuts()])
        )

    async def cost(self, request: Request) -> Cost:
        """The cost of a request. The event loop goes on while it is simulated."""
        return await estimate_in_a_thread(self.plan, len(request.candidates))

    def check(self, query: Query) -> None:
        """UsageError if ``query`` does not fit a prompt."""
        for fitter in self._fitters.values():
            fitter.check(query)

    async def rerank(self, request: Request) -> Ranking:
        """The top ``depth`` candidates in the LLM's order, fused with the first stage if set; the others follow in order.

        With the setting ``keep`` relevant, the candidates that are not are ``dropped``.
        """
        began = time.monotonic()
        settings = self.plan.settings
        n = min(settings.depth, len(request.candidates))
        head = replace(request, candidates=request.candidates[:n])
        self._titles.update(c.docid for c in head.candidates if title_only(c.fields))
        ranked = await self.ranker.rank(head) if n else Ranked(())
        if sorted(ranked.order) != list(range(n)):
            raise Failure(f"query {request.query.qid}: the reranker returned {list(ranked.order)}, not a permutation")
        first_stage = [c.score for c in head.candidates]
        order = settings.fuse.order(ranked, first_stage) if n else ()
        fused = settings.fuse.scores(ranked, first_stage) if n else {}
        order = (*order, *range(n, len(request.candidates)))
        dropped = _dropped(settings, ranked, n, len(request.candidates))
        ranking = Ranking(request, order, ranked, time.monotonic() - began, fused, dropped)
        self.journal.ranked(ranking)
        return ranking

    async def rerank_all(
        self,
        requests: AsyncIterator[Request],
        done: Callable[[Ranking], None],
        failed: Callable[[Request, CallFailed], None] | None = None,
    ) -> None:
        """Rerank a stream of requests, many at once; ``done`` is called as each ends, in any order.

        A query with a failed call is passed to ``failed``, and the others are finished; without ``failed`` it ends them.
        """
        await rerank_all(
            requests,
            self.rerank,
            width=self.width,
            ahead=min(2 * self.width, MAX_AHEAD),
            done=done,
            load=self._load,
            failed=failed,
            last=self._finish_evenly,
        )

    def _finish_evenly(self, even: bool) -> None:
        for endpoint in self._endpoints.values():
            endpoint.finish_evenly(even)

    async def _load(self, request: Request) -> QueryLoad:
        cost = await self.cost(request)
        return QueryLoad(cost.questions, cost.calls / max(cost.chain, 1))

    def _build(self, plan: Plan, path: str) -> Ranker:
        """The ranker of a plan. ``path`` names the plan among the parts of the whole."""
        if isinstance(plan, SinglePlan):
            on_error = plan.settings.on_error
            llm = LLMJudge(plan.judge, self._fitters[path], self.endpoint(plan.engine), Tally(), on_error)
            segments = plan.settings.segments
            segmenter = None if segments is None else Segmenter(segments, plan.tokens)
            return SingleRanker(llm, plan.strategy, plan.options, segmenter)
        plan.combination.load(**plan.options)
        arms = {
            name: ArmRanker(self._build(arm, joined(path, name)), arm.settings.depth, arm.settings.fuse)
            for name, arm in plan.arms.items()
        }
        return CombinedRanker(plan.combination.function, plan.options, arms)

    def _title_only(self) -> list[str]:
        """A warning about documents that have nothing but a title."""
        if not self._titles:
            return []
        return [
            f"{len(self._titles):,} documents have a title and no text, such as {min(self._titles)}; the LLM reads the title"
        ]

    def _cuts(self) -> list[str]:
        """Warnings about prompts that were truncated to fit the context."""
        found = {name: fitter.warning for name, fitter in self._fitters.items()}
        return [f"{name}: {warning}" if name else warning for name, warning in found.items() if warning]


def _dropped(settings: Settings, ranked: Ranked, n: int, candidates: int) -> frozenset[int]:
    """The candidates that are left out: judged below the threshold, or below the depth ``n``, where nothing is judged.

    A candidate whose score could not be read is not left out.
    """
    if settings.keep == "all" or settings.threshold is None:
        return frozenset()
    low = (i for i, score in ranked.judged.items() if score < settings.threshold)
    return frozenset([*low, *range(n, candidates)])


def fitter_for(part: SinglePlan, widest: int) -> Fitter:
    """A fitter for the context of an engine that has started. UsageError if a question does not fit."""
    if widest:
        check_context(part, widest)
    settings = part.settings
    return Fitter(
        part.template,
        part.tokens,
        context=part.context,
        output_tokens=part.output_tokens(widest),
        passage_tokens=settings.shown_tokens,
        query_tokens=settings.query_tokens,
        form=settings.passage,
    )
