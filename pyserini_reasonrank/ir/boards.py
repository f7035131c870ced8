"""What leaderboards and evaluation campaigns require of a run, beyond the rules for every run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pyserini_reasonrank.errors import UsageError, nearest
from pyserini_reasonrank.ir.runs import RunFormat, RunLine


class Finding(NamedTuple):
    """What is wrong: the place (file and line; the file alone for what is missing), the broken rule, and a sentence."""

    where: str
    rule: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message} [{self.rule}]"


class PlacedLine(NamedTuple):
    """A line of a run with its place."""

    where: str
    line: RunLine


@dataclass(frozen=True, slots=True)
class Board:
    """The requirements of a board: one format, documents per query, and patterns of qids and of the tag, if any."""

    about: str
    run_format: RunFormat | None
    depth: int
    qid: str | None = None
    tag: str | None = None

    def findings(self, formats: Sequence[tuple[str, RunFormat]], lines: Sequence[PlacedLine]) -> Iterator[Finding]:
        """The findings about the lines of one query, and about the ``formats`` of its lines in the file."""
        for where, found in formats:
            if self.run_format is not None and found != self.run_format:
                yield Finding(
                    where, "board-format", f"the line is in {_FORMATS[found]}, expected {_FORMATS[self.run_format]}"
                )
                break
        if len(lines) > self.depth:
            where, line = lines[self.depth]
            yield Finding(where, "board-depth", f"query {line.qid}: {len(lines):,} documents, at most {self.depth:,}")
        where, line = lines[0]
        if self.qid and not re.fullmatch(self.qid, line.qid):
            yield Finding(where, "board-qid", f"the qid {line.qid!r} is not an integer")
        if self.tag and self.run_format is not None and not re.fullmatch(self.tag, line.tag):
            yield Finding(
                where,
                "board-tag",
                f"the tag {line.tag!r} must have 1 to 20 letters, digits, '.', '_' or '-'; set --rerank.tag",
            )


_FORMATS = {
    RunFormat.TREC: "TREC format (6 columns)",
    RunFormat.MSMARCO: "MS MARCO format (qid, docid, rank)",
    RunFormat.JSONL: "JSON lines",
}

BOARDS = {
    "trec": Board("TREC: 6 columns, 1,000 documents a topic, tag of 1 to 20 characters", RunFormat.TREC, 1000,
                  tag=r"[A-Za-z0-9._-]{1,20}"),
    "msmarco": Board("MS MARCO: 3 columns, 1,000 documents a query, qids that are integers", RunFormat.MSMARCO, 1000,
                     qid=r"[0-9]+"),
    "bright": Board("BRIGHT: any format, 1,000 documents a query; its scorer breaks ties by docid", None, 1000),
}  # fmt: skip
"""The profiles by name, ``validate --board``."""


def board(name: str) -> Board:
    """The profile called ``name``. UsageError if there is none."""
    if name not in BOARDS:
        raise UsageError(f"--board {name} is not known{nearest(name, BOARDS)}")
    return BOARDS[name]
