"""Run files: their formats (TREC, MS MARCO, JSON lines), one reader for all of them, and trec_eval's order."""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Iterable
from ctypes import c_float
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.candidate_rows import candidate_row
from pyserini_reasonrank.ir.file_io import decoded, identifier, parse_json, read_lines, tabbed
from pyserini_reasonrank.ir.qrels import BEIR_HEADER

log = logging.getLogger(__name__)


class RunFormat(StrEnum):
    """Run formats: Pyserini's, named as in its ``--output-format``, and two of JSON lines, with one query per line.

    JSON lines can represent any qid and docid, also those with white space. Castorini's requests (Anserini, RankLLM) have
    the query and the documents too.
    """

    TREC = "trec"
    MSMARCO = "msmarco"
    JSONL = "jsonl"
    CASTORINI = "castorini"

    @property
    def has_columns(self) -> bool:
        """Whether white space separates the columns of a line, so that no name may contain it."""
        return self in (RunFormat.TREC, RunFormat.MSMARCO)


FIRST_RUN = ".first-stage.txt"
"""The suffix of the first-stage run, which a search writes beside the reranked run."""


class Hit(NamedTuple):
    """A document of a run, and its score there."""

    docid: str
    score: float


Run = dict[str, list[Hit]]
"""The hits of each qid, best first. The qids have the order of the file."""


class RunLine(NamedTuple):
    """A document of a run, with its query. In formats without scores, ``score`` is 1 / rank, as in Pyserini's tools."""

    qid: str
    docid: str
    rank: int
    score: float
    tag: str


_WIDE = re.compile(rb"\s*(\S+)\s+((?i:Q?0))\s+(\S.*?)\s+(\S+)\s+(\S+)\s+(\S+)\s*")
"""A TREC line with white space in its docid: the columns are counted from both ends."""

_OBJECT = re.compile(rb'\s*\{\s*(["}]|\Z)')
_TREC = re.compile(rb"\s*\S+\s+Q0\s")
"""The beginnings of a JSON object, and of a TREC line, whose qid may begin as an object does."""

_PLAIN = re.compile(r"(\S+) Q0 (\S+) ([0-9]{1,18}) ([+-]?[0-9]+(?:\.[0-9]*)?) (\S+)", re.ASCII)
"""A TREC line as most programs write it. By this pattern, a line is read in half of the time."""

_QRELS = "; the file looks like qrels: is another one meant?"
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def parse_lines(line: bytes, where: str) -> list[RunLine]:
    """Read one line of a run in any format. A JSON line has the ranking of a query, any other line one document.

    Only ASCII white space separates columns, as in trec_eval; other Unicode spaces belong to the docid. A docid may contain
    white space if tabs separate the columns, or if the second of more than six columns is Q0 or 0. UsageError, which begins
    with ``where`` (the file and line), if it is not a line of a run.
    """
    if line.isascii() and (plain := _PLAIN.fullmatch(line.decode())):
        qid, docid, rank, score, tag = plain.groups()
        if math.isfinite(number := float(score)):
            return [RunLine(qid, docid, int(rank), number, tag)]
    if is_json(line):
        return _parse_json(line, where)
    columns = [str(column, "ascii") if line.isascii() else decoded(column, where) for column in _columns(line)]
    match columns:
        case [qid, _, docid, rank, score, tag] if _INTEGER.fullmatch(rank) and _NUMBER.fullmatch(score):
            if math.isfinite(float(score)):
                return [RunLine(qid, docid, int(rank), float(score), tag)]
        case [qid, docid, rank] if _INTEGER.fullmatch(rank) and int(rank) > 0:
            return [RunLine(qid, docid, int(rank), 1 / int(rank), "")]
    raise UsageError(f"{where}: {_fault(columns)}")


def is_json(line: bytes) -> bool:
    """Whether a line of a run is JSON, which has the ranking of a query."""
    return b"{" in line and _OBJECT.match(line) is not None and _TREC.match(line) is None


def line_qid(line: bytes, where: str) -> str:
    """The qid of a line of a run in any format; a line of JSON may have no documents. UsageError as for ``parse_lines``."""
    parsed = parse_lines(line, where)
    return parsed[0].qid if parsed else candidate_row({"candidates": [], **parse_json(line)}).qid


def _columns(line: bytes) -> list[bytes]:
    """The columns of a line. The docid, third of six or second of three, may contain white space."""
    if b"\t" in line and (columns := tabbed(line, {6: 2, 3: 1})) is not None:
        return columns
    columns = line.split()
    if len(columns) > 6 and (found := _WIDE.fullmatch(line)):
        return list(found.groups())
    return columns


