"""A document's text from its JSON record, and the texts of some docids from a corpus of JSON lines."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.runs import read_lines

log = logging.getLogger(__name__)

DOCID_FIELDS = ("id", "docid", "_id", "docno", "pid")
BODY_FIELDS = ("contents", "text", "segment", "passage", "body", "abstract")
EXAMPLE = '{"id": "d1", "contents": "..."}'


def document_docid(record: Mapping[str, Any]) -> str | None:
    """The docid of a record, verbatim; None if no field holds one."""
    return next((str(record[name]) for name in DOCID_FIELDS if name in record), None)


def document_text(record: Mapping[str, Any]) -> str | None:
    """The text of a record, led by its title unless it begins with it; None if no field holds any."""
    body: str | None = next((record[name] for name in BODY_FIELDS if isinstance(record.get(name), str)), None)
    title = record.get("title")
    title = title.strip() if isinstance(title, str) else ""
    if body is None:
        return title or None
    body = body.strip()
    if not title or body.startswith(title):
        return body
    return f"{title}{'' if title[-1] in '.?!:' else '.'} {body}".strip()


def stored_text(raw: str | None, contents: str | None) -> str | None:
    """The text in a document's stored fields: a JSON ``raw`` with a text field, else ``contents``, else ``raw``."""
    try:
        record = json.loads(raw or "")
    except ValueError:
        return contents or raw
    return (document_text(record) if isinstance(record, dict) else None) or contents


def read_corpus(path: str | Path) -> Iterator[tuple[str, str]]:
    """Each docid and text of a JSON lines file, plain or gzipped, in order.

    UsageError if the file is missing or empty, and one with file and line for a line that is no document.
    """
    for where, line in read_lines(Path(path)):
        yield _read_line(line, where)


def corpus_texts(path: str | Path, docids: Collection[str]) -> dict[str, str]:
    """The texts of ``docids``. The file is streamed, as far as the last of them, and nothing else of it is kept.

    Of a docid that stands there twice the first text counts; a warning tells of another one met on the way.
    UsageError if a docid is not in it.
    """
    wanted, others = set(docids), list[str]()
    texts: dict[str, str] = {}
    for docid, text in read_corpus(path):
        if docid in wanted:
            if texts.setdefault(docid, text) != text:
                others.append(docid)
            if len(texts) == len(wanted):
                break
    if others:
        log.warning("%s holds another text of %r further on (%d such): the first counts", path, others[0], len(others))
    if missing := wanted - texts.keys():
        first = min(missing)
        raise UsageError(f"The corpus {path} has no document {first!r} ({len(missing)} of {len(wanted)} are missing).")
    return texts


def _read_line(line: bytes, where: str) -> tuple[str, str]:
    try:
        record = json.loads(line)
    except ValueError:
        raise UsageError(f"{where} is not JSON; a corpus has one document a line: {EXAMPLE}.") from None
    if not isinstance(record, dict) or (docid := document_docid(record)) is None:
        raise UsageError(f"{where} has no docid; a corpus has one document a line: {EXAMPLE}.")
    if (text := document_text(record)) is None:
        raise UsageError(f"{where} has no text; a corpus has one document a line: {EXAMPLE}.")
    return docid, text
