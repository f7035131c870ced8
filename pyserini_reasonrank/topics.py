"""Topics from a TSV or JSON lines file, without Pyserini."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.records import Query

QID_FIELDS = ("qid", "id", "query_id", "_id")
QUERY_FIELDS = ("query", "title", "text")


def read_topics(path: str | Path) -> list[Query]:
    """The queries of a file, in its order, qids verbatim.

    ``.jsonl`` holds ``{"qid", "query"}``, any other name ``qid<TAB>query``; a further ``.gz`` is unpacked.
    UsageError if the file is missing or empty, or a line is malformed or repeats a qid.
    """
    parse = _json_line if ".jsonl" in Path(path).suffixes else _tsv_line
    queries: dict[str, Query] = {}
    for number, line in _lines(path):
        query = parse(line, f"{path}, line {number}")
        if query.qid in queries:
            raise UsageError(f"{path}, line {number} repeats the qid {query.qid!r}; a topic has one line.")
        queries[query.qid] = query
    if not queries:
        raise UsageError(f"The topics file {path} is empty; it needs one topic a line: qid<TAB>query.")
    return list(queries.values())


def _lines(path: str | Path) -> Iterator[tuple[int, str]]:
    opener = gzip.open if str(path).endswith(".gz") else open
    try:
        with opener(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield number, line.rstrip("\r\n")
    except OSError as reason:
        raise UsageError(f"The topics file {path} can't be read: {reason.strerror or reason}.") from None
    except UnicodeDecodeError:
        raise UsageError(f"The topics file {path} is not UTF-8 text.") from None


def _tsv_line(line: str, where: str) -> Query:
    qid, tab, text = line.partition("\t")
    if not tab or not qid.strip() or not text.strip():
        raise UsageError(f"{where} is not qid<TAB>query.")
    return Query(qid.strip(), text.strip())


def _json_line(line: str, where: str) -> Query:
    try:
        record = json.loads(line)
    except ValueError:
        raise UsageError(f"{where} is not JSON.") from None
    fields = record if isinstance(record, dict) else {}
    qid = next((str(fields[name]) for name in QID_FIELDS if name in fields), "")
    text = next((fields[name] for name in QUERY_FIELDS if isinstance(fields.get(name), str)), "")
    if not qid or not text.strip():
        raise UsageError(f'{where} is not {{"qid": ..., "query": ...}}.')
    return Query(qid, text.strip())
