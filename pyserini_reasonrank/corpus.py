"""A document's text from its JSON record, and the texts of some docids from a corpus of JSON lines."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from pyserini_reasonrank.errors import UsageError

DOCID_FIELDS = ("id", "docid", "_id", "docno", "pid")
BODY_FIELDS = ("contents", "text", "segment", "passage", "body", "abstract")


def document_docid(record: Mapping[str, Any]) -> str | None:
    """The docid of a record, verbatim; None if no field holds one."""
    return next((str(record[name]) for name in DOCID_FIELDS if name in record), None)


def document_text(record: Mapping[str, Any]) -> str | None:
    """The text of a record, led by its title unless it begins with it; None if no field holds any."""
    body = next((record[name] for name in BODY_FIELDS if isinstance(record.get(name), str)), None)
    title = record.get("title")
    title = title.strip() if isinstance(title, str) else ""
    if body is None:
        return title or None
    body = body.strip()
    if not title or body.startswith(title):
        return body
    return f"{title}{'' if title[-1] in '.?!:' else '.'} {body}".strip()


def read_corpus(path: str | Path) -> Iterator[tuple[str, str]]:
    """Each docid and text of a JSON lines file, in order. UsageError with file and line for a line that is neither."""
    try:
        lines = open(path, encoding="utf-8")
    except OSError as reason:
        raise UsageError(f"The corpus {path} can't be read: {reason.strerror}.") from None
    with lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _read_line(line, f"{path}, line {number}")


def corpus_texts(path: str | Path, docids: Collection[str]) -> dict[str, str]:
    """The texts of ``docids``. The file is streamed and nothing else of it is kept.

    UsageError if a docid is not in it.
    """
    wanted = set(docids)
    texts: dict[str, str] = {}
    for docid, text in read_corpus(path):
        if docid in wanted:
            texts[docid] = text
            if len(texts) == len(wanted):
                break
    if missing := wanted - texts.keys():
        first = min(missing)
        raise UsageError(f"The corpus {path} has no document {first!r} ({len(missing)} of {len(wanted)} are missing).")
    return texts


def _read_line(line: str, where: str) -> tuple[str, str]:
    try:
        record = json.loads(line)
    except ValueError:
        raise UsageError(f"{where} is not JSON; a corpus has one document a line: {_EXAMPLE}.") from None
    if not isinstance(record, dict) or (docid := document_docid(record)) is None:
        raise UsageError(f"{where} has no docid; a corpus has one document a line: {_EXAMPLE}.")
    if (text := document_text(record)) is None:
        raise UsageError(f"{where} has no text; a corpus has one document a line: {_EXAMPLE}.")
    return docid, text


_EXAMPLE = '{"id": "d1", "contents": "..."}'
