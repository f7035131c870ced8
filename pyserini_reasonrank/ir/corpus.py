"""Corpora: JSON lines, a document each."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.documents import Document, document_docid, read_document
from pyserini_reasonrank.ir.file_io import read_lines

log = logging.getLogger(__name__)

EXAMPLE = '{"id": "d1", "contents": "..."}'


def read_documents(path: str | Path) -> Iterator[tuple[str, Document]]:
    """Yield each docid and document of a JSON lines file, plain or gzipped, in order.

    UsageError if the file is missing or empty; UsageError, with file and line, for a line that is not a document.
    """
    for where, line in read_lines(Path(path)):
        yield _read_line(line, where)


def read_corpus(path: str | Path) -> Iterator[tuple[str, str]]:
    """Yield each docid and text of a JSON lines file, as ``read_documents`` reads it."""
    for docid, document in read_documents(path):
        yield docid, document.text


def corpus_texts(path: str | Path, docids: Collection[str]) -> dict[str, str]:
    """The texts of ``docids``, by docid, as ``corpus_documents`` finds them."""
    return {docid: document.text for docid, document in corpus_documents(path, docids).items()}


def corpus_documents(path: str | Path, docids: Collection[str]) -> dict[str, Document]:
    """The documents of ``docids``, by docid. The file is streamed until all of them are found; nothing else is kept.

    If a docid has several texts, the first is used, with a warning if another was read. UsageError if the corpus does
    not contain all ``docids``.
    """
    wanted, others = set(docids), list[str]()
    documents: dict[str, Document] = {}
    for docid, document in read_documents(path):
        if docid in wanted:
            if documents.setdefault(docid, document).text != document.text:
                others.append(docid)
            if len(documents) == len(wanted):
                break
    if others:
        log.warning(
            "%s has several texts of document %r (%d such lines); the first is used", path, others[0], len(others)
        )
    if missing := wanted - documents.keys():
        first = min(missing)
        raise UsageError(f"the corpus {path} has no document {first!r} ({len(missing)} of {len(wanted)} are missing)")
    return documents


def _read_line(line: bytes, where: str) -> tuple[str, Document]:
    try:
        record = _parsed(line)
    except (ValueError, RecursionError):
        raise UsageError(f"{where} is not JSON; a corpus has one document per line: {EXAMPLE}") from None
    try:
        docid = document_docid(record) if isinstance(record, dict) else None
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from None
    if docid is None:
        raise UsageError(f"{where} has no docid; a corpus has one document per line: {EXAMPLE}")
    if (document := read_document(record)) is None:
        raise UsageError(f"{where} has no text; a corpus has one document per line: {EXAMPLE}")
    return docid, document


def _parsed(line: bytes) -> Any:
    """The value of a JSON text. Halves of surrogate pairs, which UTF-8 can't represent, become question marks."""
    value = json.loads(line)
    if b"\\u" not in line:
        return value
    return json.loads(json.dumps(value, ensure_ascii=False).encode(errors="replace"))
