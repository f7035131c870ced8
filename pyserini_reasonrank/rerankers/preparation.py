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

    No thread is used for documents that earlier queries had.
    """

    def __init__(self, fitter: Fitter, request: Request) -> None:
        self.request = request
        self._fitter = fitter
        self._prepared = fitter.begin(request)
        self._wanted: set[int] = set()
        self._running: asyncio.Task[None] | None = None

    async def showing(self, places: Sequence[int]) -> Prepared:
        """The request with at least the passages of the candidates ``places`` prepared."""
        while not self._prepared.has(places):
            if self._fitter.knows(self.request, places):
                self._fitter.complete(self._prepared, self.request, places)
                break
            self._wanted.update(places)
            if self._running is None:
                self._running = asyncio.create_task(self._complete())
            await asyncio.shield(self._running)  # others wait for the same thread
        return self._prepared

    async def _complete(self) -> None:
        wanted, self._wanted = self._wanted, set()
        try:
            await asyncio.to_thread(self._fitter.complete, self._prepared, self.request, wanted)
        finally:
            self._running = None
