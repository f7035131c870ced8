"""The progress of a run on stderr: a bar on a terminal; elsewhere a line at regular intervals, also if nothing happens."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple, Self

from pyserini_reasonrank.records import Tally
from pyserini_reasonrank.rerankers.endpoint import Endpoint

LINE_SECONDS = 30.0
"""The time between two lines if stderr is not a terminal."""
_BAR_SECONDS = 1.0


class Waiting(NamedTuple):
    """Calls without an answer: their number, and how many seconds ago the oldest was made."""

    calls: int = 0
    oldest: float = 0.0

    @classmethod
    def of(cls, endpoints: Collection[Endpoint]) -> Self:
        """The calls in flight at ``endpoints``, and how long the oldest has waited."""
        oldest = max((endpoint.oldest_wait for endpoint in endpoints), default=0.0)
        return cls(sum(endpoint.in_flight for endpoint in endpoints), oldest)

    def __str__(self) -> str:
        return f"{self.calls:,} calls waiting, the oldest for {self.oldest:.0f} s" if self.calls else "no call waiting"


class Progress:
    """The progress of the questions of a run, shown from ``async with`` on.

    ``expect`` adds questions when a request arrives. ``tally`` may be set to a function that returns the counts of the run so
    far, and ``waiting`` to one that counts the calls in flight: both are called only where progress is shown. ``seconds`` is
    the time between two lines.
    """

    def __init__(self, seconds: float = LINE_SECONDS) -> None:
        from tqdm import tqdm

        tqdm.monitor_interval = 0  # this class refreshes the bar, so tqdm needs no thread for that
        self._terminal = sys.stderr.isatty()
        self._bar = tqdm(total=0, unit="call", file=sys.stderr, disable=not self._terminal, leave=True)
        self._seconds = _BAR_SECONDS if self._terminal else seconds
        self._began = self._stage_began = time.monotonic()
        self._stage, self._expected = "starting", 0
        self.tally: Callable[[], Tally] = Tally
        self.waiting: Callable[[], Waiting] = Waiting

    def expect(self, questions: int) -> None:
        """Add ``questions`` to the number of judgements that the run will have; a negative number takes some away."""
        self._expected += questions
        self._bar.total = self._expected

    def say(self, stage: str) -> None:
        """Describe the current stage, such as loading."""
        self._stage, self._stage_began = stage, time.monotonic()
        self._bar.set_description(stage)

    def warn(self, warning: str) -> None:
        """Print a warning above the bar."""
        with self._bar.external_write_mode(file=sys.stderr):
            print(f"warning: {warning}", file=sys.stderr)

    async def __aenter__(self) -> Self:
        self._ticker = asyncio.ensure_future(self._tick())
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._ticker.cancel()
        with suppress(asyncio.CancelledError):
            await self._ticker
        if self._terminal:
            self._update()
        self._bar.close()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(self._seconds)
            if self._terminal:
                self._update()
            else:
                print(self._line(), file=sys.stderr, flush=True)

    def _update(self) -> None:
        tally, waiting = self.tally(), self.waiting()
        rate = tally.output_tokens / (time.monotonic() - self._began)
        late = f", {waiting}" if waiting.oldest > LINE_SECONDS else ""
        self._bar.set_postfix_str(f"{rate:.0f} tok/s, {tally.bad} bad{late}", False)
        self._bar.n = tally.judgements
        if not self._bar.update(0):  # nothing new
            self._bar.refresh()

    def _line(self) -> str:
        now = time.monotonic()
        if not self._expected:
            return f"{self._stage} for {now - self._stage_began:.0f} s"
        tally = self.tally()
        return (
            f"{self._stage} for {now - self._stage_began:.0f} s: {tally.judgements:,} of {self._expected:,} judgements, "
            f"{tally.bad:,} bad, {tally.calls:,} calls, {tally.prompt_tokens:,} tokens read, {tally.output_tokens:,} "
            f"written; {self.waiting()}"
        )
