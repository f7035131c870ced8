"""The journal: what was paid for is never lost, whatever kills the run, and what is read back is what was written."""

from __future__ import annotations

import asyncio
import json
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest

from pyserini_reasonrank.engines import Engine, EngineOptions
from pyserini_reasonrank.errors import Failure, UsageError
from pyserini_reasonrank.journal import Journal, call_key
from pyserini_reasonrank.journal_reader import export, rankings, read_answers
from pyserini_reasonrank.models.catalogue import Model
from pyserini_reasonrank.records import Call, Completion, Judgement, Message, Prompt, Repeat, Sampling, Status
from pyserini_reasonrank.rerankers.call_store import MemoryStore
from pyserini_reasonrank.rerankers.endpoint import Endpoint

PROMPT = Prompt((Message("system", "a"), Message("user", "b")), prefill="c")
SAMPLING = Sampling(temperature=0.5)
FULL = Completion("<think>é🤖</think>\n[1]", "length", 12, 34, 0.5, {"true": -0.25, "false": -1.5})


def call(qid: str = "q", number: int = 0, sample: int = 0) -> Call:
    return Call(qid, number, ("d1", "d 2"), lambda gains: "", lambda gains, choices: {}, Repeat(attempt=sample))


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "new" / "run.journal.sqlite", "tag")
    yield journal
    journal.close()


def reopened(journal: Journal) -> Journal:
    journal.close()
    return Journal(journal.path, journal.run)


