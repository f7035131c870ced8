"""The part of an input that is reranked: which of its queries, with which text, and without which documents."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.exclusions import Exclusions
from pyserini_reasonrank.ir.file_io import decoded, read_lines
from pyserini_reasonrank.ir.topics import has_json_lines, read_topics
from pyserini_reasonrank.records import Query

_SHARD = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")


class _Document(Protocol):
    @property
    def docid(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Selection:
    """What of an input is reranked; by default everything.

    ``qids`` are the queries, and ``shard`` ``(k, n)`` is every n-th of them from the k-th, in the order of the input.
    ``texts`` are the texts of the queries in place of those of the input, and ``texts_from`` is their file. ``excluded`` are
    the documents that are not candidates, by qid.
    """

    qids: frozenset[str] | None = None
    shard: tuple[int, int] | None = None
    texts: Mapping[str, str] | None = None
    texts_from: str = ""
    excluded: Exclusions = field(default_factory=dict)

    def chosen(self, qids: Sequence[str], source: str) -> list[str]:
        """Those of ``qids``, which are all queries of ``source``, that are reranked.

        UsageError for a selected query that ``source`` does not have, for a shard without queries, and for a query without a
        text in ``texts``.
        """
        if missing := (self.qids or frozenset()).difference(qids):
            raise UsageError(
                f"--qids selects query {min(missing)}, which is not in {source} ({len(missing)} of {len(self.qids or ())} are "
                "not); a file of qids must exist"
            )
        found = [qid for qid in qids if self.qids is None or qid in self.qids]
        if self.shard is not None:
            k, n = self.shard
            if len(found) < k:
                raise UsageError(f"--shard {k}/{n} is empty: {source} has {len(found)} queries to divide")
            found = found[k - 1 :: n]
        if self.texts is not None and (without := [qid for qid in found if qid not in self.texts]):
            raise UsageError(
                f"{self.texts_from} has no query {without[0]}, which {source} has ({len(without)} of {len(found)} are "
                "missing); --rerank.topics needs the text of every query that is reranked"
            )
        return found

    @property
    def partial(self) -> bool:
        """Whether some queries of the input may be left out."""
        return self.qids is not None or self.shard is not None

    def reworded(self, query: Query) -> Query:
        """``query`` with the text that the LLM reads."""
        return query if self.texts is None else Query(query.qid, self.texts[query.qid])

    def remaining[D: _Document](self, qid: str, documents: Iterable[D]) -> list[D]:
        """``documents`` without those that are excluded for the query ``qid``."""
        excluded = self.excluded.get(qid, ())
        return [document for document in documents if document.docid not in excluded]


def selection_of(
    qids: str | None, shard: str | None, topics: str | None, texts: Mapping[str, str] | None, excluded: Exclusions
) -> Selection:
    """The selection of the flags ``--qids`` and ``--shard``, with the texts of ``--rerank.topics`` and excluded documents."""
    return Selection(
        None if qids is None else parse_qids(qids),
        None if shard is None else parse_shard(shard),
        texts,
        f"--rerank.topics {topics}",
        excluded,
    )


EVERYTHING = Selection()
"""The selection that leaves nothing out."""


def check_known(
    run: Collection[str], topics: Collection[str], selection: Selection, run_name: str, topics_name: str
) -> None:
    """UsageError if a run has a query that is not among the topics, unless ``selection`` names the queries."""
    if selection.qids is None and (unknown := [qid for qid in run if qid not in topics]):
        if len(unknown) == len(run):
            raise UsageError(
                f"no query of {run_name} is in the topics {topics_name} (the first is {unknown[0]}): pass the topics of the run"
            )
        raise UsageError(
            f"{run_name} has query {min(unknown)}, which is not in the topics {topics_name} ({len(unknown)} of {len(run)} "
            f"are not); to rerank a part of the run's queries, select them: --qids a,b or --qids FILE, such as {topics_name}"
        )


def parse_qids(text: str) -> frozenset[str]:
    """The qids of ``--qids``: separated by commas, or the first column of a file, which may be a topics file.

    UsageError if there is none.
    """
    path = Path(text)
    if path.is_file() and has_json_lines(path):
        found = [query.qid for query in read_topics(path)]
    elif path.is_file():
        found = [decoded(line, where).partition("\t")[0].strip() for where, line in read_lines(path)]
    else:
        found = [qid.strip() for qid in text.split(",")]
    if not (qids := frozenset(filter(None, found))):
        raise UsageError(f"--qids {text!r} names no query; write --qids a,b or --qids FILE")
    return qids


def parse_shard(text: str) -> tuple[int, int]:
    """``3/8`` as ``(3, 8)``. UsageError for anything else, and for a part outside 1 to n."""
    if (found := _SHARD.fullmatch(text)) and 1 <= int(found[1]) <= int(found[2]):
        return int(found[1]), int(found[2])
    raise UsageError(f"--shard {text!r} is not a part K of N parts, such as 3/8 with K from 1 to N")
