"""Sources of requests: a search process while it writes its candidates, a candidates file, or a run and a corpus."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from pyserini_reasonrank.errors import Failure, UsageError
from pyserini_reasonrank.ir.candidate_rows import EXCLUDED, FORMS, CandidateRow, DocumentRow, candidate_row, read_rows
from pyserini_reasonrank.ir.corpus import corpus_documents
from pyserini_reasonrank.ir.documents import Document, read_document
from pyserini_reasonrank.ir.file_io import parse_json
from pyserini_reasonrank.ir.runs import KEEP_FIRST, REPEATED, read_run, repeated
from pyserini_reasonrank.ir.selection import EVERYTHING, Selection, check_known
from pyserini_reasonrank.ir.topics import read_topics
from pyserini_reasonrank.records import Candidate, Query, Request

log = logging.getLogger(__name__)

POLL = 0.05  # seconds between reads of a file that is being written
_STDERR = 2  # a file descriptor
CHUNK = 1 << 22  # bytes per read


class HostFailed(Failure):
    """The process that runs Pyserini failed, and printed the reason. Its exit status is used for this process."""

    def __init__(self, status: int) -> None:
        super().__init__(f"Pyserini failed (exit status {status}); see its message above")
        self.exit_code = status if status > 0 else 1


def parse_request(line: bytes, where: str, number: int, depth: int) -> Request:
    """The request of a line of a candidates file. UsageError, which begins with ``where``, if the line is malformed."""
    try:
        row = parse_json(line)
    except ValueError as error:
        raise UsageError(f"{where}: expected qid, query, candidates as JSON, {FORMS} ({error})") from None
    request = to_request(row, where, number, depth)
    excluded = row.get(EXCLUDED)
    return replace(request, excluded=excluded) if isinstance(excluded, int) else request


def to_request(
    row: Any, where: str, number: int, depth: int, *, keep_first: bool = False, selection: Selection = EVERYTHING
) -> Request:
    """The request of a row of a candidates file, in any form that ``ir.candidate_rows`` reads.

    The text of a document may have any name that is allowed in a corpus; below ``depth``, counted without the documents
    that ``selection`` excludes, it is optional. With ``keep_first``, a repeated document is dropped at the lower place.
    UsageError, which begins with ``where`` (the file and line), if the row is malformed, if only some of its documents have a
    score, or if it repeats a document without ``keep_first``.
    """
    return _request(_checked_row(row, where), where, number, depth, keep_first, selection)


def _request(
    found: CandidateRow, where: str, number: int, depth: int, keep_first: bool, selection: Selection
) -> Request:
    documents = found.documents
    if twice := repeated(document.docid for document in documents):
        if not keep_first:
            raise UsageError(f"{where}: query {found.qid} lists document {twice[0]} twice; {KEEP_FIRST}")
        log.warning(REPEATED, where, len(twice), found.qid, twice[0])
        best: dict[str, DocumentRow] = {}
        for document in documents:
            best.setdefault(document.docid, document)
        documents = list(best.values())
    place = f"{where}, query {found.qid}"
    without = [document.docid for document in documents if document.score is None]
    if without and len(without) < len(documents):
        raise UsageError(f"{where}: document {without[0]!r} has no score, but other documents of the query have one")
    remaining = selection.remaining(found.qid, documents)
    candidates = tuple(
        _candidate(document, -float(i), needed=i < depth, where=place) for i, document in enumerate(remaining)
    )
    query = selection.reworded(Query(found.qid, found.query))
    return Request(query, candidates, number, len(documents) - len(remaining))


def _checked_row(row: Any, where: str) -> CandidateRow:
    try:
        found = candidate_row(row)
        if not found.query.strip():
            raise ValueError("the query is empty or missing")
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise UsageError(f"{where}: expected qid, query, candidates as JSON, {FORMS} ({error!r})") from None
    return found


def _candidate(row: DocumentRow, default: float, *, needed: bool, where: str) -> Candidate:
    document = read_document(row.fields)
    if document is None and needed:
        raise UsageError(f"{where}: document {row.docid} has no text")
    document = document or Document("")
    return Candidate(row.docid, default if row.score is None else row.score, document.text, document.fields)


async def from_file(
    path: Path, depth: int, *, keep_first: bool = False, selection: Selection = EVERYTHING
) -> AsyncIterator[Request]:
    """Yield the requests of a candidates file, plain or gzipped.

    UsageError if it is missing or empty, if a row is malformed or repeats a query, or for a fault of ``selection``.
    """
    qids = read_qids(path) if selection.partial or selection.texts is not None else None
    chosen = None if qids is None else set(selection.chosen(qids, str(path)))
    places: dict[str, str] = {}
    for number, (where, row) in enumerate(read_rows(path)):
        found = _checked_row(row, where)
        if (first := places.setdefault(found.qid, where)) != where:
            raise UsageError(f"{where}: query {found.qid} occurs twice; {first.rpartition(', ')[2]} has it too")
        if chosen is None or found.qid in chosen:
            yield _request(found, where, number, depth, keep_first, selection)


def read_qids(path: Path) -> list[str]:
    """The qids of a candidates file, in its order. UsageError if it is missing, empty or malformed."""
    return [_checked_row(row, where).qid for where, row in read_rows(path)]


@asynccontextmanager
async def child(module: str, *arguments: str, folder: str | None = None) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run ``python -m module`` concurrently. The process is terminated at the end of the block if it still runs.

    Its temporary files are in ``folder``. It writes to stderr only, and signals of the terminal reach this process alone,
    which then ends it.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments,
        stdout=_STDERR, process_group=0, env=os.environ | ({"TMPDIR": folder} if folder else {}),
    )  # fmt: skip
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


def read_requests(
    run: Path, topics: Path, corpus: Path, depth: int, *, keep_first: bool = False, selection: Selection = EVERYTHING
) -> Iterator[Request]:
    """Yield a request for every topic, or for those of ``selection``, from a run and a corpus.

    UsageError for unknown qids or docids in the run, and for a fault of ``selection``.
    """
    queries, hits = read_topics(topics), read_run(run, keep_first=keep_first)
    check_known(hits, {q.qid for q in queries}, selection, str(run), str(topics))
    chosen = set(selection.chosen([query.qid for query in queries], str(topics)))
    listed = {qid: len(found) for qid, found in hits.items()}
    hits = {qid: selection.remaining(qid, found) for qid, found in hits.items() if qid in chosen}
    documents = corpus_documents(corpus, {hit.docid for found in hits.values() for hit in found[:depth]})
    for number, query in enumerate(queries):
        if query.qid in chosen:
            found = hits.get(query.qid, [])
            pairs = [(hit, documents.get(hit.docid, Document(""))) for hit in found]  # below the depth without a text
            candidates = tuple(Candidate(h.docid, h.score, d.text, d.fields) for h, d in pairs)
            yield Request(selection.reworded(query), candidates, number, listed.get(query.qid, 0) - len(candidates))


async def stream(requests: Sequence[Request] | Iterator[Request]) -> AsyncIterator[Request]:
    """``requests`` as an asynchronous iterator."""
    for request in requests:
        yield request


async def with_first_read(requests: AsyncIterator[Request]) -> AsyncIterator[Request]:
    """``requests``, after the first of them was read: a file that is missing or of another form fails here."""
    first = []
    with suppress(StopAsyncIteration):
        first.append(await anext(requests))

    async def whole() -> AsyncIterator[Request]:
        for request in first:
            yield request
        async for request in requests:
            yield request

    return whole()
