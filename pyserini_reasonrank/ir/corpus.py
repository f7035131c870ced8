"""The one reader of documents: fields of a JSON record, corpora of JSON lines."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.file_io import read_lines

log = logging.getLogger(__name__)

DOCID_FIELDS = ("id", "docid", "_id", "docno", "pid")
BODY_FIELDS = ("contents", "text", "segment", "passage", "body", "abstract")
EXAMPLE = '{"id": "d1", "contents": "..."}'


def document_docid(record: Mapping[str, Any]) -> str | None:
    """The docid of a record, verbatim; None if it has no such field."""
    return next((str(record[name]) for name in DOCID_FIELDS if name in record), None)


def document_text(record: Mapping[str, Any]) -> str | None:
    """The title and text of a record; the title is omitted if the text begins with it. None if there is neither."""
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
    """The text in the stored fields of an index: that of a JSON ``raw``, otherwise ``contents``, otherwise ``raw``."""
    try:
        record = json.loads(raw or "")
    except ValueError:
        return contents or raw
    return (document_text(record) if isinstance(record, dict) else None) or contents


def read_corpus(path: str | Path) -> Iterator[tuple[str, str]]:
    """Yield each docid and text of a JSON lines file, plain or gzipped, in order.

    UsageError if the file is missing or empty; UsageError, with file and line, for a line that is not a document.
    """
    for where, line in read_lines(Path(path)):
        yield _read_line(line, where)


def corpus_texts(path: str | Path, docids: Collection[str]) -> dict[str, str]:
    """The texts of ``docids``, by docid. The file is streamed until all of them are found; nothing else is kept.

    If a docid has several texts, the first is used, with a warning if another was read. UsageError if the corpus does
    not contain all ``docids``.
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
        log.warning(
            "%s has several texts of document %r (%d such lines); the first is used", path, others[0], len(others)
        )
    if missing := wanted - texts.keys():
        first = min(missing)
        raise UsageError(f"the corpus {path} has no document {first!r} ({len(missing)} of {len(wanted)} are missing)")
    return texts


def _read_line(line: bytes, where: str) -> tuple[str, str]:
    try:
        record = json.loads(line)
    except ValueError:
        raise UsageError(f"{where} is not JSON; a corpus has one document per line: {EXAMPLE}") from None
    if not isinstance(record, dict) or (docid := document_docid(record)) is None:
        raise UsageError(f"{where} has no docid; a corpus has one document per line: {EXAMPLE}")
    if (text := document_text(record)) is None:
        raise UsageError(f"{where} has no text; a corpus has one document per line: {EXAMPLE}")
    return docid, text
