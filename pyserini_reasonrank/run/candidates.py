"""The ways candidates come in: from a search process as it writes them, from a file, from a run and a corpus."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from math import isfinite
from pathlib import Path
from typing import Any

from pyserini_reasonrank.errors import Failure, UsageError
from pyserini_reasonrank.ir.corpus import corpus_texts, document_text
from pyserini_reasonrank.ir.files import read_lines
from pyserini_reasonrank.ir.runs import read_run
from pyserini_reasonrank.ir.topics import read_topics
from pyserini_reasonrank.records import Candidate, Query, Request

POLL = 0.05  # seconds between looks at a file that is being written
CHUNK = 1 << 22  # bytes read of it at a time


class HostFailed(Failure):
    """The host said itself what was wrong; its exit status becomes ours."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the search ended with status {status}; what it said is above")
        self.exit_code = status if status > 0 else 1


def parse_request(line: bytes, where: str, number: int, depth: int) -> Request:
    """A candidates line, ``{"qid", "query", "candidates": [{"docid", "score", "text"}]}``.

    Other names for the text of a document are taken too; below ``depth`` a candidate needs none. UsageError beginning
    with ``where``.
    """
    try:
        row = json.loads(line)
        query = Query(_written(row, "qid"), _written(row, "query"))
        rows: list[dict[str, Any]] = row["candidates"]
        candidates = tuple(
            Candidate(_written(c, "docid"), _score(c, -i), _text(c, i < depth, f"{where}, query {query.qid}"))
            for i, c in enumerate(rows)
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{where}: expected qid, query, candidates as JSON ({error!r})") from None
    if len({c.docid for c in candidates}) < len(candidates):
        raise UsageError(f"{where}: query {query.qid} holds a document twice")
    return Request(query, candidates, number)


def _written(row: Mapping[str, Any], key: str) -> str:
    value = row[key]
    if not isinstance(value, str | int | float):
        raise ValueError(f"{key} is {json.dumps(value)}")
    return str(value)


def _score(candidate: Mapping[str, Any], default: float) -> float:
    score = float(candidate.get("score", default))
    if not isfinite(score):
        raise ValueError(f"the score of {candidate['docid']} is {score}")
    return score


def _text(candidate: Mapping[str, Any], needed: bool, where: str) -> str:
    text = document_text(candidate)
    if text is None and needed:
        raise UsageError(f"{where}: document {candidate['docid']} has no text")
    return text or ""


async def from_file(path: Path, depth: int) -> AsyncIterator[Request]:
    """Requests of a candidates file, plain or gzipped, read as they are wanted. UsageError if it is missing or empty."""
    for number, (where, line) in enumerate(read_lines(path)):
        yield parse_request(line, where, number, depth)


@asynccontextmanager
async def child(module: str, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """``python -m module`` beside us; ended with the block if it has not ended by itself."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", module, *arguments)
    try:
        yield process
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.terminate()
            await process.wait()


async def follow(path: Path, process: asyncio.subprocess.Process, depth: int) -> AsyncIterator[Request]:
    """Requests of a candidates file that ``process`` is writing, each as soon as its line is there.

    HostFailed if the process ends with an error, whatever it wrote.
    """
    waiter = asyncio.ensure_future(process.wait())
    number, position, rest = 0, 0, b""
    while True:
        status = process.returncode
        if status:
            raise HostFailed(status)
        data = _read_from(path, position, CHUNK)
        position += len(data)
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield parse_request(line, f"{path.name}, line {number + 1}", number, depth)
            number += 1
        if len(data) == CHUNK:
            continue
        if status is not None:
            return
        await asyncio.wait([waiter], timeout=POLL)


def _read_from(path: Path, position: int, most: int) -> bytes:
    if not path.exists():
        return b""
    with path.open("rb") as file:
        file.seek(position)
        return file.read(most)


def read_requests(run: Path, topics: Path, corpus: Path, depth: int) -> Iterator[Request]:
    """Requests for every topic from a run file and a corpus. UsageError for a run with other topics or unknown docids."""
    queries, hits = read_topics(topics), read_run(run)
    if unknown := hits.keys() - {q.qid for q in queries}:
        raise UsageError(f"{run} ranks for query {min(unknown)}, which {topics} does not hold")
    texts = corpus_texts(corpus, {hit.docid for found in hits.values() for hit in found[:depth]})
    for number, query in enumerate(queries):
        found = hits.get(query.qid, [])
        # below the depth nothing is read, so no text is needed
        yield Request(query, tuple(Candidate(h.docid, h.score, texts.get(h.docid, "")) for h in found), number)


async def stream(requests: Sequence[Request] | Iterator[Request]) -> AsyncIterator[Request]:
    """Requests at hand, as a stream."""
    for request in requests:
        yield request
