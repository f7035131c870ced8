"""Requests and responses of the rerank APIs that clients already speak: Cohere (v1, v2), Jina, vLLM, and TEI.

Cohere, Jina and vLLM share one form, with small differences that do not conflict; TEI's has ``texts`` in place of
``documents``. Responses have further fields: ``statuses``, ``llm_score``, ``segment`` of a document that is judged in
segments, ``dropped`` with the indices of documents that the setting ``keep`` left out, and with ``return_reasoning``
``judgements``, an entry for each question to the model with the indices of the documents shown and judged, the status and
the reasoning.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.documents import DOCID_FIELDS, document_docid
from pyserini_reasonrank.records import Status
from pyserini_reasonrank.results import RankedDocuments, RewrittenQuery

TopN = Annotated[int, Field(ge=1, description="how many results to return [all]")]
Reasoning = Annotated[bool, Field(description="add the questions to the model with its reasoning")]


class RerankRequest(BaseModel):
    """``POST /rerank``, ``/v1/rerank``, ``/v2/rerank``. Keys that are not listed are ignored, as clients send more."""

    model_config = ConfigDict(json_schema_extra={
        "example": {"query": "how do moths navigate", "documents": ["Lamps are bright.", "Moths fly by the moon."]}
    })  # fmt: skip

    query: Annotated[str, Field(min_length=1)]
    documents: Annotated[list[str | dict[str, Any]], Field(min_length=1, description="strings, or objects with a text")]
    model: Annotated[str | None, Field(description="a reranker of this server [the first]")] = None
    top_n: TopN | None = None
    return_documents: bool | None = None
    rank_fields: Annotated[list[str] | None, Field(description="the fields of the documents to read (Cohere v1)")] = (
        None
    )
    max_tokens_per_doc: Annotated[int | None, Field(ge=1, description="tokens of a document to read (Cohere v2)")] = (
        None
    )
    qid: Annotated[str | None, Field(min_length=1, description="name of the query in the journal [a number]")] = None
    return_reasoning: Reasoning = False


class TeiRequest(BaseModel):
    """``POST /rerank`` with ``texts``: the API of text-embeddings-inference."""

    model_config = ConfigDict(json_schema_extra={
        "example": {"query": "how do moths navigate", "texts": ["Lamps are bright.", "Moths fly by the moon."]}
    })  # fmt: skip

    query: Annotated[str, Field(min_length=1)]
    texts: Annotated[list[str], Field(min_length=1)]
    raw_scores: Annotated[bool, Field(description="return n, n - 1, ..., 1 in place of scores in [0, 1]")] = False
    return_text: bool = False
    truncate: Annotated[bool, Field(description="ignored: documents are always cut to their limit")] = False


def documents_of(request: RerankRequest) -> list[Any]:
    """The documents to rank: with ``rank_fields``, only those fields of each object.

    UsageError if an object has none of them.
    """
    if not request.rank_fields:
        return list(request.documents)
    found: list[Any] = []
    for place, document in enumerate(request.documents):
        if isinstance(document, str):
            found.append(document)
            continue
        lines = [f"{name}: {document[name]}" for name in request.rank_fields if document.get(name) is not None]
        if not lines:
            raise UsageError(f"document {place} has none of the rank_fields {', '.join(request.rank_fields)}")
        found.append("\n".join(lines))
    return found


def identified(documents: Sequence[Any]) -> tuple[list[Any], dict[str, int]]:
    """The documents for a reranker, which names strings by their index; others get a docid. With the index of each docid.

    Docids of the documents are kept if all have one and none is repeated; otherwise their indices are their docids.
    UsageError for a docid that is neither a string nor an integer.
    """
    if all(isinstance(one, str) for one in documents):
        return list(documents), {str(i): i for i in range(len(documents))}
    own = [_own_docid(one, place) for place, one in enumerate(documents)]
    if None in own or len(set(own)) < len(own):
        own = [str(i) for i in range(len(documents))]
    docids = [str(docid) for docid in own]
    named = [
        {**(one if isinstance(one, Mapping) else {"text": one}), DOCID_FIELDS[0]: docid}
        for one, docid in zip(documents, docids, strict=True)
    ]
    return named, {docid: i for i, docid in enumerate(docids)}


def _own_docid(document: Any, place: int) -> str | None:
    try:
        return document_docid(document) if isinstance(document, Mapping) else None
    except ValueError as error:
        raise UsageError(f"document {place}: {error}") from None


def rerank_response(
    request: RerankRequest, model: str, ranked: RankedDocuments, places: Mapping[str, int], tokens: int, api: str
) -> dict[str, Any]:
    """The response to a ``RerankRequest``. ``places`` has the index of each docid; ``api`` is ``1`` or ``2``."""
    results = []
    for one in ranked.top(request.top_n or len(ranked)):
        result: dict[str, Any] = {"index": places[one.docid], "relevance_score": ranked.relevance(one)}
        if request.return_documents:
            given = request.documents[places[one.docid]]
            result["document"] = {"text": given} if isinstance(given, str) else given
        if one.llm_score is not None:
            result["llm_score"] = one.llm_score
        if one.segment is not None:
            result["segment"] = one.segment.place
        results.append(result)
    notes = warnings_of(ranked.statuses)
    response: dict[str, Any] = {
        "id": str(uuid.uuid4()),
        "model": model,
        "results": results,
        "usage": {"total_tokens": tokens},
        "meta": {
            "api_version": {"version": api},
            "billed_units": {"search_units": 1},
            **({"warnings": notes} if notes else {}),
        },
        "statuses": counted(ranked.statuses),
        **({"dropped": [places[one.docid] for one in ranked.dropped]} if ranked.dropped else {}),
    }
    if request.return_reasoning:
        response["judgements"] = [
            {"shown": [places[docid] for docid in one.docids], "order": [places[docid] for docid in one.order],
             "status": str(one.status), "reasoning": one.reasoning, "detail": one.detail}
            for one in ranked.judgements
        ]  # fmt: skip
    return response


def tei_response(request: TeiRequest, ranked: RankedDocuments, places: Mapping[str, int]) -> list[dict[str, Any]]:
    """The response to a ``TeiRequest``, best first."""
    return [
        {
            "index": places[one.docid],
            "score": one.score if request.raw_scores else ranked.relevance(one),
            **({"text": request.texts[places[one.docid]]} if request.return_text else {}),
        }
        for one in ranked
    ]


def counted(statuses: Mapping[Status, int]) -> dict[str, int]:
    """The number of judgements by status."""
    return {str(status): count for status, count in statuses.items() if count}


def warnings_of(statuses: Mapping[Status, int]) -> list[str]:
    """A sentence about judgements that the model's answer did not decide; [] if there are none."""
    bad, total = sum(count for status, count in statuses.items() if status.bad), sum(statuses.values())
    if not bad:
        return []
    named = ", ".join(f"{count} {status}" for status, count in statuses.items() if status.bad and count)
    return [f"{bad} of {total} answers of the model could not be used ({named}); their documents kept their order"]


