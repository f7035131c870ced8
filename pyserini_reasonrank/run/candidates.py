"""Sources of requests: a search process while it writes its candidates, a candidates file, or a run and a corpus."""

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
from pyserini_reasonrank.ir.file_io import read_lines
from pyserini_reasonrank.ir.runs import read_run
from pyserini_reasonrank.ir.topics import read_topics
from pyserini_reasonrank.records import Candidate, Query, Request

POLL = 0.05  # seconds between reads of a file that is being written
CHUNK = 1 << 22  # bytes per read


class HostFailed(Failure):
    """The process that runs Pyserini failed, and printed the reason. Its exit status is used for this process."""

    def __init__(self, status: int) -> None:
        super().__init__(f"Pyserini failed (exit status {status}); see its message above")
        self.exit_code = status if status > 0 else 1


def parse_request(line: bytes, where: str, number: int, depth: int) -> Request:
    """The request of a candidates line, ``{"qid", "query", "candidates": [{"docid", "score", "text"}]}``.

    The text of a document may have any name that is allowed in a corpus; below ``depth`` it is optional. UsageError, which
    begins with ``where`` (the file and line), if the line is malformed.
    """
    try:
        row = json.loads(line)
        query = Query(_string(row, "qid"), _string(row, "query"))
        rows: list[dict[str, Any]] = row["candidates"]
        candidates = tuple(
            Candidate(_string(c, "docid"), _score(c, -i), _text(c, i < depth, f"{where}, query {query.qid}"))
            for i, c in enumerate(rows)
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{where}: expected qid, query, candidates as JSON ({error!r})") from None
    if len({c.docid for c in candidates}) < len(candidates):
        raise UsageError(f"{where}: query {query.qid} lists a document twice")
    return Request(query, candidates, number)


def _string(row: Mapping[str, Any], key: str) -> str:
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
    """Yield the requests of a candidates file, plain or gzipped. UsageError if it is missing or empty."""
    for number, (where, line) in enumerate(read_lines(path)):
        yield parse_request(line, where, number, depth)


@asynccontextmanager
async def child(module: str, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run ``python -m module`` concurrently. The process is terminated at the end of the block if it still runs."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", module, *arguments)
    try:
        yield process
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.terminate()
            await process.wait()


async def follow(path: Path, process: asyncio.subprocess.Process, depth: int) -> AsyncIterator[Request]:
    """Yield the requests of a candidates file that ``process`` writes, each as soon as its line is complete.

    HostFailed if the exit status of the process is not 0.
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
    """Yield a request for every topic, from a run and a corpus. UsageError for unknown qids or docids in the run."""
    queries, hits = read_topics(topics), read_run(run)
    if unknown := hits.keys() - {q.qid for q in queries}:
        raise UsageError(f"{run} has query {min(unknown)}, which is not in the topics {topics}")
    texts = corpus_texts(corpus, {hit.docid for found in hits.values() for hit in found[:depth]})
    for number, query in enumerate(queries):
        found = hits.get(query.qid, [])
        # candidates below the depth need no text
        yield Request(query, tuple(Candidate(h.docid, h.score, texts.get(h.docid, "")) for h in found), number)


async def stream(requests: Sequence[Request] | Iterator[Request]) -> AsyncIterator[Request]:
    """``requests`` as an asynchronous iterator."""
    for request in requests:
        yield request
