"""All queries in flight against one engine: limited concurrency, earlier queries first, results as they end."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from pyserini_reasonrank.errors import CallFailed, first_of
from pyserini_reasonrank.records import Request

MAX_OPEN_QUESTIONS = 20_000
"""Questions that may be open at once; they take about 150 MB."""
MAX_AHEAD = 512
"""The most queries of a run that wait for their first call: without them, its last chains of calls would start late."""


_Waiter = tuple[int, int, int, int, asyncio.Future[None]]


class PrioritySemaphore:
    """A semaphore of ``width`` slots whose waiters are served by priority (the query's number), then by arrival.

    A run therefore finishes its queries one after another instead of all of them at the end. With ``even``, the waiters
    of the query with the fewest questions so far are served first: the last queries of a run then end together, instead of
    one long chain of calls after the others, with most slots empty.
    """

    def __init__(self, width: int) -> None:
        self._free, self._even = width, False
        self._waiting: list[_Waiter] = []
        self._arrivals = 0

    @property
    def even(self) -> bool:
        """Whether the queries with the fewest questions so far are served first."""
        return self._even

    @even.setter
    def even(self, even: bool) -> None:
        if even != self._even:
            self._even = even
            self._waiting = [self._waiter(*waiter[1:]) for waiter in self._waiting]
            heapq.heapify(self._waiting)

    def slot(self, priority: int, asked: int = 0) -> Slot:
        """One slot, held for the length of an ``async with`` block. ``asked``: the questions of the query so far."""
        return Slot(self, priority, asked)

    async def acquire(self, priority: int, asked: int = 0) -> None:
        """Wait for a slot. The caller has to ``release`` it."""
        if self._free:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._arrivals += 1
        heapq.heappush(self._waiting, self._waiter(priority, self._arrivals, asked, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release()
            raise

    def release(self) -> None:
        """Give a slot back, to the first waiter if there is one."""
        while self._waiting:
            *_, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def _waiter(self, priority: int, arrival: int, asked: int, turn: asyncio.Future[None]) -> _Waiter:
        return asked if self._even else 0, priority, arrival, asked, turn


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot of a semaphore, for the length of a block."""

    semaphore: PrioritySemaphore
    priority: int
    asked: int = 0

    async def __aenter__(self) -> None:
        await self.semaphore.acquire(self.priority, self.asked)

    async def __aexit__(self, *_: object) -> None:
        self.semaphore.release()


@dataclass(frozen=True, slots=True)
class QueryLoad:
    """What an open query needs: ``questions`` in all, and on average ``parallel_calls`` calls in flight."""

    questions: int = 0
    parallel_calls: float = 1.0


class AdmissionControl:
    """Admits a query while fewer than ``width`` are open, with at most ``MAX_OPEN_QUESTIONS`` questions among them.

    A waiting question takes memory, and one query may ask thousands at once. Beyond the limit, queries are admitted only
    as long as the open ones do not keep ``width`` calls in flight. One query is always admitted. ``ahead`` further queries
    may be open within the limit of questions.
    """

    def __init__(self, width: int, ahead: int = 0) -> None:
        self._width, self._open, self._questions, self._parallel_calls = width, 0, 0, 0.0
        self._ahead = ahead
        self._left = asyncio.Event()

    async def enter(self, load: QueryLoad) -> None:
        """Wait until the query may start. One caller at a time."""
        while not self._fits(load):
            self._left.clear()
            await self._left.wait()
        self._open += 1
        self._questions += load.questions
        self._parallel_calls += load.parallel_calls

    def leave(self, load: QueryLoad) -> None:
        """Take a finished query off the count."""
        self._open -= 1
        self._questions -= load.questions
        self._parallel_calls -= load.parallel_calls
        self._left.set()

    def _fits(self, load: QueryLoad) -> bool:
        room = self._questions + load.questions <= MAX_OPEN_QUESTIONS
        if self._open < self._width:
            return not self._open or room or self._parallel_calls < self._width
        return room and self._open < self._width + self._ahead


async def rerank_all[R](
    requests: AsyncIterator[Request],
    rerank: Callable[[Request], Awaitable[R]],
    *,
    width: int,
    ahead: int = 0,
    done: Callable[[R], None],
    load: Callable[[Request], Awaitable[QueryLoad]] | None = None,
    failed: Callable[[Request, CallFailed], None] | None = None,
    last: Callable[[bool], None] = lambda last: None,
) -> None:
    """Rerank every request, as many at once as ``AdmissionControl`` admits; ``done`` is called as each ends, in any order.
    ``ahead`` further queries wait for their first call. ``last`` is called with False at the start, and with True once every
    request has been admitted.

    Requests are taken from the stream only as queries end (back-pressure). A query that ends with CallFailed is passed to
    ``failed``, if given; any other exception cancels the other queries and is raised, unwrapped.
    """
    admission = AdmissionControl(width, ahead)

    async def one(request: Request, needed: QueryLoad) -> None:
        try:
            done(await rerank(request))
        except CallFailed as error:
            if failed is None:
                raise
            failed(request, error)
        finally:
            admission.leave(needed)

    last(False)
    async with together() as spawn:
        async for request in requests:
            needed = QueryLoad() if load is None else await load(request)
            await admission.enter(needed)
            spawn(one(request, needed))
        last(True)


@asynccontextmanager
async def together() -> AsyncIterator[Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]]]:
    """A function that starts tasks, all awaited at the end of the block. The first exception cancels the others."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group.create_task
    except BaseExceptionGroup as errors:
        raise first_of(errors) from None
