"""An engine with its lane and the journal: the one way a call goes out and comes back."""

from __future__ import annotations

from typing import Any

from pyserini_reasonrank.engines import Engine
from pyserini_reasonrank.journal import Journal, call_key
from pyserini_reasonrank.records import Call, Completion, Prompt, Sampling
from pyserini_reasonrank.scheduling import Lane


class Endpoint:
    """Rerankers that share an engine share its endpoint, so that its concurrency bounds all of them together."""

    def __init__(self, engine: Engine[Any], journal: Journal) -> None:
        self.engine, self.journal = engine, journal
        self._lane = Lane(engine.options.concurrency)

    async def complete(self, prompt: Prompt, sampling: Sampling, call: Call, priority: int) -> tuple[Completion, bool]:
        """The completion on record, or a new one; and whether it was found.

        Errors are not put on record: they are asked again next time.
        """
        key = call_key(self.engine.identity(call), prompt, sampling, call.sample)
        if (found := self.journal.find(key)) is not None:
            return found, True
        async with self._lane.slot(priority):
            completion = await self.engine.generate(prompt, sampling, call)
        if completion.error is None:
            await self.journal.add(key, call, sampling, completion)
        return completion, False
