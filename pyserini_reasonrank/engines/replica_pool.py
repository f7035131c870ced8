"""Which replica of an engine answers a call, and what happens to the calls of a replica that dies. It knows no cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pyserini_reasonrank.engines.query_affinity import ModelCopy, QueryAffinity
from pyserini_reasonrank.errors import Failure
from pyserini_reasonrank.records import Completion


class ReplicaDied(Exception):
    """A replica ended before it answered a call."""


@dataclass(eq=False, slots=True)
class Replica[H](ModelCopy[H]):
    """A replica that is ready."""


class ReplicaPool[H]:
    """The replicas that are ready, on one asyncio loop.

    The calls of a query go to one replica, whose prefix cache has the beginning of its prompts; a new query goes to the
    replica with the fewest calls in flight. A query changes its replica if another one has less than half as many calls
    in flight, as one has that has just joined. A call whose replica dies is asked again, ``retries`` times. A call waits
    ``wait`` seconds for a replica.
    """

    def __init__(self, retries: int, wait: float) -> None:
        self._retries, self._wait = retries, wait
        self._ready: list[Replica[H]] = []
        self._affinity: QueryAffinity[Replica[H]] = QueryAffinity()
        self._changed = asyncio.Condition()
        self._failure = ""
        self.asked_again = 0
        """The calls that were asked again because their replica died."""

    @property
    def handles(self) -> list[H]:
        """The handles of the replicas that are ready."""
        return [replica.handle for replica in self._ready]

    async def join(self, replica: Replica[H]) -> None:
        """Use ``replica`` from now on."""
        async with self._changed:
            self._ready.append(replica)
            self._changed.notify_all()

    def leave(self, replica: Replica[H]) -> None:
        """Stop using ``replica``. Its calls in flight end in their own way."""
        if replica in self._ready:
            self._ready.remove(replica)

    async def end(self, reason: str) -> None:
        """Let all calls that wait for a replica, and later ones, fail with ``reason``: no replica will be ready again."""
        async with self._changed:
            self._failure = reason
            self._changed.notify_all()

    async def filled(self) -> None:
        """Wait until a replica is ready. Failure if that takes longer than ``wait`` seconds, or if it can't happen."""
        if self._ready:
            return
        try:
            async with asyncio.timeout(self._wait), self._changed:
                await self._changed.wait_for(lambda: self._ready or self._failure)
        except TimeoutError:
            raise Failure(f"no replica was ready within {self._wait:g} seconds") from None
        if not self._ready:
            raise Failure(self._failure)

    async def ask(self, qid: str, send: Callable[[H], Awaitable[Completion]]) -> Completion:
        """Return the answer of ``send``, called with the handle of a replica, which raises ReplicaDied if that ends.

        A call that ended several replicas may be the reason: beyond ``retries``, its completion is an error. Failure if
        no replica is ready in time.
        """
        for attempt in range(self._retries + 1):
            replica = await self._choose(qid)
            self.asked_again += attempt > 0
            replica.in_flight += 1
            try:
                return await send(replica.handle)
            except ReplicaDied as error:
                self.leave(replica)
                reason = str(error)
            finally:
                replica.in_flight -= 1
        died = f"the replica died in each of {self._retries + 1} attempts ({reason})"
        return Completion(finish_reason="error", error=died)

    async def _choose(self, qid: str) -> Replica[H]:
        while not self._ready:
            await self.filled()
        return self._affinity.choose(qid, self._ready)
