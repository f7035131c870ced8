"""An engine with its concurrency limit and the journal: the only way in which LLM calls are made."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from math import inf, isfinite, isnan
from typing import Any

from pyserini_reasonrank.engines import Engine
from pyserini_reasonrank.errors import Failure
from pyserini_reasonrank.journal import call_key
from pyserini_reasonrank.plugins import dotted
from pyserini_reasonrank.records import Call, Completion, Prompt, Sampling
from pyserini_reasonrank.rerankers.call_store import CallStore
from pyserini_reasonrank.rerankers.scheduling import PrioritySemaphore, Slot

_OPEN_QUESTIONS = 2
"""Open questions per call in flight: while one is parsed and recorded, another one can call the engine."""


class Endpoint:
    """One engine for any number of rerankers, which share its concurrency limit."""

    def __init__(
        self, engine: Engine[Any], journal: CallStore, ready: Callable[[Engine[Any]], Awaitable[None]] | None = None
    ) -> None:
        """``ready`` is awaited before each call: it starts an engine that has not started."""
        self.engine, self.journal, self._ready = engine, journal, ready
        self._calls = PrioritySemaphore(engine.options.concurrency)
        self._questions = PrioritySemaphore(_OPEN_QUESTIONS * engine.options.concurrency)
        self._in_flight: dict[str, asyncio.Future[Completion | None]] = {}
        self._made: dict[str, float] = {}  # when the calls in flight were made, the oldest first

    @property
    def in_flight(self) -> int:
        """The number of calls that wait for the engine's answer."""
        return len(self._made)

    @property
    def oldest_wait(self) -> float:
        """For how many seconds the oldest of these calls has waited; 0 without one."""
        return time.monotonic() - next(iter(self._made.values())) if self._made else 0.0

    def question_slot(self, priority: int, asked: int = 0) -> Slot:
        """A slot for one question, from writing its prompt to its last call. ``asked``: those of its query before it."""
        return self._questions.slot(priority, asked)

    def finish_evenly(self, even: bool) -> None:
        """Whether the queries with the fewest questions so far come first, instead of those with the lowest priority."""
        self._questions.even = self._calls.even = even

    async def complete(self, prompt: Prompt, sampling: Sampling, call: Call, priority: int) -> tuple[Completion, bool]:
        """The completion, and whether it was there already: in the journal, or from an equal call in flight.

        Errors are not recorded, so that the next run asks again.
        """
        key = call_key(self.engine.identity(call), prompt, sampling, call.repeat)
        while (twin := self._in_flight.get(key)) is not None:
            if (shared := await asyncio.shield(twin)) is not None:
                return self._reused(key, call, shared), True
        if (recorded := self.journal.find(key)) is not None:
            return self._reused(key, call, recorded), True
        self._in_flight[key] = future = asyncio.get_running_loop().create_future()
        answer = None
        try:
            async with self._calls.slot(priority, call.number):
                if self._ready is not None:
                    await self._ready(self.engine)
                self._made[key] = time.monotonic()
                try:
                    found = await self.engine.generate(prompt, sampling, call)
                finally:
                    del self._made[key]
            completion = with_valid_logprobs(_checked(found, self.engine))
            if completion.error is None:
                await self.journal.add(key, call, sampling, completion)
            answer = completion
        finally:
            del self._in_flight[key]
            future.set_result(answer)  # None if this call was cancelled: an equal call then asks itself
        return completion, False

    def _reused(self, key: str, call: Call, completion: Completion) -> Completion:
        if completion.error is None:
            self.journal.asked(key, call, completion)
        return completion


def _checked(found: Any, engine: Engine[Any]) -> Completion:
    """``found``, which the engine returned. Failure if it is not a completion with a text."""
    if not isinstance(found, Completion) or not isinstance(found.text, str):
        raise Failure(
            f"the engine {engine.name} ({dotted(type(engine))}) returned {found!r:.60}: expected a Completion with a text"
        )
    return found


def with_valid_logprobs(completion: Completion) -> Completion:
    """``completion``, or an error if its log-probabilities contain NaN or infinity, or none of them is finite.

    A model whose arithmetic overflows returns NaN, which sorts anywhere. Single alternatives may be impossible (-inf).
    """
    logprobs = completion.choices.values()
    if not logprobs or (any(map(isfinite, logprobs)) and not any(isnan(p) or p == inf for p in logprobs)):
        return completion
    error = "the model's log-probabilities are not finite numbers"
    return replace(completion, text="", finish_reason="error", choices={}, error=error)
