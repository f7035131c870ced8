"""Each reader of input files: any bytes give a reading or one UsageError, never another exception."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.qrels import read_qrels
from pyserini_reasonrank.ir.runs import read_run
from pyserini_reasonrank.ir.topics import read_topics
from pyserini_reasonrank.ir.validate import validate
from pyserini_reasonrank.records import Request
from pyserini_reasonrank.run.candidates import from_file


def requests(path: Path) -> list[Request]:
    async def collect() -> list[Request]:
        return [request async for request in from_file(path, 10)]

    return asyncio.run(collect())


READERS: dict[str, Callable[[Path], Any]] = {
    "topics.tsv": read_topics,
    "topics.jsonl": read_topics,
    "run.txt": read_run,
    "validated.txt": validate,
    "qrels.txt": read_qrels,
    "candidates.jsonl": requests,
}

WORDS = st.sampled_from(
    [
        "q",
        "Q0",
        "0",
        "1",
        "-1",
        "2.5",
        "1e400",
        "nan",
        "t",
        "a b",
        "query-id",
        "corpus-id",
        "score",
        "\x00",
        "\u00a0",
        "{",
        "[",
    ]
)
SEPARATORS = st.sampled_from([" ", "\t", "\n", "\r\n", "\r", "\u2028", "\ufeff", ""])
COLUMNS = st.lists(st.tuples(WORDS, SEPARATORS), max_size=30).map(lambda parts: "".join(map("".join, parts)).encode())

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


def objects(*keys: str, more: st.SearchStrategy[Any] = VALUES) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(keys), more, max_size=len(keys))


DOCUMENTS = objects(
    "docid", "score", "rank", "text", "content", "qid", "doc", more=VALUES | objects("contents", "title")
)
ROWS = objects(
    "qid", "query", "candidates", "hits", "ranking", "tag", "_id", "title",
    more=VALUES | objects("qid", "text") | st.lists(VALUES | DOCUMENTS, max_size=3),
)  # fmt: skip
JSON_LINES = st.lists(ROWS | VALUES, max_size=4).map(lambda rows: "\n".join(map(json.dumps, rows)).encode())


@pytest.mark.parametrize("name", list(READERS))
@given(content=st.one_of(st.binary(), COLUMNS, JSON_LINES, COLUMNS.map(gzip.compress)))
@example(content=b"[" * 100_000)
@example(content=b'{"qid": "q", "ranking": [{"docid": "d", "rank": 1, "score": 1' + b"0" * 400 + b"}]}")
@example(content=b'{"qid": "q", "query": "x", "candidates": [{"docid": "\\ud800", "text": "x"}]}')
@example(content=b'{"qid": "q", "query": "x", "candidates": [{"docid": 1e5, "text": "x"}]}')
@example(content=b"q Q0 d 9" + b"9" * 5000 + b" 1.0 t")
@example(content=b"q 0 d 9" + b"9" * 5000)
@example(content=b"q Q0 d 1 1e999 t")
@example(content="q Q0 d \u0663 1.0 t".encode())
def test_any_bytes_are_read_or_refused_with_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, name: str, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / f"any-{name}"
    path.write_bytes(content)
    message = refusal(READERS[name], path)
    assert message is None or str(path) in message
    assert message is None or "\n" not in message


def refusal(reader: Callable[[Path], Any], path: Path) -> str | None:
    """The message of the reader's UsageError; None if it reads the file."""
    try:
        reader(path)
    except UsageError as error:
        return str(error)
    return None
