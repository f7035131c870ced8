"""Damaged journals: each reader reads one, or refuses it with one sentence that names it, soon."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import fuzz_examples
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pyserini_reasonrank.errors import Failure, UsageError
from pyserini_reasonrank.journal import Journal
from pyserini_reasonrank.journal_reader import (
    contexts,
    export,
    judgement_records,
    rankings,
    read_answers,
    recorded_calls,
    recorded_runs,
)
from pyserini_reasonrank.records import (
    Call,
    Candidate,
    Completion,
    Judgement,
    Query,
    Ranked,
    Ranking,
    Request,
    Sampling,
    Status,
)

pytestmark = pytest.mark.fuzz

RUN = "tag run.txt"
READERS: dict[str, Callable[[Path], Any]] = {
    "export": lambda path: list(export(path)),
    "rankings": lambda path: list(rankings(path)),
    "runs": recorded_runs,
    "calls": lambda path: list(recorded_calls(path, RUN)),
    "judgements": lambda path: list(judgement_records(path, RUN)),
    "answers": read_answers,
    "contexts": contexts,
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A journal of forty calls."""
    path = tmp_path_factory.mktemp("journal") / "whole.sqlite"
    journal = Journal(path, RUN)

    async def fill() -> None:
        for number in range(40):
            call = Call(f"q{number % 4}", number // 4, ("d1", "d2"), lambda gains: "", lambda gains, choices: {})
            text = f"<think>{number} é</think><answer>[2] > [1]</answer>"
            await journal.add(f"key{number}-abc", call, Sampling(), Completion(text, "stop", 10, 5, 0.1, {"A": -0.1}))
            journal.judged(call, Judgement((1, 0), Status.OK, "reasoning"))
        candidates = (Candidate("d1", 2.0, "a"), Candidate("d2", 1.0, "b"))
        for number in range(4):
            request = Request(Query(f"q{number}", "a query"), candidates, number)
            journal.ranked(Ranking(request, (1, 0), Ranked((1, 0))))
        journal.loaded("model", 4096)
        await journal.settle()

    asyncio.run(fill())
    journal.close()
    for reader in READERS.values():
        assert reader(path)
    return path.read_bytes()


DAMAGE = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=40)), min_size=1, max_size=5
)


@settings(max_examples=fuzz_examples(3))
@given(damage=DAMAGE, kept=st.just(1.0) | st.floats(0, 1))
@example(damage=[(0.078125, b"`")], kept=1.0)  # SQLite's message quotes the schema, several lines
def test_a_damaged_journal_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, whole: bytes, damage: list[tuple[float, bytes]], kept: float
) -> None:
    folder = tmp_path_factory.getbasetemp()
    content = bytearray(whole[: int(len(whole) * kept)])
    for place, data in damage:
        at = int(place * len(content))
        content[at : at + len(data)] = data
    path = folder / "damaged.sqlite"
    for name, reader in {**READERS, "open": opened}.items():
        for old in folder.glob("damaged.sqlite*"):
            old.unlink(missing_ok=True)
        path.write_bytes(content)
        message = refusal(reader, path)
        assert not message or str(path) in message, name
        assert "\n" not in message, name


def opened(path: Path) -> None:
    journal = Journal(path, RUN)
    try:
        for number in range(40):
            journal.find(f"key{number}-abc")
    finally:
        journal.close()


def refusal(reader: Callable[[Path], Any], path: Path) -> str:
    """The message of the reader's error; "" if it reads the file."""
    try:
        reader(path)
    except (UsageError, Failure) as error:
        return str(error)
    return ""
