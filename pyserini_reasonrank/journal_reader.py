"""Reading a journal: its calls, judgements and final orders, for traces, reports, thresholds and replays."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.journal import DAMAGE, LOGITS, VERSION, WITHOUT_ASKED, DamagedJournal, version_of
from pyserini_reasonrank.records import Completion, Status


def export(path: Path, qid: str | None = None, run: str | None = None) -> Iterator[dict[str, Any]]:
    """Yield every judgement with its calls as a mapping, by run, query and call; only those of ``qid`` and ``run`` if given.

    ``first_stage`` has the rank and score of each document shown, and ``fused`` its fused score if the run was fused; both
    are None for texts that are not candidates, and without the final order of the query. ``logits`` of a call is True if its
    ``choices`` are logits; calls with log-probabilities do not have it.
    """
    names = ("sample", "text", "finish_reason", "prompt_tokens", "output_tokens", "seconds", "choices", "error")
    with _reading(path) as connection:
        asked = _asked(connection)
        where, values = _only(qid, run)
        rows = connection.execute(f"SELECT * FROM judgements {where} ORDER BY run, qid, part, number", values)
        of_query: tuple[str, str] | None = None
        for run_, qid_, part, number, label, docids, order, status, filled, score, detail, reasoning in rows:
            if of_query != (run_, qid_):
                of_query, ranked = (run_, qid_), _ranked(connection, run_, qid_)
            calls = connection.execute(
                f"SELECT {', '.join(f'c.{name}' for name in (*names, 'sampling'))} FROM {asked} AS a JOIN calls AS c USING (key) "
                "WHERE a.run = ? AND a.qid = ? AND a.part = ? AND a.number = ? ORDER BY a.rowid",
                (run_, qid_, part, number),
            )
            shown = json.loads(docids)
            found = [ranked.get(docid, {}) for docid in shown]
            fused = {"fused": [line.get("fused") for line in found]} if any("fused" in line for line in found) else {}
            yield {
                "run": run_, "qid": qid_, "part": part, "call": number, "label": label, "docids": shown,
                "first_stage": [line.get("first_stage") for line in found], **fused,
                "order": [shown[i] for i in json.loads(order)],
                "status": status, "filled": filled, "score": score, "detail": detail, "reasoning": reasoning,
                "calls": [
                    dict(zip(names, call, strict=True))
                    | {"choices": json.loads(call[names.index("choices")])}
                    | ({"logits": True} if str(sampling).endswith(LOGITS) else {})
                    for *call, sampling in calls
                ],
            }  # fmt: skip


def _ranked(connection: sqlite3.Connection, run: str, qid: str) -> dict[str, dict[str, Any]]:
    """The lines of the final order of a query, by docid; {} if it has not ended."""
    row = connection.execute("SELECT ranking FROM rankings WHERE run = ? AND qid = ?", (run, qid)).fetchone()
    return {line["docid"]: line for line in json.loads(row[0])} if row else {}


def recorded_runs(path: Path) -> list[str]:
    """The names of the runs in a journal that have a judgement or a final order, sorted."""
    with _reading(path) as connection:
        rows = connection.execute("SELECT run FROM judgements UNION SELECT run FROM rankings ORDER BY run")
        return [run for (run,) in rows]


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """A call of a run: the question that it answered, the documents shown there, the prompt's hash, and the answer.

    ``turn`` counts the calls of the question. ``prompt_sha256`` is empty in journals of an earlier version.
    """

    qid: str
    part: str
    number: int
    turn: int
    docids: tuple[str, ...]
    prompt_sha256: str
    completion: Completion


def recorded_calls(path: Path, run: str, qid: str | None = None) -> Iterator[RecordedCall]:
    """Yield the calls of ``run``, or those of one query, by query, part, question and turn."""
    with _reading(path) as connection:
        rows = connection.execute(
            "SELECT a.qid, a.part, a.number, a.key, j.docids, c.text, c.finish_reason, c.prompt_tokens, c.output_tokens, "
            f"c.seconds, c.choices, c.error FROM {_asked(connection)} AS a JOIN calls AS c USING (key) "
            "LEFT JOIN judgements AS j ON (j.run, j.qid, j.part, j.number) = (a.run, a.qid, a.part, a.number) "
            "WHERE a.run = :run AND (:qid IS NULL OR a.qid = :qid) ORDER BY a.qid, a.part, a.number, a.rowid",
            {"run": run, "qid": qid},
        )
        question, turn = None, 0
        for qid_, part, number, key, docids, text, reason, read, written, seconds, choices, error in rows:
            turn = turn + 1 if question == (qid_, part, number) else 0
            question = (qid_, part, number)
            completion = Completion(text, reason, read, written, seconds, json.loads(choices), error)
            shown = tuple(json.loads(docids)) if docids else ()
            yield RecordedCall(qid_, part, number, turn, shown, key.partition("-")[2], completion)


def contexts(path: Path) -> dict[str, int]:
    """The contexts that models had when they were loaded, by identity; {} for a file that is missing or records none."""
    if not path.is_file():
        return {}
    try:
        with contextlib.closing(_open_to_read(path)) as connection:
            if version_of(connection) != VERSION:
                return {}
            return dict(connection.execute("SELECT identity, tokens FROM contexts"))
    except (UsageError, *DAMAGE):  # the run itself reports it
        return {}


def rankings(path: Path, qid: str | None = None, run: str | None = None) -> Iterator[dict[str, Any]]:
    """Yield every final order with confidences and notes as a mapping, by run and query; only of ``qid`` and ``run`` if given."""
    with _reading(path) as connection:
        where, values = _only(qid, run)
        rows = connection.execute(f"SELECT * FROM rankings {where} ORDER BY run, qid", values)
        for run_, qid_, ranking, confidence, notes in rows:
            yield {
                "run": run_, "qid": qid_, "ranking": json.loads(ranking), "confidence": json.loads(confidence),
                "notes": json.loads(notes),
            }  # fmt: skip


@dataclass(frozen=True, slots=True)
class JudgementRecord:
    """A judgement without its texts. ``order`` is as in ``Judgement``; tokens and seconds are sums over its calls."""

    qid: str
    label: str
    docids: tuple[str, ...]
    order: tuple[int, ...]
    status: Status
    calls: int
    prompt_tokens: int
    output_tokens: int
    seconds: float


def judgement_records(path: Path, run: str) -> Iterator[JudgementRecord]:
    """Yield every judgement of ``run`` without its texts, by query and call; a journal of any size is streamed."""
    with _reading(path) as connection:
        rows = connection.execute(
            "SELECT j.qid, j.label, j.docids, j.position_order, j.status, count(c.key), "
            "coalesce(sum(c.prompt_tokens), 0), coalesce(sum(c.output_tokens), 0), coalesce(sum(c.seconds), 0) "
            f"FROM judgements AS j LEFT JOIN {_asked(connection)} AS a USING (run, qid, part, number) "
            "LEFT JOIN calls AS c ON c.key = a.key WHERE j.run = ? GROUP BY j.qid, j.part, j.number",
            (run,),
        )
        for qid, label, docids, order, status, *counts in rows:
            yield JudgementRecord(
                qid, label, tuple(json.loads(docids)), tuple(json.loads(order)), Status(status), *counts
            )


def _only(qid: str | None, run: str | None) -> tuple[str, list[str]]:
    """The condition of a query of the records of ``qid`` and ``run``, if given, and its values."""
    given = [(name, value) for name, value in (("run", run), ("qid", qid)) if value is not None]
    condition = " AND ".join(f"{name} = ?" for name, _ in given)
    return f"WHERE {condition}" if given else "", [value for _, value in given]


def _asked(connection: sqlite3.Connection) -> str:
    """The table that maps questions to calls."""
    return "calls" if version_of(connection) == WITHOUT_ASKED else "asked"


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A journal, open for the length of a block. UsageError if it is not one, DamagedJournal if a row can't be read."""
    with contextlib.closing(_open_to_read(path)) as connection:
        try:
            yield connection
        except DAMAGE as error:
            raise DamagedJournal(path, error) from error


def _open_to_read(path: Path) -> sqlite3.Connection:
    if not path.is_file():
        raise UsageError(f"journal {path} does not exist")
    connection = sqlite3.connect(path.resolve().as_uri() + "?mode=ro", uri=True)
    try:
        connection.execute("SELECT 1 FROM calls, judgements LIMIT 0")
        version_of(connection)
    except DAMAGE as error:
        connection.close()
        raise UsageError(f"{path} is not a journal (SQLite) file: {error}") from error
    return connection


def read_answers(path: Path) -> dict[tuple[str, str, int], Completion]:
    """The last answer to every question in a journal, by qid, part and call number."""
    with _reading(path) as connection:
        rows = connection.execute(
            f"SELECT a.qid, a.part, a.number, c.text, c.finish_reason FROM {_asked(connection)} AS a "
            "JOIN calls AS c USING (key) ORDER BY a.rowid"
        ).fetchall()
    return {(qid, part, number): Completion(text, reason) for qid, part, number, text, reason in rows}
