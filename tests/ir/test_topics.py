"""Topics files, read without Pyserini."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.topics import read_topics
from pyserini_reasonrank.records import Query


def test_tsv_keeps_order_and_qids(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text("007\twhat is\tthis ?\r\nq b\tother\n\n")
    assert read_topics(path) == [Query("007", "what is\tthis ?"), Query("q b", "other")]


def test_gzipped_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"qid": 3, "query": "three"}\n{"_id": "x", "text": "ecks"}\n'))
    assert read_topics(path) == [Query("3", "three"), Query("x", "ecks")]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("t.tsv", "1\tone\n2 two\n", "line 2 is not qid<TAB>query"),
        ("t.tsv", "1\t \n", "line 1 is not qid<TAB>query"),
        ("t.tsv", "1\tone\n1\tagain\n", "line 2 repeats the qid '1'"),
        ("t.tsv", "\n", "is empty"),
        ("t.jsonl", '{"qid": 1}\n', "line 1 is not {"),
        ("t.jsonl", "1\tone\n", "line 1 is not JSON"),
        ("t.tsv", "1\tone\n2\ttwo\n1\tagain\n", "line 3 repeats the qid '1' of line 1"),
        ("t.jsonl", '{"qid": null, "query": "x"}\n', "line 1: qid is null; it must be a string or an integer"),
        ("t.jsonl", '{"qid": 1.5, "query": "x"}\n', "line 1: qid is 1.5; it must be"),
        ("t.jsonl", '{"qid": 1, "query": "\\udc00"}\n', "line 1 is not JSON .*half of a character"),
        ("t.tsv", "1\tone\r2\ttwo\n", "line 1 contains a carriage return"),
    ],
)
def test_malformed_topics_are_rejected(tmp_path: Path, name: str, content: str, says: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(UsageError, match=says):
        read_topics(path)


def test_topics_that_are_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_bytes(b"1\tcaf\xe9\n")
    with pytest.raises(UsageError, match="line 1 is not UTF-8"):
        read_topics(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        read_topics(tmp_path / "none.tsv")


def test_leading_zeros_are_part_of_a_qid(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text("007\tseven\n7\tanother\n")
    assert read_topics(path) == [Query("007", "seven"), Query("7", "another")]


def test_a_byte_order_mark_and_crlf_are_not_part_of_the_text(tmp_path: Path) -> None:
    for name, text in (("t.tsv", "\ufeff1\tone\r\n2\ttwo\r\n"), ("t.jsonl", '\ufeff{"qid": 1, "query": "one"}\r\n')):
        (tmp_path / name).write_bytes(text.encode())
    assert read_topics(tmp_path / "t.tsv") == [Query("1", "one"), Query("2", "two")]
    assert read_topics(tmp_path / "t.jsonl") == [Query("1", "one")]


def test_the_last_suffix_says_what_a_file_is(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl.rewritten.tsv"
    path.write_text("q1\twhy moths\n")
    assert read_topics(path) == [Query("q1", "why moths")]
    path = tmp_path / "topics.dev.jsonl"
    path.write_text('{"qid": "q1", "query": "why moths"}\n')
    assert read_topics(path) == [Query("q1", "why moths")]
