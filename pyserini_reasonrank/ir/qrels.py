"""Relevance judgments (qrels) from files in TREC format."""

from __future__ import annotations

import os
from pathlib import Path

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.file_io import read_lines

Qrels = dict[str, dict[str, int]]
"""The relevance of each judged docid, by qid."""


def read_qrels(path: str | os.PathLike[str]) -> Qrels:
    """Read TREC qrels, plain or gzipped: qid, iteration, docid and relevance, separated by spaces or tabs.

    UsageError, with file and line, for a missing or empty file, another number of columns, a relevance that is not an
    integer, and a document that is judged twice with different relevance.
    """
    qrels: Qrels = {}
    for where, line in read_lines(Path(path)):
        columns = [column.decode(errors="replace") for column in line.split()]
        if len(columns) != 4:
            raise UsageError(f"{where}: {len(columns)} columns, expected 4: qid, iteration, docid, relevance")
        qid, _, docid, relevance = columns
        try:
            grade = int(relevance)
        except ValueError:
            raise UsageError(f"{where}: the relevance {relevance!r} is not an integer") from None
        if qrels.setdefault(qid, {}).setdefault(docid, grade) != grade:
            raise UsageError(f"{where}: document {docid} is judged twice for query {qid}, with different relevance")
    return qrels
