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
