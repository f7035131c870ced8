"""Texts of documents from their JSON records, and corpora of them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.corpus import corpus_texts, read_corpus
from pyserini_reasonrank.ir.documents import document_text


@pytest.mark.parametrize(
    ("record", "text"),
    [
        ({"id": "1", "contents": " as it is\n"}, "as it is"),
        ({"_id": "1", "title": "Title", "text": "body", "metadata": {}}, "Title. body"),
        ({"id": "1", "title": "Why?", "text": "body"}, "Why? body"),
        ({"id": "1", "title": "Title", "contents": "Title\nbody"}, "Title\nbody"),
        ({"docid": "1", "title": "", "segment": "body"}, "body"),
        ({"pid": "1", "passage": "body"}, "body"),
        ({"id": "1", "title": "Title only"}, "Title only"),
        ({"id": "1", "contents": ""}, ""),
        ({"id": "1", "vector": {"a": 1}}, None),
    ],
)
def test_text_of_a_record(record: dict[str, Any], text: str | None) -> None:
    assert document_text(record) == text


def test_documents_in_order_from_a_plain_or_gzipped_file(tmp_path: Path) -> None:
    lines = ['{"id": 7, "text": "seven"}', "", '{"docid": "D 2", "contents": "two"}']
    plain, packed = tmp_path / "c.jsonl", tmp_path / "c.jsonl.gz"
    plain.write_text("\n".join(lines))
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert list(read_corpus(plain)) == list(read_corpus(packed)) == [("7", "seven"), ("D 2", "two")]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{id: 2}", "is not JSON"),
        ("[2]", "has no docid"),
        ('{"text": "two"}', "has no docid"),
        ('{"id": "2"}', "has no text"),
    ],
)
def test_a_line_that_is_not_a_document_is_rejected(tmp_path: Path, line: str, says: str) -> None:
    corpus = tmp_path / "c.jsonl"
    corpus.write_text(json.dumps({"id": "1", "text": "one"}) + f"\n{line}\n")
    with pytest.raises(UsageError, match=f"c.jsonl, line 2 {says}"):
        list(read_corpus(corpus))


def test_texts_of_some_documents(tmp_path: Path) -> None:
    corpus = tmp_path / "c.jsonl"
    corpus.write_text('{"id": "a", "text": "A"}\n{"id": "b", "text": "B"}\n{"id": "c", "text": "C"}\n')
    assert corpus_texts(corpus, ["c", "a"]) == {"a": "A", "c": "C"}
    with pytest.raises(UsageError, match=r"no document 'x' \(1 of 2 are missing"):
        corpus_texts(corpus, ["x", "a"])


@pytest.mark.parametrize("wanted", [["a"], ["a", "b"], ["a", "b", "c"]])
def test_the_first_text_of_a_docid_is_used_whichever_docids_are_requested(
    tmp_path: Path, wanted: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    corpus = tmp_path / "c.jsonl"
    documents = [("a", "A"), ("b", "B"), ("b", "B"), ("a", "another"), ("c", "C")]
    corpus.write_text("".join(json.dumps({"id": docid, "text": text}) + "\n" for docid, text in documents))
    assert corpus_texts(corpus, wanted) == {docid: docid.upper() for docid in wanted}
    met = "c" in wanted  # the others are found before
    assert [r.getMessage() for r in caplog.records] == [
        f"{corpus} has several texts of document 'a' (1 such lines); the first is used"
    ] * met


def test_a_missing_corpus(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        corpus_texts(tmp_path / "none.jsonl", ["a"])


@pytest.mark.parametrize("docid", ['{"oid": 1}', "[1]", "1.5", "true"])
def test_a_docid_is_a_string_or_an_integer(docid: str, tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_text('{"id": 7, "contents": "x"}\n{"id": ' + docid + ', "contents": "x"}\n')
    with pytest.raises(UsageError, match=r"corpus\.jsonl, line 2: id is .*; it must be a string or an integer"):
        list(read_corpus(path))


def test_half_of_a_character_in_a_text_is_replaced_and_deep_nesting_refused(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_text('{"id": "d", "contents": "a \\ud83d b \\ud83d\\ude00"}\n')
    assert dict(read_corpus(path)) == {"d": "a ? b \U0001f600"}
    path.write_text('{"id": "d", "contents": ' + "[" * 100_000)
    with pytest.raises(UsageError, match="line 1 is not JSON"):
        list(read_corpus(path))
