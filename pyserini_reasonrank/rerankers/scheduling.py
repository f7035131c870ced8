"""All queries in flight against one engine: a lane of limited width, earlier queries first, results as they end."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from pyserini_reasonrank.records import Ranking, Request

ROOM = 20_000
"""Questions that may be open at once: some 150 MB."""


class Lane:
    """At most ``width`` calls at once. Who waits is served by priority (the query's number), then by arrival.

    So a run finishes queries one after another instead of all of them at its end.
    """

    def __init__(self, width: int) -> None:
        self._free = width
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._arrivals = 0

    def slot(self, priority: int) -> Slot:
        """Hold one of the slots, in an ``async with``."""
        return Slot(self, priority)

    async def take(self, priority: int) -> None:
        """Wait for one of the slots. Whoever has one has to ``release`` it."""
        if self._free:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._arrivals += 1
        heapq.heappush(self._waiting, (priority, self._arrivals, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release()
            raise

    def release(self) -> None:
        while self._waiting:
            *_, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot of a lane, for as long as a block takes."""

    lane: Lane
    priority: int

    async def __aenter__(self) -> None:
        await self.lane.take(self.priority)

    async def __aexit__(self, *_: object) -> None:
        self.lane.release()


@dataclass(frozen=True, slots=True)
class Load:
    """What an open query holds: ``questions`` in all, about ``abreast`` of its calls in flight at a time."""

    questions: int = 0
    abreast: float = 1.0


class Door:
    """Lets a query in while fewer than ``width`` are open, with no more than ``ROOM`` questions among them.

    A question that waits takes memory, and a query may ask thousands at once. Queries whose calls wait for one another
    are let in beyond that room, as many as it takes to keep ``width`` calls in flight; one is always let in.
    """

    def __init__(self, width: int) -> None:
        self._width, self._open, self._questions, self._abreast = width, 0, 0, 0.0
        self._left = asyncio.Event()

    async def enter(self, load: Load) -> None:
        """Wait until there is room. For one caller at a time."""
        while not self._fits(load):
            self._left.clear()
            await self._left.wait()
        self._open += 1
        self._questions += load.questions
        self._abreast += load.abreast

    def leave(self, load: Load) -> None:
        self._open -= 1
        self._questions -= load.questions
        self._abreast -= load.abreast
        self._left.set()

    def _fits(self, load: Load) -> bool:
        room = self._questions + load.questions <= ROOM or self._abreast < self._width
        return not self._open or (self._open < self._width and room)


async def rerank_all(
    requests: AsyncIterator[Request],
    rerank: Callable[[Request], Awaitable[Ranking]],
    *,
    width: int,
    done: Callable[[Ranking], None],
    load: Callable[[Request], Load] = lambda request: Load(),
) -> None:
    """Rerank every request, as many queries at once as a ``Door`` lets in; ``done`` is called as each ends, in any order.

    Requests are taken from the stream only as queries end (back-pressure). The first failure cancels the rest and is
    raised, unwrapped.
    """
    door = Door(width)

    async def one(request: Request) -> None:
        try:
            done(await rerank(request))
        finally:
            door.leave(load(request))

    async with together() as spawn:
        async for request in requests:
            await door.enter(load(request))
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
