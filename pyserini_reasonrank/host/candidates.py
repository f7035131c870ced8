"""The file between the two processes: a JSON line for each query, with its candidates and their texts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from pyserini_reasonrank.records import Query
from pyserini_reasonrank.runs import Hit

HOST_LINE = re.compile(r"(?P<qid>\S+) Q0 (?P<docid>.*) \d+ (?P<score>\S+) \S+\n")


class Texts(Protocol):
    """Text by docid; raises UsageError for one that is not there."""

    def __getitem__(self, docid: str, /) -> str: ...


def read_host_run(path: Path) -> dict[str, list[Hit]]:
    """The hits of a run that the host wrote, docids verbatim even where they hold blanks."""
    run: dict[str, list[Hit]] = {}
    with open(path, encoding="utf-8", newline="\n") as lines:
        for line in lines:
            if found := HOST_LINE.fullmatch(line):
                run.setdefault(found["qid"], []).append(Hit(found["docid"], float(found["score"])))
    return run


def write_candidates(path: Path, queries: Iterable[Query], run: Mapping[str, Sequence[Hit]], texts: Texts) -> None:
    """Write ``{"qid", "query", "candidates": [{"docid", "score", "text"}]}``, a line a query, flushed as it is done.

    Every query has its line, also one without hits. ``path`` may be a pipe.
    """
    with open(path, "w", encoding="utf-8") as lines:
        for query in queries:
            candidates = [
                {"docid": hit.docid, "score": hit.score, "text": texts[hit.docid]} for hit in run.get(query.qid, ())
            ]
            record = {"qid": query.qid, "query": query.text, "candidates": candidates}
            lines.write(json.dumps(record, ensure_ascii=False) + "\n")
            lines.flush()
