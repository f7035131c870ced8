"""Reader of TFRank's released rows: a query, passages, reasoning, and an answer with levels, grades or a label."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from pyserini_reasonrank.records import Candidate, Query
from pyserini_reasonrank.train.data.lists import LabelledList
from pyserini_reasonrank.train.data.release import Release, TfrankTask, are_texts, digest, read_records
from pyserini_reasonrank.train.data.rows import Audit

_ENTRY = re.compile(r"\[(\d+)\]\s*(?:\((\d+(?:\.\d+)?)\))?\s*([<>=]?)\s*")
_LABEL = re.compile(r"(yes|no)(?:\((\d+)\))?")
_LOWEST_YES = 2  # the lowest grade that comes with yes
_CLOSING = "Before giving the final reply to the user"


@dataclass(frozen=True, slots=True)
class TfrankRow:
    """A row of the release with its answer read.

    ``levels`` count the steps up from the worst passage: ``[2] > [1] = [3]`` is 0, 1, 0, and ``yes`` is 1. ``grades``
    (from 0 to 4) are those that the answer writes, or None.
    """

    task: TfrankTask
    query: str
    passages: tuple[str, ...]
    reasoning: str
    levels: tuple[float, ...]
    grades: tuple[float, ...] | None


def tfrank(release: Release, audit: Audit) -> Iterator[LabelledList]:
    """The lists of one task.

    The release has the same question in several forms: with and without grades, with and without a thought. They are
    merged into one list. A thought ends before the sentence that announces TFRank's own answer format.
    """
    merged: dict[tuple[str, ...], LabelledList] = {}
    graded: set[tuple[str, ...]] = set()
    for row in tfrank_rows(release.path, (release.task,), audit):
        key = (row.query, *row.passages)
        labelled = _labelled(row, release.source)
        known = merged.setdefault(key, labelled)
        if row.grades and key not in graded:
            graded.add(key)
            known = replace(known, gains=labelled.gains, relevant=labelled.relevant)
        merged[key] = replace(known, reasoning=known.reasoning or row.reasoning)
    yield from merged.values()


def tfrank_rows(path: Path, tasks: Sequence[TfrankTask], audit: Audit) -> Iterator[TfrankRow]:
    """The rows of ``tasks`` whose answer can be read. ``audit`` counts all rows."""
    for where, record in read_records(path, audit):
        task = next((known for known in tasks if known == record.get("task")), None)
        if task is None:
            audit.note(f"of another task than {' or '.join(tasks)}", where)
            continue
        query, passages, answer = (record.get(name) for name in ("query", "passages", "answer"))
        if not (isinstance(query, str) and isinstance(answer, str) and are_texts(passages)):
            audit.note("not a TFRank row", where)
            continue
        labels = tfrank_labels(answer, len(passages), task)
        fault = None if labels else "an answer that does not name every passage once"
        if audit.note(fault, where) and labels:
            thought = str(record.get("reasoning") or "").partition(_CLOSING)[0].rstrip()
            yield TfrankRow(task, query, tuple(passages), thought, *labels)


def tfrank_labels(answer: str, n: int, task: TfrankTask) -> tuple[tuple[float, ...], tuple[float, ...] | None] | None:
    """The levels and the grades (see :class:`TfrankRow`) that an answer gives to ``n`` passages.

    None for an answer that does not name every passage exactly once.
    """
    if task == "pointwise":
        label = _LABEL.fullmatch(answer.strip())
        if label is None or n != 1:
            return None
        return (float(label[1] == "yes"),), (float(label[2]),) if label[2] is not None else None
    entries = _ENTRY.findall(answer)
    ids = [int(number) - 1 for number, _, _ in entries]
    if sorted(ids) != list(range(n)) or _ENTRY.sub("", answer).strip():
        return None
    levels = [0]
    for _, _, sign in entries[:-1]:
        levels.append(levels[-1] + {">": -1, "<": 1}.get(sign, 0))
    places = [ids.index(i) for i in range(n)]
    grades = None
    if all(grade for _, grade, _ in entries):
        grades = tuple(float(entries[place][1]) for place in places)
    return tuple(float(levels[place] - min(levels)) for place in places), grades


def _labelled(row: TfrankRow, source: str) -> LabelledList:
    return LabelledList(
        Query(digest(row.query), row.query),
        tuple(Candidate(digest(text), -float(i), text) for i, text in enumerate(row.passages)),
        row.grades or row.levels,
        tuple(range(1, len(row.passages) + 1)),
        source,
        relevant=tuple(grade >= _LOWEST_YES for grade in row.grades) if row.grades else None,
    )


TASKS: tuple[TfrankTask, ...] = get_args(TfrankTask)
