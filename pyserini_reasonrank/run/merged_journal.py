"""The journal of a run that is merged from parts."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.journal import Journal

_OF_A_RUN = ("asked", "judgements", "rankings")
"""The tables whose rows belong to a run; ``calls`` may serve several."""


def merge_journals(target: Path, run: str, sources: Sequence[tuple[Path, str]]) -> None:
    """Write the journal ``target`` of the run named ``run`` from the journals of its parts, each with its run's name.

    Another journal at ``target`` is replaced. UsageError if a file is not a journal or does not have its run.
    """
    temporary = target.with_name(f"{target.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        Journal(temporary, run).close()
        with contextlib.closing(sqlite3.connect(temporary, uri=True, isolation_level=None)) as connection:
            for path, name in sources:
                _copy(connection, path, name, run)
            connection.execute("PRAGMA journal_mode = DELETE")  # all rows in the one file that is renamed
        temporary.replace(target)
    finally:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{temporary}{suffix}").unlink(missing_ok=True)


def _copy(connection: sqlite3.Connection, path: Path, name: str, run: str) -> None:
    """Copy the run ``name`` of the journal ``path``, under the name ``run``; the only run of a journal may have any name."""
    try:
        connection.execute("ATTACH ? AS source", (f"{path.resolve().as_uri()}?mode=ro",))
        runs = [found for (found,) in connection.execute("SELECT DISTINCT run FROM source.rankings")]
        old = name if name in runs or len(runs) != 1 else runs[0]
        if runs and old not in runs:
            raise UsageError(f"{path} has no run {name!r}; it has: {', '.join(runs)}")
        connection.execute("BEGIN IMMEDIATE")
        for table in _OF_A_RUN:
            _insert(connection, table, "run = ?", old, run)
        _insert(connection, "calls", "key IN (SELECT key FROM source.asked WHERE run = ?)", old, run)
        connection.execute("COMMIT")
        connection.execute("DETACH source")
    except sqlite3.DatabaseError as error:
        raise UsageError(f"{path} can't be read as a journal (SQLite) file: {error}") from None


def _insert(connection: sqlite3.Connection, table: str, condition: str, old: str, run: str) -> None:
    columns = [column for _, column, *_ in connection.execute(f"PRAGMA main.table_info({table})")]
    values = ", ".join("?" if column == "run" else column for column in columns)
    connection.execute(
        f"INSERT OR IGNORE INTO main.{table} ({', '.join(columns)}) SELECT {values} FROM source.{table} WHERE {condition}",
        (run, old),
    )
