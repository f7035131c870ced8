"""The start of engines: at once, or only when a call is needed that the journal lacks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pyserini_reasonrank.engines import Engine
from pyserini_reasonrank.errors import Failure


class Starter:
    """Starts engines, one after the other, since each measures the memory that is left.

    ``contexts`` are those that earlier runs recorded in the journal, by the identity of the weights. An engine whose weights
    are among them starts on its first call: its prompts can be written without it, and often all answers are recorded.
    ``say`` is called with the stage.
    """

    def __init__(
        self,
        engines: Sequence[Engine[Any]],
        contexts: Mapping[str, int],
        say: Callable[[str], None] = lambda stage: None,
    ) -> None:
        self._engines, self._say = engines, say
        self._deferred: dict[Engine[Any], int] = {}
        self._lock = asyncio.Lock()
        self.late_seconds = 0.0
        """The wall time that engines took to start on their first calls."""
        for engine in engines if contexts else ():
            if (context := contexts.get(engine.weights_identity() or "")) is not None:
                engine.resume(context)
                self._deferred[engine] = context

    async def start(self) -> None:
        """Load the models, or reach the servers, that a run needs in any case."""
        for engine in self._engines:
            if engine not in self._deferred:
                self._say(_stage(engine))
                await engine.start()

    async def ready(self, engine: Engine[Any]) -> None:
        """Start a deferred engine, once. Failure if its context is now smaller than that of the prompts."""
        if engine not in self._deferred:
            return
        async with self._lock:
            if engine not in self._deferred:
                return
            self._say(_stage(engine))
            began = time.monotonic()
            await engine.start()
            self.late_seconds += time.monotonic() - began
            self._say("reranking")
            context = self._deferred[engine]
            if engine.max_model_len is not None and engine.max_model_len < context:
                raise Failure(
                    f"model {engine.model.name} has a context of {engine.max_model_len} tokens here, less than the {context} of "
                    "the earlier run in this journal: free memory, or name another journal with --rerank.journal"
                )
            del self._deferred[engine]

    def contexts(self) -> dict[str, int]:
        """The contexts of the weights that have been loaded, by identity."""
        loaded = [engine for engine in self._engines if engine not in self._deferred]
        known = {engine.weights_identity(): engine.max_model_len for engine in loaded}
        return {identity: context for identity, context in known.items() if identity and context}


def _stage(engine: Engine[Any]) -> str:
    return f"loading {engine.model.name}" if engine.needs_weights else f"starting the engine {engine.name}"
