"""The rows of candidates files, in this project's form, in Castorini's and in RankGPT's: a query and its documents."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

from pyserini_reasonrank.ir.file_io import identifier, read_json_rows

FORMS = (
    '{"qid", "query", "candidates": [{"docid", "score", "text"}]} or '
    '{"query": {"qid", "text"}, "candidates": [{"docid", "score", "doc"}]}'
)
"""The forms of a row, for error messages."""


EXCLUDED = "excluded"
"""The key of the number of documents that were removed by an exclusion list, in rows that the search process writes."""


class DocumentRow(NamedTuple):
    """A document of a row: its docid, its score (None if the row has none), and its fields."""

    docid: str
    score: float | None
    fields: Mapping[str, Any]


class CandidateRow(NamedTuple):
    """A query and its documents in ranked order."""

    qid: str
    query: str
    documents: list[DocumentRow]


def candidate_row(row: Mapping[str, Any]) -> CandidateRow:
    """Read a row. ValueError, KeyError, TypeError or AttributeError if it has none of the forms.

    Castorini's request (Anserini, RankLLM, Pyserini's server) has the qid and the text in ``query`` and the fields of a
    document, or its text, in ``doc``. RankGPT's row has ``hits``, each with the qid and ``content``. The query of this
    project's form may be missing if only the ranking is needed; it is then empty.
    """
    query = row.get("query", "")
    if isinstance(query, Mapping):
        documents = [_document(each, _castorini_fields(each)) for each in row["candidates"]]
        return CandidateRow(identifier(query["qid"], "qid"), _text(query["text"]), documents)
    if "candidates" not in row and "hits" in row:
        hits = row["hits"]
        qids = {identifier(hit["qid"], "qid") for hit in hits}
        if len(qids) != 1:
            raise ValueError(f"the hits of a row have {len(qids)} qids, expected one")
        documents = [_document(hit, {"text": hit["content"]}) for hit in hits]
        return CandidateRow(qids.pop(), _text(query), documents)
    qid = identifier(row["qid"], "qid")
    return CandidateRow(qid, _text(query), [_document(each, each) for each in row["candidates"]])


def read_rows(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield each row of a candidates file with its place: JSON lines, or one JSON list; plain or gzipped.

    UsageError if the file is missing or empty, or if a row is not JSON.
    """
    return read_json_rows(path, f"qid, query, candidates as JSON, {FORMS}")


def _document(row: Mapping[str, Any], fields: Mapping[str, Any]) -> DocumentRow:
    docid = identifier(row["docid"], "docid")
    score = row.get("score")
    if score is not None and not isfinite(score := float(score)):
        raise ValueError(f"the score of {docid} is {score}")
    return DocumentRow(docid, score, fields)


def _castorini_fields(row: Mapping[str, Any]) -> Mapping[str, Any]:
    fields = row.get("doc", {})
    if isinstance(fields, str):
        return {"text": fields}
    if not isinstance(fields, Mapping):
        raise TypeError(f"doc is {json.dumps(fields)}; it must be an object or a string")
    return fields


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"the query is {json.dumps(value)}; it must be a string")
    return value
