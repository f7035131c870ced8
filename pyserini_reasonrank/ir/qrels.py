"""Relevance judgments (qrels) from files in TREC format, and in BEIR's."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.file_io import decoded, read_lines, tabbed

Qrels = dict[str, dict[str, int]]
"""The relevance of each judged docid, by qid."""

BEIR_HEADER = ["query-id", "corpus-id", "score"]
"""The first line of BEIR's qrels, which have three columns, separated by tabs."""

_WIDE = re.compile(rb"\s*(\S+)\s+((?i:Q?0))\s+(\S.*?)\s+([+-]?\d+)\s*")
"""A line with white space in its docid: the columns are counted from both ends."""


def read_qrels(path: str | os.PathLike[str]) -> Qrels:
    """Read qrels, plain or gzipped, in TREC format: qid, iteration, docid and relevance, separated by spaces or tabs.

    A docid may contain white space if tabs separate the columns or if the iteration is 0 or Q0. A file whose first line is
    BEIR's header has the columns qid, docid and relevance. UsageError, with file and line, for a missing or empty file,
    another number of columns, a relevance that is not an integer of at most 6 digits, text that is not UTF-8, and a document
    that is judged twice with different relevance.
    """
    qrels: Qrels = {}
    for where, qid, docid, relevance in judgment_lines(path):
        if not re.fullmatch(r"[+-]?[0-9]{1,6}", relevance):  # trec_eval counts the documents of each grade from 0 on
            raise UsageError(f"{where}: the relevance {relevance!r} is not an integer of at most 6 digits")
        grade = int(relevance)
        if qrels.setdefault(qid, {}).setdefault(docid, grade) != grade:
            raise UsageError(f"{where}: document {docid} is judged twice for query {qid}, with different relevance")
    if not qrels:
        raise UsageError(f"{path} has no judgments")
    return qrels


def judgment_lines(path: str | os.PathLike[str]) -> Iterator[tuple[str, str, str, str]]:
    """Yield the place, qid, docid and relevance of each line of qrels, in TREC's or BEIR's format.

    UsageError as for ``read_qrels``, except about the relevance.
    """
    beir = False
    for number, (where, line) in enumerate(read_lines(Path(path))):
        columns = [decoded(column, where) for column in _columns(line, 3 if beir else 4)]
        if not number and [column.lower() for column in columns] == BEIR_HEADER:
            beir = True
            continue
        if len(columns) != (3 if beir else 4):
            expected = "3: query-id, corpus-id, score" if beir else "4: qid, iteration, docid, relevance"
            a_run = "; the file looks like a run: is another one meant?" if len(columns) == 6 else ""
            raise UsageError(f"{where}: {len(columns)} columns, expected {expected}{a_run}")
        yield where, columns[0], columns[-2], columns[-1]


def _columns(line: bytes, expected: int) -> list[bytes]:
    columns = line.split()
    if len(columns) > expected:
        if (between := tabbed(line, {expected: expected - 2})) is not None:
            return between
        if expected == 4 and (found := _WIDE.fullmatch(line)):
            return list(found.groups())
    return columns
