"""The one reader of a document: from a JSON record, or the stored fields of an index, to its fields and its text.

It reads MS MARCO v1 and v2 (passages, documents, segments), BEIR, BRIGHT, CORD-19, the TREC Washington Post, SciFact, and
Pyserini's and Castorini's JSON by the names of their fields.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

DOCID_FIELDS = ("id", "pid", "docid", "_id", "docno")  # a passage of MS MARCO v2 names its document in docid
BODY_FIELDS = ("contents", "text", "segment", "passage", "body", "abstract", "content", "body_text")
# contents often repeats these after the title
_BODY_BEFORE_CONTENTS = tuple(dict.fromkeys(("text", "segment", "passage", "body", *BODY_FIELDS)))
_READ_FIELDS = frozenset({"title", "score", *DOCID_FIELDS, *BODY_FIELDS})
_PLACE_FIELDS = ("start_char", "end_char")  # of a segment of MS MARCO v2 in its document
_PART_FIELDS = ("text", *(name for name in BODY_FIELDS if name != "text"), "paragraphs", "sentences", "fullcaption")
_HEADS = ("title", "kicker", "byline", "date", "author")  # parts of a body that are other fields of the document
_INTEGER = re.compile(r"0|[1-9][0-9]{0,17}")
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")


@dataclass(frozen=True, slots=True)
class Document:
    """A document's ``text``, which is its title and body, and its ``fields``.

    ``fields`` has ``title``, the body as ``text``, and the other strings of the record (``url``, ``headings``, ...), as they
    are in the record, and the place of a segment in its document (``start_char``, ``end_char``). It is empty if it would
    contain nothing but ``text``.
    """

    text: str
    fields: Mapping[str, str] = field(default_factory=dict)


def document_docid(record: Mapping[str, Any]) -> str | None:
    """The docid of a record, verbatim; None if it has no such field. ValueError if it is not a string or an integer."""
    name = next((name for name in DOCID_FIELDS if record.get(name) is not None), None)
    if name is None:
        return None
    if isinstance(record[name], bool | float | list | Mapping):
        raise ValueError(f"{name} is {record[name]!r}; it must be a string or an integer")
    return str(record[name])


def document_text(record: Mapping[str, Any]) -> str | None:
    """The title and body of a record; the title is omitted if the body begins with it. None if there is neither."""
    return _text_of(_title(record), _body(record, BODY_FIELDS))


def _text_of(title: str, body: str | None) -> str | None:
    """The title and body as ``document_text`` joins them."""
    title = title.strip()
    if body is None:
        return title or None
    body = body.strip()
    if not title or body.startswith(title):
        return body
    return f"{title}{'' if title[-1] in '.?!:' else '.'} {body}".strip()


def read_document(record: Mapping[str, Any]) -> Document | None:
    """The document in a record; None if it has neither a title nor a body."""
    title = _title(record)
    text = _text_of(title, _body(record, BODY_FIELDS))
    if text is None:
        return None
    fields = {"title": title} if title or "title" in record else {}
    if body := _body(record, _BODY_BEFORE_CONTENTS):
        fields["text"] = body
    for name, value in record.items():
        if name not in _READ_FIELDS and isinstance(value, str):
            fields[name] = value
        elif name in _PLACE_FIELDS and type(value) is int:
            fields[name] = str(value)
    return Document(text, {} if fields in ({"text": text}, {}) else fields)


def document_record(document: Document) -> dict[str, str | int]:
    """The record that ``read_document`` reads as ``document``, without a docid."""
    if not document.fields:
        return {"text": document.text}
    given = document.fields
    places = {name: int(given[name]) for name in _PLACE_FIELDS if _INTEGER.fullmatch(given.get(name, ""))}
    fields: dict[str, str | int] = {**given, **places}
    return fields if document_text(fields) == document.text else {"contents": document.text, **fields}


def stored_document(raw: str | None, contents: str | None) -> Document | None:
    """The document in the stored fields of an index: that of a JSON ``raw``, otherwise ``contents``, otherwise ``raw``.

    ``contents`` is also the body of a JSON ``raw`` whose own body is not found.
    """
    try:
        record = json.loads(raw or "")
    except ValueError:
        text = contents or raw
        return None if text is None else Document(text)
    if not isinstance(record, dict):
        return None if contents is None else Document(contents)
    if not (_body(record, BODY_FIELDS) or "").strip() and contents:
        return read_document(record | {"contents": contents}) if _title(record) else Document(contents)
    return read_document(record) or (None if contents is None else Document(contents))


def title_only(fields: Mapping[str, str]) -> bool:
    """Whether a document with these ``fields`` has a title and no body."""
    return bool(fields.get("title", "").strip()) and not fields.get("text", "").strip()


def _title(record: Mapping[str, Any]) -> str:
    """The title as it is in the record; "" if there is none. CORD-19 has it in the columns of its metadata file."""
    for source in (record, record.get("csv_metadata")):
        if isinstance(source, Mapping) and isinstance(title := source.get("title"), str) and title:
            return title
    return ""


def _body(record: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """The first body that is not blank; "" if all are blank, None if there is none."""
    first = None
    for source in (record, record.get("csv_metadata")):
        if not isinstance(source, Mapping):
            continue
        for name in names:
            if name in source and (body := _joined(source[name])) is not None:
                if body.strip():
                    return body
                first = body if first is None else first
    return first


def _joined(value: Any) -> str | None:
    """The text of a string, of a list of sentences or parts, or of an object that contains one of these."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list):
        parts = [part for part in map(_joined, value) if part is not None]
        paragraphs = any(isinstance(part, Mapping) for part in value)
        return ("\n" if paragraphs else " ").join(part for part in parts if part.strip()) if parts else None
    if not isinstance(value, Mapping) or value.get("type") in _HEADS:
        return None
    text = next((text for name in _PART_FIELDS if (text := _joined(value.get(name))) is not None), None)
    return html.unescape(_TAG.sub("", text)) if text and value.get("mime") == "text/html" else text
