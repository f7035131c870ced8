"""An engine with its lane and the journal: the one way a call goes out and comes back."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from math import inf, isfinite, isnan
from typing import Any

from pyserini_reasonrank.engines import Engine
from pyserini_reasonrank.journal import Journal, call_key
from pyserini_reasonrank.records import Call, Completion, Prompt, Sampling
from pyserini_reasonrank.rerankers.scheduling import Lane, Slot

_AHEAD = 2  # questions under way for each call in flight: while one is read and put on record, another is asked


class Endpoint:
    """Rerankers that share an engine share its endpoint, so that its concurrency bounds all of them together."""

    def __init__(self, engine: Engine[Any], journal: Journal) -> None:
        self.engine, self.journal = engine, journal
        self._lane = Lane(engine.options.concurrency)
        self._questions = Lane(_AHEAD * engine.options.concurrency)
        self._out: dict[str, asyncio.Future[Completion | None]] = {}

    def question(self, priority: int) -> Slot:
        """Room for a question: its prompt is written out, and its calls made, only there."""
        return self._questions.slot(priority)

    async def complete(self, prompt: Prompt, sampling: Sampling, call: Call, priority: int) -> tuple[Completion, bool]:
        """The completion on record, that of the same call by another question, or a new one; and whether it was found.

        Errors are not put on record: they are asked again next time.
        """
        key = call_key(self.engine.identity(call), prompt, sampling, call.sample)
        while (twin := self._out.get(key)) is not None:
            if (shared := await asyncio.shield(twin)) is not None:
                return self._found(key, call, shared), True
        if (found := self.journal.find(key)) is not None:
            return self._found(key, call, found), True
        self._out[key] = back = asyncio.get_running_loop().create_future()
        answer = None
        try:
            async with self._lane.slot(priority):
                completion = sound(await self.engine.generate(prompt, sampling, call))
            if completion.error is None:
                await self.journal.add(key, call, sampling, completion)
            answer = completion
        finally:
            del self._out[key]
            back.set_result(answer)  # None where this question was given up: a twin then asks itself
        return completion, False

    def _found(self, key: str, call: Call, completion: Completion) -> Completion:
        if completion.error is None:
            self.journal.asked(key, call)
        return completion


def sound(completion: Completion) -> Completion:
    """``completion``, or an error where what it tells as log-probabilities are no such numbers.

    A model whose arithmetic has overflowed gives NaN, which sorts anywhere. Some alternatives may be impossible, not all.
    """
    told = completion.choices.values()
    if not told or (any(map(isfinite, told)) and not any(isnan(p) or p == inf for p in told)):
        return completion
    return replace(
        completion, text="", finish_reason="error", choices={}, error="the model's probabilities are not numbers"
    )
