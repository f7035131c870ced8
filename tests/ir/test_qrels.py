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
        ("1 0 a 1_0\n", "line 1: the relevance '1_0'"),
        ("1 0 a 1000000\n", "line 1: the relevance '1000000' is not an integer of at most 6 digits"),
        ("1 5 a b 1\n", "line 1: 5 columns, expected 4: qid"),
        ("query-id\tcorpus-id\tscore\n1 0 a 1\n", "line 2: 4 columns, expected 3: query-id"),
        ("query-id\tcorpus-id\tscore\n", "has no judgments"),
        ("1 0 a 1\n1 0 a 2\n", "line 2: document a is judged twice for query 1"),
    ],
)
def test_unreadable_qrels(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_qrels(write(tmp_path / "qrels", text))


def test_beir_qrels_have_a_header_and_three_columns(tmp_path: Path) -> None:
    text = "\ufeffquery-id\tcorpus-id\tscore\r\n1\ta\t2\r\n1\tb c\t0\r\n"
    assert read_qrels(write(tmp_path / "test.tsv", text)) == {"1": {"a": 2, "b c": 0}}


@pytest.mark.parametrize("text", ["1\t0\ta  b\t2\n", "1 0 a  b 2\n", "\ufeff1 Q0 a  b 2\r\n"])
def test_docids_with_blanks(tmp_path: Path, text: str) -> None:
    assert read_qrels(write(tmp_path / "qrels", text)) == {"1": {"a  b": 2}}


def test_qrels_that_are_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "qrels").write_bytes(b"1 0 caf\xe9 1\n")
    with pytest.raises(UsageError, match="line 1 is not UTF-8"):
        read_qrels(tmp_path / "qrels")
