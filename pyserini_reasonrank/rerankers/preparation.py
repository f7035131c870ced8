"""The texts of a request, prepared when a question first shows them: the first call does not wait for all passages.

Preparing the other passages while the first call is answered was measured and is slower: the thread keeps requests waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pyserini_reasonrank.prompts.fitting import Fitter, Prepared
from pyserini_reasonrank.records import Request


class Preparation:
    """A request and its prepared texts. A worker thread prepares those of the questions that wait, one after the other.

    It also tokenizes those of a prompt that may not fit the context. No thread is used for documents that earlier queries had.
    """

    def __init__(self, fitter: Fitter, request: Request) -> None:
        self.request = request
        self._fitter = fitter
        self._prepared = fitter.begin(request)
        self._wanted: list[Sequence[int]] = []
        self._running: asyncio.Task[None] | None = None

    async def showing(self, places: Sequence[int]) -> Prepared:
        """The request, prepared as far as a prompt with the candidates ``places`` needs."""
        while not self._ready(places):
            self._wanted.append(places)
            if self._running is None:
                self._running = asyncio.create_task(self._complete())
            await asyncio.shield(self._running)  # others wait for the same thread
        return self._prepared

    def _ready(self, places: Sequence[int]) -> bool:
        known = self._prepared.has(places) or self._fitter.reuse(self._prepared, self.request, places)
        return known and self._fitter.measured(self._prepared, places)

    async def _complete(self) -> None:
        wanted, self._wanted = self._wanted, []
        try:
            await asyncio.to_thread(self._prepare, wanted)
        finally:
            self._running = None

    def _prepare(self, wanted: Sequence[Sequence[int]]) -> None:
        self._fitter.complete(self._prepared, self.request, set().union(*wanted))
        for places in wanted:
            self._fitter.measure(self._prepared, places)
