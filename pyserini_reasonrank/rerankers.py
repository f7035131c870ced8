"""A reranker: a judge and a strategy over one engine, with its journal, counting how every call ended."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pyserini_reasonrank.engines import Engine
from pyserini_reasonrank.errors import Failure
from pyserini_reasonrank.journal import Journal, call_key
from pyserini_reasonrank.judges import Judge
from pyserini_reasonrank.prompts.budget import Fitter, Prepared
from pyserini_reasonrank.records import Call, Completion, Judgement, Prompt, Ranking, Request, Sampling, Status
from pyserini_reasonrank.scheduling import Lane, first_of
from pyserini_reasonrank.strategies import Strategy


@dataclass
class Tally:
    """What a run has spent and how its questions ended."""

    statuses: Counter[Status] = field(default_factory=Counter)
    calls: int = 0
    from_journal: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0

    @property
    def questions(self) -> int:
        return sum(self.statuses.values())

    @property
    def bad(self) -> int:
        return sum(count for status, count in self.statuses.items() if status.bad)

    def __str__(self) -> str:
        return ", ".join(f"{count} {status}" for status, count in sorted(self.statuses.items())) or "no calls"

    def add(self, completion: Completion, *, found: bool) -> None:
        self.calls += not found
        self.from_journal += found
        self.prompt_tokens += completion.prompt_tokens
        self.output_tokens += completion.output_tokens


class Reranker:
    """Reranks requests. One for a whole run: all its queries share the lane, the journal and the tally."""

    def __init__(
        self,
        *,
        judge: Judge,
        strategy: Strategy,
        options: dict[str, Any],
        fitter: Fitter,
        engine: Engine[Any],
        journal: Journal,
        depth: int,
        on_error: Literal["fail", "keep"],
        watch: Callable[[Tally], None] = lambda tally: None,
    ) -> None:
        self.judge, self.strategy, self.options = judge, strategy, options
        self.fitter, self.engine, self.journal = fitter, engine, journal
        self.depth, self.on_error = depth, on_error
        self.tally, self._watch = Tally(), watch
        self.lane = Lane(engine.options.concurrency)

    async def rerank(self, request: Request) -> Ranking:
        """The top ``depth`` candidates in the LLM's order, the others below them as they were."""
        began = time.monotonic()
        n = min(self.depth, len(request.candidates))
        statuses: Counter[Status] = Counter()
        order: list[int] = []
        if n:
            head = replace(request, candidates=request.candidates[:n])
            prepared = await asyncio.to_thread(self.fitter.prepare, head)
            order = await self._order(head, prepared, statuses)
        if sorted(order) != list(range(n)):
            raise Failure(f"the strategy returned no permutation for query {request.query.qid}: {order}")
        tail = range(n, len(request.candidates))
        return Ranking(request, (*order, *tail), statuses, time.monotonic() - began)

    async def _order(self, request: Request, prepared: Prepared, statuses: Counter[Status]) -> list[int]:
        """The strategy's order, with the judge bound to one query. A question that fails ends the others."""
        numbers = iter(range(1 << 30))
        try:
            async with asyncio.TaskGroup() as questions:

                async def judge(indices: Sequence[int]) -> Any:
                    judgement = await questions.create_task(self._question(request, prepared, indices, next(numbers)))
                    statuses[judgement.status] += 1
                    return self.judge.outcome(judgement, indices)

                return await self.strategy(len(request.candidates), judge, **self.options)
        except BaseExceptionGroup as errors:
            raise first_of(errors) from None

    async def _question(self, request: Request, prepared: Prepared, indices: Sequence[int], number: int) -> Judgement:
        """Ask one question. The judgement's order permutes the positions of ``indices``, however they were shown."""
        places = self._places(request.query.qid, number, len(indices))
        shown = [indices[place] for place in places]
        docids = tuple(request.candidates[i].docid for i in shown)
        call = Call(request.query.qid, number, docids, self.judge.ideal, self.judge.ideal_choices)

        async def ask(prompt: Prompt, sampling: Sampling, *, sample: int = 0) -> Completion:
            return await self._complete(prompt, sampling, replace(call, sample=sample), request.number)

        judgement = await self.judge.judge(ask, self.fitter.render(prepared, shown), len(shown))
        if judgement.status is Status.ERROR and self.on_error == "fail":
            raise Failure(f"query {call.qid}, call {number}: {judgement.detail}")
        self.journal.judged(call, judgement)
        self.tally.statuses[judgement.status] += 1
        self._watch(self.tally)
        # an answer that decided nothing leaves the order that was asked about, not the one it was shuffled to
        order = range(len(shown)) if judgement.status.bad else [places[position] for position in judgement.order]
        return replace(judgement, order=tuple(order))

    def _places(self, qid: str, number: int, n: int) -> list[int]:
        """The position in the question of each passage shown."""
        places, options = list(range(n)), self.judge.options
        if options.shuffle:
            random.Random(f"{options.seed} {qid} {number}").shuffle(places)
        return places

    async def _complete(self, prompt: Prompt, sampling: Sampling, call: Call, priority: int) -> Completion:
        """The completion on record, or a new one. Errors are not put on record: they are asked again next time."""
        key = call_key(self.engine.identity(call), prompt, sampling, call.sample)
        completion = self.journal.find(key)
        found = completion is not None
        if completion is None:
            async with self.lane.slot(priority):
                completion = await self.engine.generate(prompt, sampling, call)
            if completion.error is None:
                await self.journal.add(key, call, sampling, completion)
        self.tally.add(completion, found=found)
        return completion
