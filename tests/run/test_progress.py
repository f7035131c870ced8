"""The progress of a run: read only where it is shown, and complete at the end."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter

import pytest

from pyserini_reasonrank.records import Status, Tally
from pyserini_reasonrank.run import progress as module
from pyserini_reasonrank.run.progress import Progress


def judged(n: int) -> Tally:
    return Tally(Counter({Status.OK: n, Status.EMPTY: 1}), calls=n + 1, output_tokens=10 * n)


def test_counts_are_read_only_where_they_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    read = []

    def tally() -> Tally:
        read.append(1)
        return judged(len(read))

    async def run() -> None:
        async with Progress(0.1) as progress:
            progress.tally = tally
            await asyncio.sleep(0.15)
            progress.expect(5)
            progress.say("reranking")
            assert not read  # a line without questions has no counts
            await asyncio.sleep(0.1)
            assert len(read) == 1

    asyncio.run(run())
    first, second = capsys.readouterr().err.splitlines()
    assert first == "starting for 0 s"
    assert second.startswith("reranking for 0 s: 2 of 5 judgements, 1 bad, 2 calls, 0 tokens read, 10 written;")


def test_a_terminal_shows_the_last_counts(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(module, "_BAR_SECONDS", 0.05)
    count = 1

    async def run() -> None:
        nonlocal count
        async with Progress() as progress:
            progress.expect(10)
            progress.expect(-2)
            progress.tally = lambda: judged(count)
            await asyncio.sleep(0.1)
            assert " 2/8 " in capsys.readouterr().err
            count = 7

    asyncio.run(run())
    last = capsys.readouterr().err
    assert " 8/8 " in last
    assert "1 bad" in last
