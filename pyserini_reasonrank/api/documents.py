"""What the Python API is given: queries, documents of several kinds, and settings as keyword arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from math import isfinite, nan
from typing import Any

from pyserini_reasonrank.engines import Engine
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.documents import Document, document_docid, read_document, stored_document
from pyserini_reasonrank.ir.runs import repeated
from pyserini_reasonrank.records import Candidate
from pyserini_reasonrank.settings.layers import MAIN_KEYS
from pyserini_reasonrank.settings.schema import Tree

Documents = Sequence[Any]
"""Strings, mappings with the fields of a corpus line, ``Candidate``s, or hits of a Pyserini searcher.

A pandas data frame is a list of its rows, as mappings.
"""


def settings_of(arguments: Mapping[str, Any]) -> tuple[Tree, Engine[Any] | None]:
    """Keyword arguments as a tree of settings, and the ``Engine`` among them, if one was passed in.

    ``engine="vllm"`` is ``engine={"name": "vllm"}``.
    """
    tree, engine = Tree(), None
    for key, value in arguments.items():
        if isinstance(value, Engine):
            engine = value
        else:
            tree[key] = {MAIN_KEYS[key]: value} if key in MAIN_KEYS and isinstance(value, str) else value
    if engine is not None:
        tree = Tree({"model": engine.model.name, **tree, "engine": {"name": engine.name}})
    return tree, engine


def check_query(query: Any) -> None:
    """UsageError if ``query`` is not a string."""
    if not isinstance(query, str):
        raise UsageError(f"the query is a {type(query).__name__}; it has to be a string")


def document_list(documents: Any) -> list[Any]:
    """``documents`` as a list. UsageError for a single document, and for what is not a list."""
    return _list(documents, "documents", "strings, mappings with fields, or hits of a searcher")


def candidates_of(
    documents: Sequence[Any], scores: Sequence[float] | None = None
) -> tuple[tuple[Candidate, ...], bool]:
    """The candidates of a request, and whether they have first-stage scores: ``scores``, or those of the documents.

    UsageError for a document without text or docid, for a docid that occurs twice, for a score that is not a finite number,
    and if only some have scores.
    """
    given = None if scores is None else _list(scores, "scores", "a number for each document")
    if given is not None and len(given) != len(documents):
        raise UsageError(f"there are {len(given)} scores for {len(documents)} documents")
    found = [_candidate(document, place) for place, document in enumerate(documents)]
    if given is not None:
        found = [(docid, _score(given[place], place, docid), own) for place, (docid, _, own) in enumerate(found)]
    missing = [docid for docid, score, _ in found if score is None]
    if 0 < len(missing) < len(found):
        raise UsageError(f"document {missing[0]!r} has no score, but other documents have one")
    candidates = tuple(
        Candidate(docid, 0.0 if score is None else score, own.text, own.fields) for docid, score, own in found
    )
    if twice := repeated(candidate.docid for candidate in candidates):
        raise UsageError(f"document {twice[0]!r} occurs twice: docids must be unique")
    return candidates, not missing and bool(found)


def _candidate(document: Any, place: int) -> tuple[str, float | None, Document]:
    """Docid, score, and text with fields of a document. UsageError if it has no docid or text."""
    if isinstance(document, str):
        return str(place), None, Document(document)
    if isinstance(document, Candidate):
        return _checked(document.docid, document.score, Document(document.text, document.fields), place)
    if isinstance(document, Mapping):
        try:
            docid = document_docid(document)
        except ValueError as error:
            raise UsageError(f"document {place}: {error}") from None
        return _checked(str(place) if docid is None else docid, document.get("score"), read_document(document), place)
    docid = getattr(document, "docid", None)
    if docid is None:
        raise UsageError(
            f"document {place} is a {type(document).__name__}: pass a string, a mapping with a text, or a searcher's hit"
        )
    return _checked(str(docid), getattr(document, "score", None), _hit_document(document), place)


def _checked(docid: str, score: Any, found: Document | None, place: int) -> tuple[str, float | None, Document]:
    if found is None:
        raise UsageError(f"document {place} ({docid}) has no text: add a field 'text' or 'contents'")
    return docid, None if score is None else _score(score, place, docid), found


def _score(score: Any, place: int, docid: str) -> float:
    """A first-stage score as a number. UsageError if it is not finite: NaN sorts anywhere, and can't be fused."""
    try:
        number = float(score)
    except (TypeError, ValueError, OverflowError):
        number = nan
    if not isfinite(number):
        raise UsageError(f"the score of document {place} ({docid}) is {score!r}; it has to be a finite number")
    return number


def _list(given: Any, name: str, content: str) -> list[Any]:
    """``given`` as a list of ``content``. UsageError, with its ``name``, if it is not one."""
    rows = _rows(given) if hasattr(given, "columns") and hasattr(given, "to_dict") else given
    if isinstance(rows, str | bytes | Mapping | Set) or not iterable(rows):
        raise UsageError(f"{name} have to be a list ({content}); this is a {type(given).__name__}")
    return list(rows)


def _rows(frame: Any) -> Any:
    """The rows of a data frame as mappings, without the cells that have no value."""
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


def iterable(given: Any) -> bool:
    """Whether ``given`` can be iterated over, by whatever protocol."""
    try:
        iter(given)
    except TypeError:
        return False
    return True


def _hit_document(hit: Any) -> Document | None:
    """The stored document of a hit of a Pyserini searcher; None if it has none."""
    document = getattr(hit, "lucene_document", None)
    if document is not None:
        return stored_document(document.get("raw"), document.get("contents"))
    fields = (getattr(hit, name, None) for name in ("raw", "contents", "text"))
    raw, contents, text = (field if isinstance(field, str) else None for field in fields)
    return stored_document(raw, contents or text)
