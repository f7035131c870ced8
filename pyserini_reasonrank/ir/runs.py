"""Run files: their formats (TREC, MS MARCO, JSON lines), one reader for all of them, and trec_eval's order."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable
from ctypes import c_float
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.file_io import read_lines


class RunFormat(StrEnum):
    """Run formats: Pyserini's, named as in its ``--output-format``, and JSON lines, with one query per line.

    JSON lines can represent any qid and docid, also those with white space.
    """

    TREC = "trec"
    MSMARCO = "msmarco"
    JSONL = "jsonl"


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


def parse_lines(line: bytes, where: str) -> list[RunLine]:
    """Read one line of a run in any format. A JSON line has the ranking of a query, any other line one document.

    Only ASCII white space separates columns, as in trec_eval; other Unicode spaces belong to the docid. UsageError, which
    begins with ``where`` (the file and line), if it is not a line of a run.
    """
    if line.lstrip().startswith(b'{"'):
        return _parse_json(line, where)
    columns = line.split()
    try:
        match columns:
            case [qid, _, docid, rank, score, tag]:
                parsed = RunLine(qid.decode(), docid.decode(), int(rank), float(score), tag.decode())
                if math.isfinite(parsed.score):
                    return [parsed]
            case [qid, docid, rank] if int(rank) > 0:
                return [RunLine(qid.decode(), docid.decode(), int(rank), 1 / int(rank), "")]
    except UnicodeDecodeError:
        raise UsageError(f"{where} is not UTF-8 text") from None
    except ValueError:
        pass
    raise UsageError(f"{where}: {_fault(columns)}")


def _parse_json(line: bytes, where: str) -> list[RunLine]:
    """A ranking as RunWriter writes it; or a line of a candidates file, whose candidates are in ranked order."""
    try:
        row: dict[str, Any] = json.loads(line)
        qid, tag = str(row["qid"]), str(row.get("tag", ""))
        if "ranking" not in row:
            docids = [str(candidate["docid"]) for candidate in row["candidates"]]
            return [RunLine(qid, docid, rank, 1 / rank, tag) for rank, docid in enumerate(docids, 1)]
        ranking = row["ranking"]
        lines = [RunLine(qid, str(hit["docid"]), int(hit["rank"]), float(hit["score"]), tag) for hit in ranking]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise UsageError(f"{where}: expected qid and ranking (of docid, rank, score) as JSON ({error!r})") from None
    if bad := [line.docid for line in lines if not math.isfinite(line.score)]:
        raise UsageError(f"{where}: the score of {bad[0]} is not a finite number")
    return lines


def _fault(columns: list[bytes]) -> str:
    """Why these columns are not those of a run."""
    texts = [column.decode(errors="replace") for column in columns]
    match texts:
        case [_, _, rank] | [_, _, _, rank, _, _] if not re.fullmatch(r"[+-]?\d+", rank):
            return f"the rank {rank!r} is not an integer"
        case [_, _, _, _, score, _]:
            return f"the score {score!r} is not a finite number"
        case [_, _, rank]:
            return f"the rank is {rank}; in an MS MARCO run ranks begin at 1"
    return f"{len(columns)} columns, expected 6 (TREC) or 3 (MS MARCO); a docid that contains white space is the likely cause"


def read_run(path: str | os.PathLike[str]) -> Run:
    """Read a run in TREC, MS MARCO or JSON lines format, or a candidates file; plain or gzipped.

    Hits are sorted by falling score. Ties are broken by the rank column, then by the order of the file, which is the
    order that the searcher returned; trec_eval breaks ties by docid instead (see ``trec_eval_order``). UsageError, with
    file and line, for a missing or empty file, a wrong number of columns, and a rank or score that is not a number;
    UsageError, with file and query, for a repeated document.
    """
    lines: dict[str, list[RunLine]] = {}
    for where, text in read_lines(Path(path)):
        for line in parse_lines(text, where):
            lines.setdefault(line.qid, []).append(line)
    run: Run = {}
    for qid, found in lines.items():
        if duplicates := repeated(line.docid for line in found):
            raise UsageError(
                f"{path}: query {qid} lists document {duplicates[0]} twice; a run lists a document once per query"
            )
        found.sort(key=lambda line: (-line.score, line.rank))
        run[qid] = [Hit(line.docid, line.score) for line in found]
    return run


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