def test_a_call_on_record_is_found_again_now_and_later(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.sqlite", "tag")
    assert journal.find("key") is None
    asyncio.run(journal.add("key", call(), SAMPLING, FULL))
    assert journal.find("key") == FULL
    journal = reopened(journal)
    assert journal.find("key") == FULL
    assert journal.find("other") is None
    journal.close()


@pytest.mark.parametrize(
    "other",
    [
        call_key("identity 2", PROMPT, SAMPLING, Repeat()),
        call_key("identity", PROMPT, replace(SAMPLING, logits=True), Repeat()),
        call_key("identity", PROMPT, replace(SAMPLING, apart=True), Repeat()),
        call_key("identity", replace(PROMPT, prefill="d"), SAMPLING, Repeat()),
        call_key("identity", replace(PROMPT, prefill=""), SAMPLING, Repeat()),
        call_key(
            "identity", Prompt((Message("system", "a"), Message("assistant", "b")), prefill="c"), SAMPLING, Repeat()
        ),
        call_key("identity", Prompt((Message("system", "au"), Message("ser", "b")), prefill="c"), SAMPLING, Repeat()),
        call_key("identity", Prompt((Message("system", "a"),), prefill="c"), SAMPLING, Repeat()),
        call_key("identity", PROMPT, replace(SAMPLING, temperature=0.0), Repeat()),
        call_key("identity", PROMPT, replace(SAMPLING, extra={"top_n": 1}), Repeat()),
        call_key("identity", PROMPT, replace(SAMPLING, choices=("true", "false")), Repeat()),
        call_key("identity", PROMPT, SAMPLING, Repeat(attempt=1)),
    ],
)
def test_all_that_decides_an_answer_is_in_its_key(other: str) -> None:
    key = call_key("identity", PROMPT, SAMPLING, Repeat())
    assert key == call_key("identity", replace(PROMPT), replace(SAMPLING), Repeat())
    assert other != key


def test_hundreds_of_calls_at_once_are_all_kept(journal: Journal) -> None:
    async def run() -> None:
        await asyncio.gather(*(journal.add(str(i), call(number=i), SAMPLING, Completion(str(i))) for i in range(500)))

    asyncio.run(run())
    assert [journal.find(str(i)) for i in range(500)] == [Completion(str(i)) for i in range(500)]


def test_others_may_read_while_it_is_written(journal: Journal) -> None:
    async def run() -> list[int]:
        seen = []
        for number in range(5):
            await journal.add(str(number), call(number=number), SAMPLING, FULL)
            seen.append(len(read_answers(journal.path)))
        return seen

    assert asyncio.run(run()) == [1, 2, 3, 4, 5]


def test_an_abandoned_call_that_was_answered_is_kept_for_the_next_run(journal: Journal) -> None:
    async def run() -> None:
        task = asyncio.create_task(journal.add("key", call(), SAMPLING, FULL))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    again = reopened(journal)
    assert again.find("key") == FULL


def test_export_gives_judgements_with_their_calls_in_the_order_asked(journal: Journal) -> None:
    cut, closed, retold = Completion("<think>cut", "length"), Completion("[1]"), Completion("[2] > [1]")

    async def run() -> None:
        for number in (10, 9):
            await journal.add(f"{number} cut", call("b", number), SAMPLING, cut)
            await journal.add(f"{number} closed", call("b", number), SAMPLING, closed)
            await journal.add(f"{number} retold", call("b", number, sample=1), SAMPLING, retold)
            journal.judged(call("b", number), Judgement((1, 0), Status.REPAIRED, "because", 1, None, "asked twice"))
        await journal.add("a", call("a"), SAMPLING, FULL)
        journal.judged(call("a"), Judgement((0, 1), Status.OK, score=0.5))

    asyncio.run(run())
    journal.close()
    records = list(export(journal.path))
    assert [(r["qid"], r["call"]) for r in records] == [("a", 0), ("b", 9), ("b", 10)]
    assert [r["qid"] for r in export(journal.path, "a")] == ["a"]
    assert list(export(journal.path, "c")) == []
    repaired = records[2]
    assert (repaired["run"], repaired["docids"], repaired["order"]) == ("tag", ["d1", "d 2"], ["d 2", "d1"])
    assert (repaired["status"], repaired["filled"], repaired["detail"]) == ("repaired", 1, "asked twice")
    assert [c["text"] for c in repaired["calls"]] == ["<think>cut", "[1]", "[2] > [1]"]
    assert records[0]["calls"][0]["prompt_tokens"] == 12
    assert records[0]["calls"][0]["choices"] == {"true": -0.25, "false": -1.5}


def test_export_says_which_choices_are_logits(journal: Journal) -> None:
    async def run() -> None:
        for number, logits in enumerate((True, False)):
            await journal.add(f"{number}", call("q", number), replace(SAMPLING, logits=logits), FULL)
            journal.judged(call("q", number), Judgement((0, 1), Status.OK, score=0.5))

    asyncio.run(run())
    journal.close()
    assert ["logits" in record["calls"][0] for record in export(journal.path)] == [True, False]


def test_the_answer_that_replays_a_question_is_its_last(journal: Journal) -> None:
    async def run() -> None:
        for key in ("z", "a", "m"):  # whatever the order of their keys
            await journal.add(key, call(), SAMPLING, Completion(key))
        await journal.add("b", call("q", 1, sample=1), SAMPLING, Completion("second"))

    asyncio.run(run())
    assert read_answers(journal.path) == {("q", "", 0): Completion("m"), ("q", "", 1): Completion("second")}


def test_a_run_that_begins_again_leaves_no_trace_of_its_first_try(journal: Journal) -> None:
    asyncio.run(journal.add("key", call(), SAMPLING, FULL))
    journal.judged(call(), Judgement((0, 1), Status.OK))
    journal.judged(call(number=1), Judgement((0, 1), Status.OK))
    other = Journal(reopened(journal).path, "another run")
    other.asked("key", call("p"), FULL)
    other.judged(call("p"), Judgement((0, 1), Status.OK))
    other.close()
    again = reopened(journal)
    assert again.find("key") == FULL
    again.close()
    assert [(r["run"], r["qid"], len(r["calls"])) for r in export(journal.path)] == [("another run", "p", 1)]
    assert read_answers(journal.path) == {("p", "", 0): Completion(FULL.text, FULL.finish_reason)}


# what version 2 made, in which a call stood for one question
VERSION_2 = """
CREATE TABLE calls (
    key TEXT PRIMARY KEY, run TEXT, qid TEXT, part TEXT, number INTEGER, sample INTEGER, docids TEXT, sampling TEXT,
    text TEXT, finish_reason TEXT, prompt_tokens INTEGER, output_tokens INTEGER, seconds REAL, choices TEXT, error TEXT
);
CREATE INDEX calls_by_question ON calls (run, qid, part, number);
CREATE TABLE judgements (
    run TEXT, qid TEXT, part TEXT, number INTEGER, label TEXT, docids TEXT, position_order TEXT, status TEXT,
    filled INTEGER, score REAL, detail TEXT, reasoning TEXT, PRIMARY KEY (run, qid, part, number)
) WITHOUT ROWID;
CREATE TABLE rankings (
    run TEXT, qid TEXT, ranking TEXT, confidence TEXT, notes TEXT, PRIMARY KEY (run, qid)
) WITHOUT ROWID;
PRAGMA user_version = 2;
INSERT INTO calls VALUES
    ('z', 'tag', 'q', '', 0, 0, '["d1"]', '', '<think>cut', 'length', 1, 2, 0.5, '{}', NULL),
    ('a', 'tag', 'q', '', 0, 1, '["d1"]', '', '[1]', 'stop', 1, 2, 0.5, '{"true": -0.5}', NULL);
INSERT INTO judgements VALUES ('tag', 'q', '', 0, '', '["d1"]', '[0]', 'repaired', 0, NULL, 'asked twice', '');
INSERT INTO rankings VALUES ('tag', 'q', '[]', '[]', '{}');
"""


def test_a_journal_of_the_previous_version_is_read_and_continued(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(VERSION_2)

    def seen() -> str:
        return json.dumps([list(export(path)), list(rankings(path)), list(map(str, read_answers(path).items()))])

    before = seen()
    assert [c["text"] for c in next(export(path))["calls"]] == ["<think>cut", "[1]"]
    assert read_answers(path) == {("q", "", 0): Completion("[1]")}
    Journal(path, "tag run.txt").close()
    assert seen() == before
    journal = Journal(path, "tag run.txt")
    assert journal.find("z") == Completion("<think>cut", "length", 1, 2, 0.5)
    journal.asked("z", call("q"), Completion("<think>cut", "length"))
    journal.close()
    assert read_answers(path) == {("q", "", 0): Completion("<think>cut", "length")}  # asked last


# --- an engine and its journal


class Slow(Engine[EngineOptions]):
    """Answers each call with another text after a while; the first ``failing`` of them with an error."""

    name = "slow"

    def __init__(self, failing: int = 0, choices: dict[str, float] | None = None) -> None:
        super().__init__(Model("m", "m"), EngineOptions())
        self.calls, self.failing, self.choices = 0, failing, choices or {}

    async def generate(self, prompt: Prompt, sampling: Sampling, call: Call) -> Completion:
        self.calls += 1
        number = self.calls
        await asyncio.sleep(0.05)
        if number <= self.failing:
            return Completion(finish_reason="error", error="500")
        return Completion(f"answer {number}", choices=self.choices)


def test_the_same_call_by_several_questions_at_once_is_made_once(journal: Journal) -> None:
    engine = Slow()

    async def run() -> list[tuple[Completion, bool]]:
        endpoint = Endpoint(engine, journal)
        asked = (endpoint.complete(PROMPT, SAMPLING, call(qid, number), 0) for qid in "ab" for number in (0, 1))
        return await asyncio.gather(*asked)

    found = asyncio.run(run())
    assert engine.calls == 1
    assert {completion.text for completion, _ in found} == {"answer 1"}
    assert [was_found for _, was_found in found] == [False, True, True, True]
    for qid in "ab":
        journal.judged(call(qid), Judgement((0, 1), Status.OK))
    journal.close()
    assert [[c["text"] for c in record["calls"]] for record in export(journal.path)] == [["answer 1"]] * 2
    assert read_answers(journal.path).keys() == {(qid, "", number) for qid in "ab" for number in (0, 1)}


def test_a_call_on_record_is_on_record_for_every_question_that_finds_it(journal: Journal) -> None:
    async def run(qid: str) -> bool:
        return (await Endpoint(Slow(), journal).complete(PROMPT, SAMPLING, call(qid), 0))[1]

    assert [asyncio.run(run(qid)) for qid in "ab"] == [False, True]
    journal.close()
    assert read_answers(journal.path).keys() == {("a", "", 0), ("b", "", 0)}


def test_a_call_that_is_answered_waits_no_longer_while_it_is_committed(tmp_path: Path) -> None:
    committing, committed = asyncio.Event(), asyncio.Event()

    class SlowStore(MemoryStore):
        async def add(self, key: str, call: Call, sampling: Sampling, completion: Completion) -> None:
            committing.set()
            await committed.wait()

    async def run() -> list[int]:
        endpoint = Endpoint(Slow(), SlowStore())
        task = asyncio.create_task(endpoint.complete(PROMPT, SAMPLING, call(), 0))
        await asyncio.sleep(0.01)
        found = [endpoint.in_flight]
        await committing.wait()
        found.append(endpoint.in_flight)
        assert endpoint.oldest_wait == 0
        committed.set()
        await task
        return found

    assert asyncio.run(run()) == [1, 0]


def test_who_waits_for_a_call_that_is_given_up_makes_it_itself(journal: Journal) -> None:
    engine = Slow()

    async def run() -> tuple[Completion, bool]:
        endpoint = Endpoint(engine, journal)
        first, second = (asyncio.create_task(endpoint.complete(PROMPT, SAMPLING, call(qid), 0)) for qid in "ab")
        await asyncio.sleep(0.01)
        first.cancel()
        return await second

    assert asyncio.run(run()) == (Completion("answer 2"), False)


def test_a_failed_call_fails_for_all_who_asked_and_is_made_again_later(journal: Journal) -> None:
    engine = Slow(failing=1)

    async def run() -> list[str | None]:
        endpoint = Endpoint(engine, journal)
        both = await asyncio.gather(*(endpoint.complete(PROMPT, SAMPLING, call(qid), 0) for qid in "ab"))
        again = await endpoint.complete(PROMPT, SAMPLING, call(), 0)
        return [completion.error for completion, _ in (*both, again)]

    assert asyncio.run(run()) == ["500", "500", None]
    assert engine.calls == 2


@pytest.mark.parametrize(
    ("choices", "fine"),
    [
        ({"true": -0.5, "false": -1.0}, True),
        ({"true": 0.0, "false": -inf}, True),
        ({}, True),
        ({"true": nan, "false": -1.0}, False),
        ({"true": inf, "false": -1.0}, False),
        ({"true": -inf, "false": -inf}, False),
        ({"the query": -inf}, False),
        ({"the query": nan}, False),
    ],
)
def test_probabilities_that_are_no_numbers_are_an_error(
    journal: Journal, choices: dict[str, float], fine: bool
) -> None:
    engine = Slow(choices=choices)

    async def run() -> Completion:
        endpoint = Endpoint(engine, journal)
        await endpoint.complete(PROMPT, SAMPLING, call(), 0)
        return (await endpoint.complete(PROMPT, SAMPLING, call(), 0))[0]

    found = asyncio.run(run())
    assert found.error == (None if fine else "the model's log-probabilities are not finite numbers")
    assert found.choices == (choices if fine else {})
    assert engine.calls == (1 if fine else 2)


def test_a_file_that_is_not_a_journal_is_rejected(tmp_path: Path) -> None:
    text, other, empty = tmp_path / "run.txt", tmp_path / "other.sqlite", tmp_path / "folder"
    text.write_text("q Q0 d 1 1.0 tag\n" * 100)
    empty.mkdir()
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE mine (a)")
    for path in (text, empty):
        with pytest.raises(UsageError, match=path.name):
            Journal(path, "tag")
    assert text.read_text() == "q Q0 d 1 1.0 tag\n" * 100
    for path in (text, other, tmp_path / "none", empty):
        with pytest.raises(UsageError, match=path.name):
            list(export(path))
        with pytest.raises(UsageError, match=path.name):
            read_answers(path)


def test_a_write_that_fails_ends_the_run_instead_of_hanging_it(journal: Journal) -> None:
    async def run() -> None:
        with pytest.raises(Failure, match=r"run\.journal\.sqlite can't be written"):
            await asyncio.wait_for(journal.add("key", call(), SAMPLING, Completion("\ud83d")), 20)

    asyncio.run(run())


def test_a_locked_disk_ends_the_run_too(journal: Journal) -> None:
    with sqlite3.connect(journal.path) as connection:
        connection.execute("DROP TABLE calls")

    async def run() -> None:
        with pytest.raises(Failure, match="can't be written"):
            await asyncio.wait_for(journal.add("key", call(), SAMPLING, FULL), 20)

    asyncio.run(run())


def test_a_journal_that_the_writer_cannot_open_is_refused_before_a_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk may fill up, or a folder vanish, after the file was opened to read and before it is opened to write."""
    connect, opened = Journal._connect, 0

    def second_fails(self: Journal) -> sqlite3.Connection:
        nonlocal opened
        opened += 1
        if opened > 1:
            raise sqlite3.OperationalError("unable to open database file")
        return connect(self)

    monkeypatch.setattr(Journal, "_connect", second_fails)

    async def run() -> None:
        journal = Journal(tmp_path / "j.sqlite", "tag")
        await asyncio.wait_for(journal.add("key", call(), SAMPLING, FULL), 20)

    with pytest.raises(UsageError, match=r"j\.sqlite can't be used as a journal: unable to open database file"):
        asyncio.run(run())


def adding(journal: Journal, count: int) -> list[str]:
    """The errors of ``count`` calls that are added at once and of waiting until all is committed, each within seconds."""

    async def run() -> list[str]:
        calls = [journal.add(str(i), call(number=i), SAMPLING, FULL) for i in range(count)]
        waiting = [asyncio.wait_for(one, 5) for one in (*calls, journal.settle())]
        return [str(found) for found in await asyncio.gather(*waiting, return_exceptions=True)]

    return asyncio.run(run())


def test_a_writer_that_ends_fails_all_that_wait_now_and_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "j.sqlite", "tag")
    monkeypatch.setattr("pyserini_reasonrank.journal.COMMIT_SECONDS", "a text, which can't be added to a time")
    said = adding(journal, 30)
    assert len(set(said)) == 1
    assert re.fullmatch(r"the journal \S+j\.sqlite can't be written: unsupported operand .*", said[0])
    assert adding(journal, 30) == said
    journal.close()


def test_a_rollback_that_fails_as_well_hides_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class NoRollback(sqlite3.Connection):
        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            if sql == "ROLLBACK":
                raise sqlite3.OperationalError("disk I/O error")
            return super().execute(sql, *values)

    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=NoRollback))
    journal = Journal(tmp_path / "j.sqlite", "tag")
    with closing(sqlite3.connect(journal.path)) as connection:
        connection.execute("DROP TABLE calls")
    said = adding(journal, 3)
    assert len(set(said)) == 1
    assert said[0].endswith("can't be written: no such table: calls")
    assert adding(journal, 3) == said
    journal.close()


@pytest.mark.parametrize("after", ["deleted", "replaced"])
def test_a_journal_that_is_deleted_or_replaced_during_a_run_fails_the_next_call(journal: Journal, after: str) -> None:
    assert adding(journal, 1) == ["None", "None"]
    shutil.rmtree(journal.path.parent)
    if after == "replaced":
        Journal(journal.path, "tag").close()
    assert set(adding(journal, 3)) == {
        f"the journal {journal.path} can't be written: it was deleted or replaced during the run"
    }


def test_a_closed_journal_takes_no_calls(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.sqlite", "tag")
    journal.flush()
    assert set(adding(journal, 3)) == {f"the journal {journal.path} can't be written: it is closed"}
    journal.close()


WRITER = textwrap.dedent(
    """
    import asyncio, os, sys
    from pathlib import Path
    from pyserini_reasonrank.journal import Journal
    from pyserini_reasonrank.records import Call, Completion, Judgement, Sampling, Status

    journal = Journal(Path(sys.argv[1]), "tag")
    first = int(sys.argv[2])

    async def work(worker):
        for i in range(10**6):
            number = first + 100 * i + worker
            call = Call("q", number, ("d",), lambda gains: "", lambda gains, choices: {})
            await journal.add(f"key {number}", call, Sampling(), Completion(f"answer {number} " * 50))
            journal.judged(call, Judgement((0,), Status.OK))
            os.write(1, f"{number}\\n".encode())

    async def main():
        await asyncio.gather(*map(work, range(20)))

    asyncio.run(main())
    """
)


def test_killed_at_any_moment_no_committed_call_is_lost_and_the_file_is_whole(tmp_path: Path) -> None:
    path, told, chance = tmp_path / "j.sqlite", set[int](), random.Random(7)
    for attempt in range(6):
        command = [sys.executable, "-c", WRITER, str(path), str(attempt * 10**7)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            told.add(int(process.stdout.readline()))
            time.sleep(chance.uniform(0, 0.15))
            process.send_signal(signal.SIGKILL)
            told |= set(map(int, process.stdout.read().rpartition(b"\n")[0].split()))
        assert process.returncode == -signal.SIGKILL
        journal = Journal(path, "tag")
        for number in told:
            assert journal.find(f"key {number}") == Completion(f"answer {number} " * 50)
        journal.close()
        with sqlite3.connect(path) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert len(told) > 100
