"""All queries in flight against one engine: a lane of limited width, earlier queries first, results as they end."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from pyserini_reasonrank.records import Ranking, Request


class Lane:
    """At most ``width`` calls at once. Who waits is served by priority (the query's number), then by arrival.

    So a run finishes queries one after another instead of all of them at its end.
    """

    def __init__(self, width: int) -> None:
        self._free = width
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._arrivals = 0

    @asynccontextmanager
    async def slot(self, priority: int) -> AsyncIterator[None]:
        """Hold one of the slots."""
        if self._free:
            self._free -= 1
        else:
            turn = asyncio.get_running_loop().create_future()
            self._arrivals += 1
            heapq.heappush(self._waiting, (priority, self._arrivals, turn))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._release()
                raise
        try:
            yield
        finally:
            self._release()

    def _release(self) -> None:
        while self._waiting:
            *_, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


async def rerank_all(
    requests: AsyncIterator[Request],
    rerank: Callable[[Request], Awaitable[Ranking]],
    *,
    width: int,
    done: Callable[[Ranking], None],
) -> None:
    """Rerank every request, ``width`` queries open at most; ``done`` is called as each ends, in any order.

    Requests are taken from the stream only as queries end (back-pressure). The first failure cancels the rest and is
    raised, unwrapped.
    """
    free = asyncio.Semaphore(width)

    async def one(request: Request) -> None:
        try:
            done(await rerank(request))
        finally:
            free.release()

    async with together() as spawn:
        async for request in requests:
            await free.acquire()
            spawn(one(request))


@asynccontextmanager
async def together() -> AsyncIterator[Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]]]:
    """A function that starts tasks, all of them ended with the block; the first failure cancels the rest and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group.create_task
    except BaseExceptionGroup as errors:
        raise first_of(errors) from None


def first_of(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error of a group, however deep."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
