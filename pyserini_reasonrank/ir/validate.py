"""Checks of a run file: its format, its topics, and that its documents are exactly those of the first stage."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.file_io import read_lines
from pyserini_reasonrank.ir.runs import RunLine, is_json, parse_lines, read_run, repeated, single
from pyserini_reasonrank.ir.selection import EVERYTHING, Selection

SHOWN = 3
"""The number of ids that a finding names; it counts the others."""


@dataclass(frozen=True, slots=True)
class Validation:
    """The result of a check: a sentence for each finding, and the size of the run. A valid run has no findings."""

    findings: tuple[str, ...]
    topics: int
    documents: int

    def __str__(self) -> str:
        """The findings, one per line; for a valid run a line with its size."""
        summary = f"valid: {_count(self.topics, 'topic', 'topics')}, {_count(self.documents, 'document', 'documents')}"
        return "\n".join(self.findings) or summary


def validate(
    run: str | os.PathLike[str],
    topics: Collection[str] | None = None,
    first: str | os.PathLike[str] | None = None,
    without_candidates: Collection[str] = (),
    *,
    keep_first: bool = False,
    selection: Selection = EVERYTHING,
) -> Validation:
    """Check the format of a run (TREC, MS MARCO or JSON lines), and compare it with its topics and its first-stage run.

    ``topics`` are qids. A topic may be missing if it is in ``without_candidates`` or if ``first`` has no documents for it.
    ``keep_first`` accepts a first-stage run that repeats documents. The documents that ``selection`` excludes must be missing.
    UsageError if a file is missing or empty, or if the first-stage run can't be read.
    """
    findings: list[str] = []
    lines: dict[str, list[RunLine]] = {}
    tags: dict[str, None] = {}
    for where, text in read_lines(Path(run)):
        try:
            parsed = parse_lines(text, where)
        except UsageError as error:
            findings.append(str(error))
            continue
        findings.extend(_blank_docid(text, parsed, where))
        for line in parsed:
            lines.setdefault(line.qid, []).append(line)
            tags.setdefault(line.tag)
    if len(tags) > 1:
        findings.append(f"{run}: {len(tags)} tags ({_some(tags)}), expected one")
    for qid, found in lines.items():
        problems = [*_format_problems(found), *_excluded(found, selection.excluded.get(qid, ()))]
        findings.extend(f"query {qid}: {problem}" for problem in problems)

    candidates = None
    if first is not None:
        found_first = read_run(first, keep_first=keep_first)
        candidates = {qid: [hit.docid for hit in selection.remaining(qid, hits)] for qid, hits in found_first.items()}
        for qid, found in lines.items():
            findings.extend(f"query {qid}: {problem}" for problem in _differences(found, candidates.get(qid, [])))
    if topics is not None:
        known = set(topics)
        if unknown := [qid for qid in lines if qid not in known]:
            findings.append(f"{_count(len(unknown), 'query', 'queries')} not among the topics: {_some(unknown)}")
    expected = [qid for qid in (topics if topics is not None else candidates or ()) if qid not in without_candidates]
    if candidates is not None:
        expected = [qid for qid in expected if candidates.get(qid)]
    if missing := [qid for qid in expected if qid not in lines]:
        findings.append(f"{_count(len(missing), 'topic', 'topics')} missing from the run: {_some(missing)}")
    return Validation(tuple(findings), len(lines), sum(map(len, lines.values())))


def _blank_docid(text: bytes, parsed: list[RunLine], where: str) -> Iterable[str]:
    """A finding for a docid with white space in a format with columns: other programs can't read the line."""
    if not is_json(text) and len(parsed[0].docid.encode().split()) > 1:
        columns = len(text.split())
        yield f"{where}: {columns} columns; the docid {parsed[0].docid!r} contains white space, so trec_eval can't read it"


def _format_problems(lines: list[RunLine]) -> Iterable[str]:
    """What is wrong with the lines of one query, in the order of the file."""
    for expected, line in enumerate(lines, 1):
        if line.rank != expected:
            yield f"rank {line.rank}, expected {expected}; ranks are 1, 2, 3, ..."
            break
    for above, below in pairwise(lines):
        if not single(above.score) > single(below.score):
            yield (
                f"the score {below.score:g} of {below.docid} is not less than the score {above.score:g} of {above.docid} "
                "above it, so trec_eval may order them differently"
            )
            break
    if duplicates := repeated(line.docid for line in lines):
        yield f"{_count(len(duplicates), 'document', 'documents')} more than once: {_some(duplicates)}"


def _excluded(lines: list[RunLine], excluded: Collection[str]) -> Iterable[str]:
    """The documents of one query that should have been excluded."""
    if kept := [line.docid for line in lines if line.docid in excluded]:
        yield f"{_count(len(kept), 'excluded document', 'excluded documents')}: {_some(kept)}"


def _differences(lines: list[RunLine], candidates: list[str]) -> Iterable[str]:
    """How the documents of one query differ from its first-stage candidates."""
    found = {line.docid for line in lines}
    if lost := [docid for docid in candidates if docid not in found]:
        yield f"{_count(len(lost), 'document', 'documents')} of the first stage missing: {_some(lost)}"
    known = set(candidates)
    if added := [line.docid for line in lines if line.docid not in known]:
        yield f"{_count(len(added), 'document', 'documents')} not in the first stage: {_some(added)}"


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _some(items: Iterable[str]) -> str:
    names = list(items)
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
