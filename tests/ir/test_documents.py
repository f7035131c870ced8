"""Records of real collections as fields and text."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyserini_reasonrank.ir.documents import (
    Document,
    document_docid,
    document_record,
    document_text,
    read_document,
    title_only,
)

ABSTRACT = ["Moths circle a lamp.", "They tilt their backs to the light."]
JOINED = " ".join(ABSTRACT)
WASHINGTON_POST = {
    "id": "a1", "article_url": "https://example.org/a1", "title": "Lights", "author": "Desk", "published_date": 1325376562000,
    "contents": [
        {"content": "Lights", "mime": "text/plain", "type": "title"},
        None,
        {"content": "Moths &amp; <b>lamps</b>.", "mime": "text/html", "type": "sanitized_html", "subtype": "paragraph"},
        {"content": "x < y", "mime": "text/plain", "type": "sanitized_html"},
    ],
}  # fmt: skip
CORD = {
    "paper_id": "p", "csv_metadata": {"cord_uid": "u", "title": "Bats", "abstract": "They fly."},
    "body_text": [{"text": "One.", "section": "A"}, {"text": "Two.", "section": "B"}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("record", "docid", "text", "fields"),
    [
        ({"pid": "p1", "passage": "X", "spans": "(0,1)", "docid": "d1"}, "p1", "X", {"text": "X", "spans": "(0,1)"}),
        (
            {"url": "U", "title": "T", "headings": "H", "body": "X\n", "docid": "d1"},
            "d1", "T. X", {"title": "T", "text": "X\n", "url": "U", "headings": "H"},
        ),
        ({"docid": "d#0", "title": "T", "segment": "X", "start_char": 0}, "d#0", "T. X",
         {"title": "T", "text": "X", "start_char": "0"}),
        ({"_id": "b", "title": "", "text": "X", "metadata": {}}, "b", "X", {"title": "", "text": "X"}),
        ({"id": "b", "content": "X"}, "b", "X", {}),
        ({"id": None, "docno": "FT-1", "contents": " X"}, "FT-1", "X", {"text": " X"}),
        ({"id": 1, "title": "T", "contents": "T\nX", "text": "X"}, "1", "T\nX", {"title": "T", "text": "X"}),
        ({"doc_id": 1, "docid": 2, "title": "T", "abstract": ABSTRACT}, "2", f"T. {JOINED}", {"title": "T", "text": JOINED}),
        ({"id": "s2", "title": "T", "content": "X"}, "s2", "T. X", {"title": "T", "text": "X"}),
        ({"id": "s3", "contents": "", "text": "X"}, "s3", "X", {}),
        ({"id": "o", "contents": {"title": "T", "body": ["X", "Y"]}}, "o", "X Y", {}),
        (
            WASHINGTON_POST, "a1", "Lights. Moths & lamps.\nx < y",
            {"title": "Lights", "text": "Moths & lamps.\nx < y", "article_url": "https://example.org/a1", "author": "Desk"},
        ),
        (CORD, None, "Bats. One.\nTwo.", {"title": "Bats", "text": "One.\nTwo.", "paper_id": "p"}),
        (
            {k: v for k, v in CORD.items() if k != "body_text"},
            None, "Bats. They fly.", {"title": "Bats", "text": "They fly.", "paper_id": "p"},
        ),
    ],
)  # fmt: skip
def test_docid_text_and_fields_of_a_record(
    record: dict[str, Any], docid: str | None, text: str, fields: dict[str, str]
) -> None:
    assert document_docid(record) == docid
    assert read_document(record) == Document(text, fields)


@pytest.mark.parametrize("body", [{}, {"text": ""}, {"contents": []}, {"body": 7}, {"text": " ", "abstract": [" "]}])
def test_a_document_without_a_body_is_title_only(body: dict[str, Any]) -> None:
    document = read_document({"id": "1", "title": "T"} | body)
    assert document is not None
    assert title_only(document.fields)


@pytest.mark.parametrize("record", [{"text": "X"}, {"title": "T", "text": "X"}, {"title": "", "text": ""}])
def test_other_documents_are_not(record: dict[str, Any]) -> None:
    document = read_document({"id": "1"} | record)
    assert document is not None
    assert not title_only(document.fields)


values = st.recursive(
    st.none() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["text", "content", "type"]), inner),
    max_leaves=5,
)
names = st.sampled_from(
    ["title", "contents", "text", "segment", "passage", "body", "abstract", "content", "url", "csv_metadata"]
)


@given(st.dictionaries(names, values))
def test_a_document_is_read_back_as_it_was_written(record: dict[str, Any]) -> None:
    document = read_document(record)
    assert (document and document.text) == document_text(record)
    assert document is None or read_document(document_record(document)) == document
