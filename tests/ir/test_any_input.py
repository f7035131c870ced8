"""Each reader of input files: any bytes give a reading or one UsageError; what is well-formed is read as it was written."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import fuzz_examples
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.corpus import read_documents
from pyserini_reasonrank.ir.documents import Document, read_document
from pyserini_reasonrank.ir.exclusions import read_exclusions
from pyserini_reasonrank.ir.qrels import read_qrels
from pyserini_reasonrank.ir.run_writer import RunWriter
from pyserini_reasonrank.ir.runs import RunFormat, read_run
from pyserini_reasonrank.ir.selection import parse_qids
from pyserini_reasonrank.ir.topics import read_topics
from pyserini_reasonrank.ir.validate import validate
from pyserini_reasonrank.records import Candidate, Query, Request
from pyserini_reasonrank.run.candidates import from_file

SHARE = 3
"""Percent of all generated inputs for each reader."""

pytestmark = pytest.mark.fuzz


def requests(path: Path) -> list[Request]:
    async def collect() -> list[Request]:
        return [request async for request in from_file(path, 10)]

    return asyncio.run(collect())


READERS: dict[str, Callable[[Path], Any]] = {
    "corpus.jsonl": lambda path: list(read_documents(path)),
    "excluded.tsv": read_exclusions,
    "qids.txt": lambda path: parse_qids(str(path)),
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
    "qid", "query", "candidates", "hits", "ranking", "tag", "_id", "title", "id", "docid", "contents", "excluded_ids",
    more=VALUES | objects("qid", "text") | st.lists(VALUES | DOCUMENTS, max_size=3),
)  # fmt: skip
JSON_LINES = st.lists(ROWS | VALUES, max_size=4).map(lambda rows: "\n".join(map(json.dumps, rows)).encode())


@pytest.mark.parametrize("name", list(READERS))
@settings(max_examples=fuzz_examples(SHARE))
@given(content=st.one_of(st.binary(), COLUMNS, JSON_LINES, COLUMNS.map(gzip.compress)))
@example(content=b"[" * 100_000)
@example(content=b'{"id": "d", "contents": ' + b"[" * 100_000)
@example(content=b'{"id": {"oid": 1}, "contents": "x"}')
@example(content=b'{"id": "d", "contents": "\\ud800"}')
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


# --- what is well-formed is read as it was written

BLANKS = " \t\r\n\f\v\x1c\x1d\x1e\x1f\x85\u2028\u2029"
NAMES = st.text(st.characters(codec="utf-8", exclude_characters=BLANKS), min_size=1, max_size=8).filter(
    lambda name: (
        name == name.strip() and name[0] not in "{\ufeff"
    )  # the beginnings of JSON and of a file with a byte order mark
)
DOCIDS = st.lists(NAMES, min_size=1, max_size=3).map(" ".join)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
JUDGMENTS = st.dictionaries(
    NAMES, st.dictionaries(DOCIDS, st.integers(-9, 9), min_size=1, max_size=4), min_size=1, max_size=3
)
RANKINGS = st.dictionaries(NAMES, st.lists(DOCIDS, min_size=1, max_size=5, unique=True), min_size=1, max_size=4)


def wrapped(data: bytes, *, mark: bool, crlf: bool, zipped: bool) -> bytes:
    """A file of lines as other programs write it: with a byte order mark, CRLF, or gzipped."""
    data = data.replace(b"\n", b"\r\n") if crlf else data
    data = b"\xef\xbb\xbf" + data if mark else data
    return gzip.compress(data) if zipped else data


WRAPS = st.builds(lambda mark, crlf, zipped: {"mark": mark, "crlf": crlf, "zipped": zipped}, *[st.booleans()] * 3)


@settings(max_examples=fuzz_examples(2))
@given(rankings=RANKINGS, wrap=WRAPS, form=st.sampled_from(["spaces", "tabs", "msmarco"]))
def test_runs_are_read_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, rankings: dict[str, list[str]], wrap: dict[str, bool], form: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "well-formed-run"
    lines = [
        (qid, "Q0", docid, rank, 1 / rank, "tag")
        for qid, docids in rankings.items()
        for rank, docid in enumerate(docids, 1)
    ]
    if form == "msmarco":
        rows = [f"{qid}\t{docid}\t{rank}\n" for qid, _, docid, rank, *_ in lines]
    else:
        rows = [(" " if form == "spaces" else "\t").join(map(str, line)) + "\n" for line in lines]
    path.write_bytes(wrapped("".join(rows).encode(), **wrap))
    assert {qid: [hit.docid for hit in hits] for qid, hits in read_run(path).items()} == rankings


@settings(max_examples=fuzz_examples(2))
@given(
    topics=st.dictionaries(NAMES, TEXTS.filter(str.strip), min_size=1, max_size=4), wrap=WRAPS, json_lines=st.booleans()
)
def test_topics_are_read_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, topics: dict[str, str], wrap: dict[str, bool], json_lines: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / f"well-formed-topics.{'jsonl' if json_lines else 'tsv'}"
    if json_lines:
        rows = [json.dumps({"qid": qid, "query": text}, ensure_ascii=False) for qid, text in topics.items()]
    else:
        topics = {qid: " ".join(text.splitlines()) for qid, text in topics.items()}
        rows = [f"{qid}\t{text}" for qid, text in topics.items()]
    path.write_bytes(wrapped("".join(f"{row}\n" for row in rows).encode(), **wrap))
    assert {query.qid: query.text for query in read_topics(path)} == {qid: text.strip() for qid, text in topics.items()}


@settings(max_examples=fuzz_examples(2))
@given(judged=JUDGMENTS, wrap=WRAPS, form=st.sampled_from(["spaces", "tabs", "beir"]))
def test_qrels_are_read_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, judged: dict[str, dict[str, int]], wrap: dict[str, bool], form: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "well-formed-qrels"
    lines = [(qid, docid, grade) for qid, found in judged.items() for docid, grade in found.items()]
    rows = [f"{qid}\t{docid}\t{grade}\n" for qid, docid, grade in lines]
    rows = ["query-id\tcorpus-id\tscore\n", *rows]
    if form != "beir":
        separator = " " if form == "spaces" else "\t"
        rows = [separator.join((qid, "0", docid, f"{grade}\n")) for qid, docid, grade in lines]
    path.write_bytes(wrapped("".join(rows).encode(), **wrap))
    assert read_qrels(path) == judged


@settings(max_examples=fuzz_examples(2))
@given(
    rankings=RANKINGS, text=TEXTS.filter(str.strip), title=TEXTS, output_format=st.sampled_from(["jsonl", "castorini"])
)
def test_what_a_run_writer_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rankings: dict[str, list[str]], text: str, title: str, output_format: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "written-run.jsonl"
    fields = {"title": title, "text": text} if title else {}
    asked = read_document(fields or {"text": text}) or Document(text)
    candidates = {
        qid: [Candidate(docid, 0.0, asked.text, asked.fields) for docid in found] for qid, found in rankings.items()
    }
    with RunWriter(path, tag="t", output_format=RunFormat(output_format)) as writer:
        for qid, found in candidates.items():
            writer.write_ranked(Query(qid, text), found)
        writer.commit(candidates)
    assert {qid: [hit.docid for hit in hits] for qid, hits in read_run(path).items()} == rankings
    if output_format == "castorini":
        read = {r.query.qid: [(c.docid, c.text, dict(c.fields)) for c in r.candidates] for r in requests(path)}
        assert read == {qid: [(c.docid, c.text, dict(c.fields)) for c in found] for qid, found in candidates.items()}
