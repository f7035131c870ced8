"""Topics files without Pyserini: the reader of TSV and JSON lines, and the writer of TSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.file_io import atomic, decoded, identifier, parse_json, read_lines
from pyserini_reasonrank.records import Query

SUFFIXES = (".tsv", ".tsv.gz", ".txt", ".txt.gz", ".jsonl", ".jsonl.gz")
"""Endings of the files that ``read_topics`` reads in place of Pyserini, which reads some of them otherwise."""
QID_FIELDS = ("qid", "id", "query_id", "_id")
QUERY_FIELDS = ("query", "title", "text")


def read_topics(path: str | Path) -> list[Query]:
    """The queries of a file, plain or gzipped, in its order. Qids are kept verbatim.

    A ``.jsonl`` file has lines ``{"qid", "query"}``, any other file ``qid<TAB>query``; the query may contain tabs.
    UsageError if the file is missing or empty, or if a line is malformed or repeats a qid.
    """
    parse = _json_line if has_json_lines(path) else _tsv_line
    queries: dict[str, Query] = {}
    places: dict[str, str] = {}
    for where, line in read_lines(Path(path)):
        query = parse(line, where)
        if query.qid in queries:
            first = places[query.qid].rpartition(", ")[2]
            raise UsageError(f"{where} repeats the qid {query.qid!r} of {first}; a topic has one line")
        queries[query.qid], places[query.qid] = query, where
    return list(queries.values())


def has_json_lines(path: str | Path) -> bool:
    """Whether the name of a topics file is that of JSON lines; ``run.jsonl.rewritten.tsv`` is not."""
    suffixes = [suffix for suffix in Path(path).suffixes if suffix != ".gz"]
    return ".jsonl" in suffixes and suffixes[-1] not in (".tsv", ".txt")


def _tsv_line(line: bytes, where: str) -> Query:
    qid, _, text = decoded(line, where).partition("\t")
    if not qid.strip() or not text.strip():
        raise UsageError(f"{where} is not qid<TAB>query")
    return Query(qid.strip(), text.strip())


def _json_line(line: bytes, where: str) -> Query:
    try:
        record = parse_json(line)
    except ValueError as error:
        raise UsageError(f"{where} is not JSON ({error})") from None
    fields = record if isinstance(record, dict) else {}
    try:
        qid = next((identifier(fields[name], name) for name in QID_FIELDS if name in fields), "").strip()
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from None
    text: str = next((fields[name] for name in QUERY_FIELDS if isinstance(fields.get(name), str)), "")
    if not qid or not text.strip():
        raise UsageError(f'{where} is not {{"qid": ..., "query": ...}}')
    return Query(qid, text.strip())


def one_line(text: str) -> str:
    """``text`` with single blanks for all white space, as a line of a topics file has it."""
    return " ".join(text.split())


def write_topics(path: Path, queries: Sequence[Query]) -> None:
    """Write a topics file, ``qid<TAB>text`` a line, in one step, whose texts are on one line.

    UsageError if a qid contains a tab.
    """
    for query in queries:
        if "\t" in query.qid or "\n" in query.qid:
            raise UsageError(f"topic {query.qid!r}: a topics file can't contain a qid with a tab; rename it")
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as file:
        file.write("".join(f"{query.qid}\t{one_line(query.text)}\n" for query in queries).encode())
