"""Exclusion lists in their forms, and the part of an input that is reranked."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.exclusions import read_exclusions
from pyserini_reasonrank.ir.runs import Hit
from pyserini_reasonrank.ir.selection import Selection, parse_qids, parse_shard

EXPECTED = {"q1": {"a", "b/c d.txt"}, "2": {"x"}}


@pytest.mark.parametrize(
    "text",
    [
        "q1\ta\nq1\tb/c d.txt\n2\tx\n",
        "q1 a\nq1\tb/c d.txt\n2 x\n",
        "q1 0 a 1\nq1 0 b/c d.txt 0\n2 Q0 x -100\n",
        "q1\t0\ta\t1\nq1\t0\tb/c d.txt\t1\n2\t0\tx\t1\n",
        "query-id\tcorpus-id\tscore\nq1\ta\t1\nq1\tb/c d.txt\t1\n2\tx\t1\n",
        '{"qid": "q1", "docid": "a"}\n{"qid": "q1", "docid": "b/c d.txt"}\n{"qid": 2, "docid": "x"}\n',
        '{"id": "q1", "query": "...", "excluded_ids": ["a", "b/c d.txt"]}\n{"id": "2", "excluded_ids": ["x"]}\n'
        '{"id": "3", "excluded_ids": ["N/A"]}\n',
        '[{"id": "q1", "excluded_ids": ["a", "b/c d.txt"]},\n {"id": 2, "excluded_ids": ["x"]}]',
    ],
)
@pytest.mark.parametrize("wrap", [str.encode, lambda text: gzip.compress(b"\xef\xbb\xbf" + text.encode())])
def test_the_forms_of_an_exclusion_list(text: str, wrap: object, tmp_path: Path) -> None:
    path = tmp_path / "excluded"
    assert callable(wrap)
    path.write_bytes(wrap(text.replace("\n", "\r\n")))
    assert read_exclusions(path) == EXPECTED


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("q1\n", "line 1: 1 column, expected qid and docid"),
        ("q1 a\nq1 b c\n", "line 2: 3 columns, expected 2: qid and docid; separate them by a tab"),
        ("q1 0 a\n", "line 1: 3 columns, expected 4"),
        ('{"qid": "q1"}\n', "line 1: expected"),
        ('{"qid": "q1", "docid": "a"}\n{"id": null, "excluded_ids": []}\n', "line 2: expected"),
        ('{"id": "q1", "excluded_ids": "a"}\n', "excluded_ids is not a list"),
        ('{"id": "q1", "excluded_ids": [["a"]]}\n', "line 1: expected"),
        ("[1]", "request 1: expected"),
        ("q1\t\xff\n", "line 1 is not UTF-8 text"),
    ],
)
def test_a_malformed_exclusion_list_is_refused_with_its_line(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "excluded.tsv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError) as error:
        read_exclusions(path)
    assert says in str(error.value)
    assert str(path) in str(error.value)


def test_the_parts_of_all_shards_are_all_queries_once() -> None:
    qids = [f"q{i}" for i in range(10)]
    for n in (1, 3, 10):
        parts = [Selection(shard=(k, n)).chosen(qids, "topics") for k in range(1, n + 1)]
        assert sorted(qid for part in parts for qid in part) == sorted(qids)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert Selection(frozenset({"q4", "q2", "q9"}), (2, 2)).chosen(qids, "topics") == ["q4"]
    with pytest.raises(UsageError, match=r"--shard 11/11 is empty: topics has 10 queries"):
        Selection(shard=(11, 11)).chosen(qids, "topics")


def test_the_queries_of_a_file(tmp_path: Path) -> None:
    files = {"list.txt": "\ufeffq1\r\nq 2\r\n", "topics.tsv": "q1\tone\nq 2\ttwo\n"}
    files["topics.jsonl"] = "".join(json.dumps({"qid": qid, "query": "x"}) + "\n" for qid in ("q1", "q 2"))
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        assert parse_qids(str(tmp_path / name)) == {"q1", "q 2"}
    assert parse_qids(" q1, q 2,") == {"q1", "q 2"}
    with pytest.raises(UsageError, match="names no query"):
        parse_qids(" , ")


@pytest.mark.parametrize("text", ["0/8", "9/8", "1", "1/0", "a/b", "1/2/3", "-1/2", "1/2 ", ""])
def test_a_shard_is_a_part_of_n(text: str) -> None:
    assert parse_shard("3/8") == (3, 8)
    with pytest.raises(UsageError, match="is not a part K of N parts"):
        parse_shard(text)


def test_a_selected_query_and_a_text_must_exist() -> None:
    with pytest.raises(UsageError, match=r"--qids selects query z, which is not in topics \(1 of 2 are not\)"):
        Selection(frozenset({"a", "z"})).chosen(["a", "b"], "topics")
    texts = Selection(texts={"a": "A"}, texts_from="other.tsv")
    with pytest.raises(UsageError, match=r"^other\.tsv has no query b, which topics has \(1 of 2 are missing\)"):
        texts.chosen(["a", "b"], "topics")
    hits = [Hit("x", 2.0), Hit("y", 1.0)]
    assert Selection(excluded={"a": {"x"}}).remaining("a", hits) == hits[1:]
    assert Selection(excluded={"a": {"x"}}).remaining("b", hits) == hits
