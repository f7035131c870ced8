"""What ``Reranker`` and ``Rewriter`` share: models that are loaded once, on an event loop of their own."""

from __future__ import annotations

import asyncio
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from threading import Lock, Thread, get_ident, main_thread
from typing import Any, ClassVar, Self

from pyserini_reasonrank.engines import Engine
from pyserini_reasonrank.engines.background_loop import BackgroundLoop
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.journal import Journal
from pyserini_reasonrank.rerankers.call_store import MemoryStore, TracingStore
from pyserini_reasonrank.run.session import close
from pyserini_reasonrank.run.starting import Starter


class Live[T]:
    """Engines that have started, their store of calls, and the ``worker`` that ``make`` returns for it, on ``loop``.

    ``run`` is the name of the calls in the file ``journal``; without a file they are in memory. Everything is freed by
    ``free``, at the latest at exit or when ``owner`` is collected.
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
        self._finalizer = weakref.finalize(owner, _collected, self.loop, engines, store)

    def free(self) -> None:
        """Close the engines, the loop and the journal, once. On the loop's own thread, another one does it afterwards."""
        if (pending := self._finalizer.detach()) is not None:
            _, _, arguments, _ = pending
            (_free_in_a_thread if self.loop.runs_here else _free)(*arguments)

    def call(self, coroutine: Any) -> Any:
        """Run a coroutine on the loop and wait for its result. An interrupt cancels it."""
        future = self.loop.submit(coroutine)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise


class Loadable[T](ABC):
    """An object whose model is loaded once: by its first use, by ``load()``, or at the beginning of a ``with`` block.

    An ``async with`` block loads and frees it without blocking the running event loop.
    """

    kind: ClassVar[str]
    """What it is called in messages."""

    def __init__(self, journal: str | Path | None) -> None:
        self._journal = None if journal is None else Path(journal)
        self._numbers = count()  # of queries
        self._loading = Lock()
        self._live: Live[T] | None = None
        self._closed = False

    def load(self, loop: BackgroundLoop | None = None) -> Self:
        """Load the model, unless it is already loaded. UsageError or Failure if that fails.

        ``loop`` is the event loop that makes the calls, by default one in a thread of its own. It has to run until ``close``.
        """
        self._loaded(loop)
        return self

    def close(self) -> None:
        """Free the model, and close connections and the journal. The object can't be used afterwards.

        In a coroutine, use ``aclose``: this blocks the event loop.
        """
        with self._loading:
            self._closed = True
            if self._live is not None:
                self._live.free()

    async def aclose(self) -> None:
        """As ``close``, without blocking the running event loop."""
        await asyncio.to_thread(self.close)

    def __enter__(self) -> Self:
        return self.load()

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        await self._loaded_async()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _loaded(self, loop: BackgroundLoop | None = None) -> Live[T]:
        with self._loading:
            if self._closed:
                raise UsageError(f"the {self.kind} is closed: create another one")
            if self._live is None:
                self._live = self._start(loop or BackgroundLoop(self.kind))
            return self._live

    async def _loaded_async(self) -> Live[T]:
        if self._live is not None and not self._closed:
            return self._live
        return await asyncio.to_thread(self._loaded)

    @abstractmethod
    def _start(self, loop: BackgroundLoop) -> Live[T]: ...


_Freed = tuple[BackgroundLoop, Sequence[Engine[Any]], Journal | MemoryStore | None]


def _collected(*freed: *_Freed) -> None:
    """Free what a collected object owned, at once on the main thread and otherwise in a new one.

    A garbage collection runs on any thread, also on one that freeing waits for: the loop's, the journal's, an engine's. At
    exit it is the main thread, where no new one can start.
    """
    here = get_ident() == main_thread().ident and not freed[0].runs_here
    (_free if here else _free_in_a_thread)(*freed)


def _free_in_a_thread(*freed: *_Freed) -> None:
    Thread(target=_free, args=freed, name="closing").start()


def _free(loop: BackgroundLoop, engines: Sequence[Engine[Any]], store: Journal | MemoryStore | None) -> None:
    try:
        loop.submit(close(engines)).result()
    finally:
        loop.close()
        if isinstance(store, Journal):
            store.close()
