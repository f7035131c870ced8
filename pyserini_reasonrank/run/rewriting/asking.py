"""One question per query: the rewriter's prompt, its call through the shared scheduler and journal, and its answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from pyserini_reasonrank.engines import Engine
from pyserini_reasonrank.records import Call, Judgement, Query, Ranked, Ranking, Request, Tally
from pyserini_reasonrank.rerankers.call_store import CallStore
from pyserini_reasonrank.rerankers.endpoint import Endpoint
from pyserini_reasonrank.rerankers.judging import LLMJudge
from pyserini_reasonrank.run.plan import check_context, preset_warnings
from pyserini_reasonrank.run.progress import Waiting
from pyserini_reasonrank.run.rewriting.plan import RewritePlan
from pyserini_reasonrank.run.session import fitter_for

SEARCHED = "searched"
"""The note of a journal with the text that was searched for a query."""


class RewriteSession:
    """Asks for rewrites by ``plan``, whose engine has started or is started by ``ready``.

    UsageError if a question does not fit the context.
    """

    def __init__(
        self,
        plan: RewritePlan,
        journal: CallStore,
        ready: Callable[[Engine[Any]], Awaitable[None]] | None = None,
    ) -> None:
        part = plan.part
        self.plan, self.journal = plan, journal
        self.tally = Tally()
        check_context(part, plan.widest)
        self._fitter = fitter_for(part, plan.widest)
        self._endpoint = Endpoint(part.engine, journal, ready)
        self._llm = LLMJudge(plan.judge, self._fitter, self._endpoint, self.tally, plan.settings.on_error)

    @property
    def width(self) -> int:
        """The maximum number of concurrent calls."""
        width: int = self.plan.part.engine.options.concurrency
        return width

    @property
    def waiting(self) -> Waiting:
        """The calls in flight, and how long the oldest has waited."""
        return Waiting.of([self._endpoint])

    @property
    def warnings(self) -> list[str]:
        """The warnings of the engine since it has started, and of prompts truncated so far."""
        part = self.plan.part
        found = [*part.engine.notices, *part.token_warnings, *preset_warnings(part), self._fitter.warning]
        return [warning for warning in found if warning]

    def check(self, query: Query) -> None:
        """UsageError if ``query`` does not fit the prompt."""
        self._fitter.check(query)

    async def ask(self, request: Request, number: int) -> Judgement:
        """The answer of round ``number``, from 0, about a query; its candidates are the passages to show.

        CallFailed if the call fails and ``on_error`` is not "keep".
        """
        docids = tuple(candidate.docid for candidate in request.candidates)
        query = request.query

        def unchanged(gains: Sequence[float]) -> str:
            return self.plan.judge.unchanged(query.text)

        label = f"round {number + 1}"
        call = Call(query.qid, number, docids, unchanged, _no_choices, label=label, request=request.number)
        return await self._llm.judgement(self._llm.preparation(request), range(len(docids)), call)

    def record(self, request: Request, searched: str) -> None:
        """Record in the journal the text that is searched for a query, with the passages of its last question."""
        order = tuple(range(len(request.candidates)))
        self.journal.ranked(Ranking(request, order, Ranked((), notes={SEARCHED: searched})))


def _no_choices(gains: Sequence[float], choices: Sequence[str]) -> Mapping[str, float]:
    raise NotImplementedError("a rewriter does not read choices")
