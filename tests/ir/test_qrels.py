"""Relevance judgments in TREC format."""

import gzip
from pathlib import Path

import pytest

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.qrels import read_qrels


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_columns_separated_by_spaces_or_tabs_plain_or_gzipped(tmp_path: Path) -> None:
    text = "1\t0\ta\t2\n1 0 b -1\n\nq2 Q0 a 0\n"
    packed = tmp_path / "qrels.gz"
    packed.write_bytes(gzip.compress(text.encode()))
    assert read_qrels(write(tmp_path / "qrels", text)) == read_qrels(packed) == {"1": {"a": 2, "b": -1}, "q2": {"a": 0}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("1 0 a 1\n1 0 b\n", "line 2: 3 columns, expected 4: qid"),
        ("1 0 a yes\n", "line 1: the relevance 'yes'"),
        ("1 0 a 1\n1 0 a 2\n", "line 2: document a is judged twice for query 1"),
    ],
)
def test_unreadable_qrels(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_qrels(write(tmp_path / "qrels", text))
