"""The progress bar of a run on stderr: judgements, tokens per second, bad judgements. Off if stderr is not a terminal."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from pyserini_reasonrank.records import Tally


class Progress:
    """A progress bar over the questions of a run. ``expect`` adds questions when a request arrives."""

    def __init__(self) -> None:
        from tqdm import tqdm

        self._bar = tqdm(total=0, unit="call", file=sys.stderr, disable=not sys.stderr.isatty(), leave=True)
        self._began = time.monotonic()

    def expect(self, questions: int) -> None:
        self._bar.total = (self._bar.total or 0) + questions

    def say(self, stage: str) -> None:
        """Describe the current stage, such as loading."""
        self._bar.set_description(stage)

    def show(self, tally: Tally) -> None:
        self._bar.n = tally.judgements
        self._bar.set_postfix_str(
            f"{tally.output_tokens / (time.monotonic() - self._began):.0f} tok/s, {tally.bad} bad", False
        )
        self._bar.update(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._bar.refresh()
        self._bar.close()
