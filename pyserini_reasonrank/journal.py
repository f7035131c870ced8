"""The journal: every finished call in a SQLite file, for auditing, caching and resuming.

A completion is returned only once its row is committed, so that a run that was killed never repeats a finished call. One
thread commits rows in groups, at most one group every ``COMMIT_SECONDS``. The journal stores docids and a hash of the
prompt, not passages.

Each call is stored once, even if it answers several questions: the table ``asked`` maps questions of a run to calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from pyserini_reasonrank.errors import Failure, UsageError
from pyserini_reasonrank.records import Call, Completion, Judgement, Prompt, Ranking, Repeat, Sampling

COMMIT_SECONDS = 0.005
"""The least time between two commits: under load, the calls that end meanwhile are committed together."""
VERSION = 4
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS calls (
    key TEXT PRIMARY KEY, run TEXT, qid TEXT, part TEXT, number INTEGER, sample INTEGER, docids TEXT, sampling TEXT,
    text TEXT, finish_reason TEXT, prompt_tokens INTEGER, output_tokens INTEGER, seconds REAL, choices TEXT, error TEXT
);
CREATE TABLE IF NOT EXISTS asked (run TEXT, qid TEXT, part TEXT, number INTEGER, key TEXT);
CREATE UNIQUE INDEX IF NOT EXISTS asked_by_question ON asked (run, qid, part, number, key);
CREATE TABLE IF NOT EXISTS judgements (
    run TEXT, qid TEXT, part TEXT, number INTEGER, label TEXT, docids TEXT, position_order TEXT, status TEXT,
    filled INTEGER, score REAL, detail TEXT, reasoning TEXT, PRIMARY KEY (run, qid, part, number)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rankings (
    run TEXT, qid TEXT, ranking TEXT, confidence TEXT, notes TEXT, PRIMARY KEY (run, qid)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS contexts (identity TEXT PRIMARY KEY, tokens INTEGER) WITHOUT ROWID;
PRAGMA user_version = {VERSION};
"""
WITHOUT_CONTEXTS = 3
"""The previous version, without the table ``contexts``."""
WITHOUT_ASKED = 2
"""The version before, without the table ``asked``: each call answered only the question in its row."""
_FILL_ASKED = """
DROP INDEX IF EXISTS calls_by_question;
INSERT OR IGNORE INTO asked SELECT run, qid, part, number, key FROM calls ORDER BY rowid;
"""
_CALL = f"INSERT OR REPLACE INTO calls VALUES ({', '.join('?' * 15)})"
_ASKED = "INSERT OR IGNORE INTO asked VALUES (?, ?, ?, ?, ?)"
_JUDGEMENT = f"INSERT OR REPLACE INTO judgements VALUES ({', '.join('?' * 12)})"
_CONTEXT = "INSERT OR REPLACE INTO contexts VALUES (?, ?)"
_RANKING = f"INSERT OR REPLACE INTO rankings VALUES ({', '.join('?' * 5)})"
LOGITS = " logits"  # the end of a recorded sampling whose choices are logits

Write = tuple[str, tuple[Any, ...], asyncio.Future[None] | None]


def journal_of(output: Path) -> Path:
    """The journal beside the file ``output``, for a command whose settings name no other."""
    return output.with_name(f"{output.name}.journal.sqlite")


SQLITE = b"SQLite format 3"
"""The first bytes of a journal."""


def run_name(tag: str, output: Path, journal: Path) -> str:
    """The name of a run in its journal. Its path is relative, so that journal and runs can be moved together."""
    return f"{tag} {os.path.relpath(output, journal.parent)}"


def call_key(identity: str, prompt: Prompt, sampling: Sampling, repeat: Repeat) -> str:
    """The key of a call: a hash of the model identity, the sampling and the repeat, and after a hyphen that of the prompt."""
    of = "\0logits" * sampling.logits + "\0apart" * sampling.apart
    digest = hashlib.sha256(f"{identity}\0{sampling!r}\0{repeat!r}{of}".encode()).hexdigest()
    return f"{digest[:32]}-{prompt_sha256(prompt)}"


def prompt_sha256(prompt: Prompt) -> str:
    """The SHA-256 of a prompt: its roles, texts and prefill, each followed by a zero byte."""
    digest = hashlib.sha256()
    for part in (*(part for m in prompt.messages for part in (m.role, m.content)), prompt.prefill):
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()


