"""Which of several servers of one model answers a call, and when a server that failed is used again. It makes no requests."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from pyserini_reasonrank.engines.query_affinity import ModelCopy, QueryAffinity

_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 1.0, 60.0


class ServerFailed(Exception):
    """A server gave no answer that counts. ``down``: it can't be reached, so other calls should not go to it either."""

    def __init__(self, error: Exception, *, down: bool) -> None:
        super().__init__(str(error))
        self.error, self.down = error, down


class OtherModel(ServerFailed):
    """A server that can be reached again serves another model than before, or than the other servers."""


async def _no_check(handle: Any) -> None: ...


@dataclass(eq=False, slots=True)
class Server[H](ModelCopy[H]):
    """A server, numbered from 0."""

    failures: int = 0
    """How often in succession it could not be reached. Any answer that counts resets it, also one with an error."""
    rests_until: float = 0.0
    tries: int = 0
    """The calls in flight that find out whether it can be reached again."""
    admitted: bool = True
    """Whether it was found to serve the right model; False from the start of a server that has not been reached yet."""


class ServerRotation[H]:
    """The servers of one model, on one asyncio loop.

    The calls of a query go to one server, whose prefix cache has the beginning of its prompts; a new query goes to the
    server with the fewest calls in flight. A query changes its server if another one has less than half as many calls in
    flight. A call that a server does not answer goes to each other server that can be reached, and then, patiently, to one
    of them again. A server that can't be reached is left out for one second, then two, up to a minute; after each of these
    pauses one call tries it. Before that call, ``check`` is awaited, which raises OtherModel if the server may not be used
    and ServerFailed if it can't be reached; only a patient call goes to a server that served before without it.
    """

    def __init__(
        self,
        handles: Sequence[H],
        check: Callable[[H], Awaitable[None]] = _no_check,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._servers = [Server(number, handle) for number, handle in enumerate(handles)]
        self._affinity: QueryAffinity[Server[H]] = QueryAffinity()
        self._check, self._clock = check, clock
        self.moved_calls = 0
        """The calls that went to another server because one did not answer."""

    @property
    def down(self) -> list[H]:
        """The servers that could not be reached when they were last called."""
        return [server.handle for server in self._servers if server.failures]

    def rest(self, handle: H) -> None:
        """Leave out a server that has not been reached yet."""
        for server in self._servers:
            if server.handle is handle:
                server.admitted = False
                self._leave_out(server)

    async def ask[R](self, qid: str, send: Callable[[H, bool], Awaitable[R]]) -> R:
        """Return the answer of ``send(handle, patient)``, which raises ServerFailed if its server gives none.

        The last attempt is patient, and so is one at the only server that can be reached: it may wait and ask several times.
        Raises the error of the last attempt.
        """
        tried: set[int] = set()
        while True:
            usable = self._usable(tried)
            server = self._affinity.choose(qid, usable or self._last_resort())
            patient = not usable or (len(usable) < 2 and not tried and server.admitted)
            if tried:
                self.moved_calls += 1
            tries = server.failures > 0
            server.in_flight += 1
            server.tries += tries
            try:
                if tries and not (patient and server.admitted):
                    await self._check(server.handle)
                    server.admitted = True
                answer = await send(server.handle, patient)
            except ServerFailed as failed:
                server.admitted &= not isinstance(failed, OtherModel)
                if failed.down and (tries or not server.failures):  # calls that failed together count once
                    self._leave_out(server)
                tried.add(server.number)
                if patient and not (failed.down and self._usable(tried)):  # another one may have come back meanwhile
                    raise failed.error from failed
            except Exception:  # an answer too, such as one that rejects this request
                server.failures = 0
                raise
            else:
                server.failures = 0
                return answer
            finally:
                server.in_flight -= 1
                server.tries -= tries

    def _leave_out(self, server: Server[H]) -> None:
        """Start a pause."""
        server.rests_until = self._clock() + min(_PAUSE_SECONDS * 2**server.failures, _LONGEST_PAUSE_SECONDS)
        server.failures += 1

    def _last_resort(self) -> list[Server[H]]:
        """The servers of the last attempt: those that can be reached, otherwise those that served the model before."""
        admitted = [server for server in self._servers if server.admitted] or self._servers
        usable = self._usable()
        return [server for server in admitted if server in usable] or admitted

    def _usable(self, tried: Collection[int] = ()) -> list[Server[H]]:
        """The servers that answered last, and those whose pause is over and that no call tries at the moment."""
        now = self._clock()
        return [
            server
            for server in self._servers
            if server.number not in tried and (not server.failures or (server.rests_until <= now and not server.tries))
        ]
