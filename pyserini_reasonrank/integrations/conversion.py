"""What the integrations share: the reranker behind a component, documents from foreign records, results as metadata."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyserini_reasonrank.api import Reranker
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.documents import BODY_FIELDS, DOCID_FIELDS
from pyserini_reasonrank.results import RankedDocument, RankedDocuments

_RESERVED = {"score", *DOCID_FIELDS, *BODY_FIELDS}


def opened(reranker: str | Reranker, settings: Mapping[str, Any], journal: str | Path | None = None) -> Reranker:
    """The reranker named ``reranker`` with ``settings``, or ``reranker`` if it is one: components may share a model.

    UsageError if the settings are invalid, or come with a reranker that has its own.
    """
    if isinstance(reranker, str):
        return Reranker(reranker, journal=journal, **settings)
    given = [*settings, *(["journal"] if journal is not None else [])]
    if given:
        raise UsageError(f"{reranker!r} has its own settings: pass {', '.join(given)} to Reranker(...)")
    return reranker


def document(text: Any, fields: Mapping[Any, Any]) -> dict[str, Any]:
    """A document of the Python API: ``text`` and those of ``fields`` that are strings (title, url, ...).

    Names that mean a docid, a body or a score to the reader of documents are omitted.
    """
    return {k: v for k, v in fields.items() if isinstance(v, str) and k not in _RESERVED} | {"text": text}


def statuses(ranked: RankedDocuments) -> str:
    """The judgements by status, such as ``2 ok, 1 repaired``; "" without judgements."""
    return ", ".join(f"{n} {status}" for status, n in ranked.statuses.items() if n)


def metadata(ranked: RankedDocuments, found: RankedDocument) -> dict[str, Any]:
    """What a reranked document's metadata report.

    ``relevance_score`` is in (0, 1] and falls with the rank; ``llm_score`` and ``reasoning`` are there if the model gave
    them, ``segment`` if the document was judged in segments; ``statuses`` counts the judgements of the query.
    """
    reported = {"relevance_score": ranked.relevance(found), "rank": found.rank, "statuses": statuses(ranked)}
    if found.llm_score is not None:
        reported["llm_score"] = found.llm_score
    if found.segment is not None:
        reported["segment"] = found.segment.place
    if reasoning := ranked.reasoning_of(found.docid):
        reported["reasoning"] = reasoning
    return reported