def _parse_json(line: bytes, where: str) -> list[RunLine]:
    """A ranking as RunWriter writes it; or a line of a candidates file, whose candidates are in ranked order."""
    try:
        row: dict[str, Any] = parse_json(line)
        if "ranking" not in row:
            found = candidate_row(row)
            return [
                RunLine(found.qid, document.docid, rank, 1 / rank, str(row.get("tag", "")))
                for rank, document in enumerate(found.documents, 1)
            ]
        qid, tag = identifier(row["qid"], "qid"), str(row.get("tag", ""))
        ranking = row["ranking"]
        lines = [
            RunLine(qid, identifier(hit["docid"], "docid"), int(hit["rank"]), float(hit["score"]), tag)
            for hit in ranking
        ]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise UsageError(f"{where}: expected qid and ranking (of docid, rank, score) as JSON ({error!r})") from None
    if bad := [line.docid for line in lines if not math.isfinite(line.score)]:
        raise UsageError(f"{where}: the score of {bad[0]} is not a finite number")
    return lines


def _fault(columns: list[str]) -> str:
    """Why these columns are not those of a run."""
    match columns:
        case [_, _, _] if [column.lower() for column in columns] == BEIR_HEADER:
            return f"the header of BEIR's relevance judgments{_QRELS}"
        case [_, _, rank] | [_, _, _, rank, _, _] if not _INTEGER.fullmatch(rank):
            return f"the rank {rank!r} is not an integer"
        case [_, _, _, _, score, _]:
            return f"the score {score!r} is not a finite number"
        case [_, _, rank]:
            return f"the rank is {rank}; in an MS MARCO run ranks begin at 1"
        case [_, _, _, relevance] if _INTEGER.fullmatch(relevance):
            return f"4 columns, expected 6 (TREC) or 3 (MS MARCO){_QRELS}"
    return f"{len(columns)} columns, expected 6 (TREC) or 3 (MS MARCO)"


def read_run(path: str | os.PathLike[str], *, keep_first: bool = False) -> Run:
    """Read a run in TREC, MS MARCO or JSON lines format, or a candidates file; plain or gzipped.

    Hits are sorted by falling score. Ties are broken by the rank column, then by the order of the file, which is the
    order that the searcher returned; trec_eval breaks ties by docid instead (see ``trec_eval_order``). With ``keep_first``,
    a document that a query lists again is dropped at the lower place. UsageError, with file and line, for a missing or
    empty file, a wrong number of columns, and a rank or score that is not a number; UsageError, with file and query, for a
    repeated document without ``keep_first``.
    """
    lines: dict[str, list[RunLine]] = {}
    places: dict[str, str] = {}  # of the qids that have a line of JSON, which holds a whole ranking
    for where, text in read_lines(Path(path)):
        parsed = parse_lines(text, where)
        if is_json(text):
            for qid in {line.qid for line in parsed}:
                if (first := places.setdefault(qid, where)) != where:
                    raise UsageError(
                        f"{where} repeats query {qid} of {first.rpartition(', ')[2]}; a query has one line"
                    )
        for line in parsed:
            lines.setdefault(line.qid, []).append(line)
    run: Run = {}
    again: dict[str, list[str]] = {}
    for qid, found in lines.items():
        if duplicates := repeated(line.docid for line in found):
            if not keep_first:
                raise UsageError(f"{path}: query {qid} lists document {duplicates[0]} twice; {KEEP_FIRST}")
            again[qid] = duplicates
        found.sort(key=lambda line: (-line.score, line.rank))
        run[qid] = [Hit(line.docid, line.score) for line in (_better(found) if duplicates else found)]
    if again:
        qid, duplicates = next(iter(again.items()))
        log.warning(REPEATED, path, sum(map(len, again.values())), qid, duplicates[0])
    return run


def _better(lines: Iterable[RunLine]) -> list[RunLine]:
    """``lines``, best first, without a document's further ones."""
    best: dict[str, RunLine] = {}
    for line in lines:
        best.setdefault(line.docid, line)
    return list(best.values())


DUPLICATES = ("refuse", "keep-first")
"""What the flag ``--duplicates`` accepts for documents that a query lists twice."""

KEEP_FIRST_CHOICE = DUPLICATES[1]

REPEATED = "%s: %d documents are listed again for their query (first: query %s, document %s); the better place is kept"
"""The warning about documents that a query lists twice."""

KEEP_FIRST = "a run lists a document once per query (--duplicates keep-first keeps the better place)"
"""What error messages say about a document that a query lists twice."""


def trec_eval_order(hits: Iterable[Hit]) -> list[str]:
    """The docids in trec_eval's order: by falling score in single precision, ties by falling docid."""
    return [hit.docid for hit in sorted(hits, key=lambda hit: (single(hit.score), hit.docid), reverse=True)]


def single(score: float) -> float:
    """The score in single precision, as trec_eval stores it: smaller differences are ties there."""
    return c_float(score).value


def repeated(items: Iterable[str]) -> list[str]:
    """The items that occur more than once, in the order of their second occurrence."""
    seen: set[str] = set()
    again = []
    for item in items:
        if item in seen:
            again.append(item)
        seen.add(item)
    return again
