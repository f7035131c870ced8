"""Exclusion lists: the documents that must not be candidates of a query, such as BRIGHT's ``excluded_ids``."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.file_io import decoded, identifier, read_json_rows, read_lines, tabbed
from pyserini_reasonrank.ir.qrels import judgment_lines
from pyserini_reasonrank.ir.topics import QID_FIELDS

Exclusions = Mapping[str, Collection[str]]
"""The excluded docids of each qid."""

NO_DOCUMENT = "N/A"
"""The entry of BRIGHT's ``excluded_ids`` of a query that excludes no document."""

FORM = '{"qid", "docid"} or {"id", "excluded_ids": [...]} as JSON'
"""The forms of a JSON line, for error messages."""


def read_exclusions(path: str | os.PathLike[str]) -> dict[str, set[str]]:
    """Read an exclusion list, plain or gzipped: a query and a document in each line, or JSON as in BRIGHT's examples.

    Lines have the columns qid and docid, or those of qrels (TREC's or BEIR's), whose relevance is not read. A docid may
    contain white space where a reader of qrels accepts it, and in two columns that a tab separates. JSON lines, or one JSON
    list, have ``docid`` or a list ``excluded_ids``, whose entry "N/A" excludes nothing. UsageError, with file and line, for a
    missing, empty or malformed file.
    """
    where, first = next(read_lines(Path(path)))
    if first.lstrip().startswith((b"{", b"[")):
        pairs = _json_pairs(Path(path))
    elif len(_two_columns(first)) == 2:
        pairs = _column_pairs(Path(path))
    elif len(first.split()) < 2:
        raise UsageError(f"{where}: 1 column, expected qid and docid, the columns of qrels, or {FORM}")
    else:
        pairs = ((qid, docid) for _, qid, docid, _ in judgment_lines(path))
    excluded: dict[str, set[str]] = {}
    for qid, docid in pairs:
        excluded.setdefault(qid, set()).add(docid)
    return excluded


def _two_columns(line: bytes) -> list[bytes]:
    return tabbed(line, {2: 1}) or line.split()


def _column_pairs(path: Path) -> Iterator[tuple[str, str]]:
    for where, line in read_lines(path):
        columns = [decoded(column, where) for column in _two_columns(line)]
        if len(columns) != 2:
            raise UsageError(
                f"{where}: {len(columns)} columns, expected 2: qid and docid; separate them by a tab if the docid contains "
                "white space"
            )
        yield columns[0], columns[1]


def _json_pairs(path: Path) -> Iterator[tuple[str, str]]:
    for where, row in read_json_rows(path, FORM):
        try:
            qid, docids = _row(row)
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{where}: expected {FORM} ({error!r})") from None
        yield from ((qid, docid) for docid in docids)


def _row(row: Any) -> tuple[str, list[str]]:
    """The qid and the excluded docids of a JSON row. ValueError, KeyError or TypeError if it has another form."""
    if not isinstance(row, Mapping):
        raise TypeError("not an object")
    name = next((name for name in QID_FIELDS if name in row), QID_FIELDS[0])
    qid = identifier(row[name], name)
    if "excluded_ids" not in row:
        return qid, [identifier(row["docid"], "docid")]
    if not isinstance(row["excluded_ids"], list):
        raise TypeError("excluded_ids is not a list")
    return qid, [docid for each in row["excluded_ids"] if (docid := identifier(each, "docid")) != NO_DOCUMENT]
