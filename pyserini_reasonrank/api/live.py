"""Loaded models on an event loop, and the object that makes calls with them: what ``Reranker`` and ``Rewriter`` share."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pyserini_reasonrank.engines import Engine
from pyserini_reasonrank.engines.background_loop import BackgroundLoop
from pyserini_reasonrank.journal import Journal, MemoryStore, TracingStore
from pyserini_reasonrank.run.session import close
from pyserini_reasonrank.run.starting import Starter


class Live[T]:
    """Engines that have started, their store of calls, and the ``worker`` that ``make`` returns for it, on ``loop``.

    ``run`` is the name of the calls in the file ``journal``; without a file they are in memory. ``finalizer`` frees everything,
    at the latest at exit or when ``owner`` is collected.
    """

    def __init__(
        self,
        owner: object,
        engines: Sequence[Engine[Any]],
        run: str,
        journal: Path | None,
        loop: BackgroundLoop,
        make: Callable[[TracingStore], T],
    ) -> None:
        self.loop = loop
        store: Journal | MemoryStore | None = None
        try:
            self.call(Starter(engines, {}).start())
            store = MemoryStore() if journal is None else Journal(journal, run)
            self.store = TracingStore(store)
            self.worker = make(self.store)
        except BaseException:
            _free(self.loop, engines, store)
            raise
        self.finalizer = weakref.finalize(owner, _free, self.loop, engines, store)

    def call(self, coroutine: Any) -> Any:
        """Run a coroutine on the loop and wait for its result. An interrupt cancels it."""
        future = self.loop.submit(coroutine)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise


def _free(loop: BackgroundLoop, engines: Sequence[Engine[Any]], store: Journal | MemoryStore | None) -> None:
    try:
        loop.submit(close(engines)).result()
    finally:
        loop.close()
        if isinstance(store, Journal):
            store.close()