class DamagedJournal(UsageError):
    """A row of a journal can't be read: another program wrote to the file, or the disk is damaged."""

    def __init__(self, path: Path, damage: Exception) -> None:
        super().__init__(f"{path} is damaged: {' '.join(str(damage).split()) or type(damage).__name__}")


DAMAGE = (sqlite3.DatabaseError, ValueError, TypeError, LookupError, OverflowError)


class Journal:
    """The open journal of the run named ``run`` (its tag and output). One process writes; others may read concurrently.

    Opening it deletes the judgements and rankings of an earlier attempt at the same run, but not its calls. UsageError if
    the file can't be used as a journal.
    """

    def __init__(self, path: Path, run: str) -> None:
        self.path, self.run = path, run
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._reader = self._connect()
            if (version := version_of(self._reader)) != VERSION:
                older = _FILL_ASKED if version == WITHOUT_ASKED else ""
                self._reader.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} {older} COMMIT")
            for table in ("asked", "judgements", "rankings"):
                self._reader.execute(f"DELETE FROM {table} WHERE run = ?", (run,))
            known = {key for (key,) in self._reader.execute("SELECT key FROM calls")}
            writer = self._connect()
            self._opened = path.stat()
        except (OSError, *DAMAGE) as error:
            raise UsageError(
                f"{path} can't be used as a journal: {error}; name another file with --rerank.journal"
            ) from error
        self._keys: set[str] = known
        self._queue: SimpleQueue[Write | None] = SimpleQueue()
        self._broken: Exception | None = None
        self._ended = False
        self._thread = threading.Thread(target=self._write, args=(writer,), name="journal", daemon=True)
        self._thread.start()

    def find(self, key: str) -> Completion | None:
        """The completion of the finished call with this key, or None. DamagedJournal if its row can't be read."""
        if key not in self._keys:
            return None
        try:
            row = self._reader.execute(
                "SELECT text, finish_reason, prompt_tokens, output_tokens, seconds, choices, error FROM calls WHERE key = ?",
                (key,),
            ).fetchone()
            text, finish_reason, prompt_tokens, output_tokens, seconds, choices, error = row
            named = {} if choices == "{}" else json.loads(choices)
        except DAMAGE as damage:
            raise DamagedJournal(self.path, damage) from damage
        return Completion(text, finish_reason, prompt_tokens, output_tokens, seconds, named, error)

    async def add(self, key: str, call: Call, sampling: Sampling, completion: Completion) -> None:
        """Store a finished call. Returns when it is committed. Failure if the journal can't be written."""
        c, done = completion, asyncio.get_running_loop().create_future()
        how = repr(sampling) + LOGITS * sampling.logits
        row = (key, self.run, call.qid, call.part, call.number, call.repeat.seed_offset, json.dumps(call.docids), how,
               c.text, c.finish_reason, c.prompt_tokens, c.output_tokens, c.seconds, json.dumps(dict(c.choices)),
               c.error)  # fmt: skip
        self.asked(key, call, completion)
        self._put((_CALL, row, done))
        await done
        self._keys.add(key)

    def asked(self, key: str, call: Call, completion: Completion) -> None:
        """Record, without waiting, that the call with this key answered a question."""
        self._put((_ASKED, (self.run, call.qid, call.part, call.number, key), None))

    def judged(self, call: Call, judgement: Judgement) -> None:
        """Record a judgement, without waiting, since it can be parsed again from its calls."""
        j = judgement
        row = (self.run, call.qid, call.part, call.number, call.label, json.dumps(call.docids), json.dumps(j.order),
               str(j.status), j.filled, j.score, j.detail, j.reasoning)  # fmt: skip
        self._put((_JUDGEMENT, row, None))

    def ranked(self, ranking: Ranking) -> None:
        """Record the final order of a query, without waiting: first-stage ranks and scores, the LLM's and fused scores
        and the best segments if any; last, the candidates that are left out of the run."""
        ranked = ranking.ranked
        lines = _ranked_lines(ranking)
        row = (self.run, ranking.request.query.qid, json.dumps(lines), json.dumps(ranked.confidence),
               json.dumps(dict(ranked.notes)))  # fmt: skip
        self._put((_RANKING, row, None))

    def loaded(self, identity: str, context: int) -> None:
        """Record the context in tokens that a model has when it is loaded."""
        self._put((_CONTEXT, (identity, context), None))

    async def settle(self) -> None:
        """Wait until all rows are committed. Failure if the journal can't be written."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._put(("SELECT 1", (), done))
        await done

    def flush(self, seconds: float = 1.0) -> None:
        """Commit queued rows, without waiting longer than ``seconds``, at the end of the process. The journal is then closed."""
        self._queue.put(None)
        self._thread.join(seconds)

    def close(self) -> None:
        """Commit queued rows and close the file."""
        self._queue.put(None)
        self._thread.join()
        self._reader.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=60, check_same_thread=False, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    def _write(self, connection: sqlite3.Connection) -> None:
        batch: list[Write | None] = []
        next_commit = 0.0
        try:
            with contextlib.closing(connection):
                while None not in batch:
                    batch = [self._queue.get()]
                    time.sleep(max(0.0, next_commit - time.monotonic()))
                    batch += self._queued()
                    next_commit = time.monotonic() + COMMIT_SECONDS
                    self._commit(connection, [write for write in batch if write is not None])
                    self._answer(batch)
        except Exception as error:
            self._broken = self._broken or error
        finally:
            self._ended = True
            self._answer([*batch, *self._queued()])

    def _commit(self, connection: sqlite3.Connection, writes: Sequence[Write]) -> None:
        try:
            connection.execute("BEGIN IMMEDIATE")
            for statement, row, _ in writes:
                connection.execute(statement, row)
            connection.execute("COMMIT")
            if not self._in_place():
                raise OSError("it was deleted or replaced during the run")
        except Exception as error:  # all callers that wait for these writes must get the error
            self._broken = self._broken or error
            if connection.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")

    def _in_place(self) -> bool:
        """Whether the file that is written is still the one at ``path``: SQLite writes on to a deleted one."""
        try:
            return os.path.samestat(os.stat(self.path), self._opened)
        except OSError:
            return False

    def _put(self, write: Write) -> None:
        self._queue.put(write)
        if self._ended:  # set before the writer empties the queue for the last time
            self._answer(self._queued())

    def _queued(self) -> list[Write | None]:
        """Take what is in the queue, without waiting."""
        taken: list[Write | None] = []
        with contextlib.suppress(Empty):
            while True:
                taken.append(self._queue.get_nowait())
        return taken

    def _answer(self, batch: Sequence[Write | None]) -> None:
        """Tell those who wait for a write, and have no answer yet, that it is committed or that it failed."""
        reason = self._broken or ("it is closed" if self._ended else None)
        failure = Failure(f"the journal {self.path} can't be written: {reason}") if reason else None
        waiting: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
        for _, _, done in filter(None, batch):
            if done is not None:
                waiting.setdefault(done.get_loop(), []).append(done)
        for loop, futures in waiting.items():
            with contextlib.suppress(RuntimeError):  # the event loop is closed, so nobody waits for the result
                loop.call_soon_threadsafe(_resolve, futures, failure)


def _ranked_lines(ranking: Ranking) -> list[dict[str, Any]]:
    """What the journal has of each candidate, in the final order."""
    candidates, ranked, judged = ranking.request.candidates, ranking.ranked, ranking.ranked.judged
    lines = []
    for i in (*ranking.kept, *ranking.left_out):
        line: dict[str, Any] = {"docid": candidates[i].docid, "first_stage": [i + 1, candidates[i].score]}
        if i in judged:
            line["score"] = judged[i]
        if i in ranking.fused:
            line["fused"] = ranking.fused[i]
        if i in ranked.segments:
            line["segment"] = ranked.segments[i].place
        if i in ranking.dropped:
            line["dropped"] = True
        lines.append(line)
    return lines


def version_of(connection: sqlite3.Connection) -> int:
    """The version of the tables; 0 in a new file. DatabaseError for an unknown version."""
    [version] = connection.execute("PRAGMA user_version").fetchone()
    [tables] = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables and version not in (VERSION, WITHOUT_CONTEXTS, WITHOUT_ASKED):
        raise sqlite3.DatabaseError(f"its format has version {version}, expected {VERSION}")
    return int(version) if tables else 0


def _resolve(futures: Sequence[asyncio.Future[None]], error: Exception | None) -> None:
    for done in futures:
        if not done.done():
            done.set_exception(error) if error else done.set_result(None)