def rewrite_record(rewritten: RewrittenQuery, *, reasoning: bool) -> dict[str, Any]:
    """The rewriting of a query in the response to a search: the text that was searched, and the answers by status."""
    found = {"searched": rewritten.text, "statuses": counted(rewritten.statuses)}
    return found | ({"reasoning": rewritten.reasoning} if reasoning else {})


def rewrite_warnings(rewritten: RewrittenQuery | None) -> list[str]:
    """A sentence each about a query without a readable rewrite, and about one that was cut; [] if there is nothing to say."""
    if rewritten is None:
        return []
    bad = {status: count for status, count in rewritten.statuses.items() if status.bad}
    found = []
    if bad:
        named = ", ".join(f"{count} {status}" for status, count in bad.items())
        searched = "its last readable rewrite" if rewritten.rewrite else "its own words"
        found.append(f"an answer of the rewriter could not be used ({named}); the query was searched with {searched}")
    if rewritten.cut:
        found.append("the rewritten query was cut to the number of different words that a search accepts")
    return found


def error_body(message: str, status: int, *, tei: bool) -> dict[str, Any]:
    """An error in the form of TEI, or in one that the clients of Cohere, Jina and vLLM all read."""
    kind = "not_found" if status == 404 else "validation" if status < 500 and status != 429 else "overloaded"
    if tei:
        return {"error": message, "error_type": kind}
    return {"message": message, "detail": message, "error": {"message": message, "type": kind, "code": status}}


def one_sentence(errors: Sequence[Mapping[str, Any]]) -> str:
    """The first of pydantic's errors about a body, with its place, as one sentence."""
    first = errors[0]
    place = ".".join(str(part) for part in first["loc"] if part != "body")
    if first["type"] == "json_invalid":
        reason = first.get("ctx", {}).get("error", "it ends too early")
        return f"the body is not JSON: {reason}"
    return f"{place or 'the body'}: {first['msg'][0].lower()}{first['msg'][1:]}"
