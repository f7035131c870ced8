"""Admission of requests: how many are ranked and wait at once, and when a client that was refused may return."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_RECENT = 0.2  # the weight of the last request in the mean duration


class Full(Exception):
    """No place is free. ``retry_after`` is the expected time until one is, in whole seconds."""

    def __init__(self, limit: int, retry_after: int) -> None:
        super().__init__(f"the server already has {limit} requests; try again in {retry_after} s")
        self.retry_after = retry_after


class Admission:
    """Admits up to ``limit`` requests at once. All of them share the calls of the engines; none waits here."""

    def __init__(self, limit: int) -> None:
        self.limit, self.active = limit, 0
        self._seconds = 1.0

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold one of the places for a block. Full if none is free."""
        if self.active >= self.limit:
            raise Full(self.limit, max(1, math.ceil(self._seconds / self.limit)))
        self.active += 1
        began = time.monotonic()
        try:
            yield
        finally:
            self.active -= 1
            self._seconds += _RECENT * (time.monotonic() - began - self._seconds)
