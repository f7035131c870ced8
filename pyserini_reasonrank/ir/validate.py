"""Is this run file sound? Its form, its topics, and that reranking neither lost, doubled nor invented a document."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.runs import RunLine, parse_lines, read_lines, read_run, repeated, single

SHOWN = 3
"""How many ids a finding names before it only counts them."""


@dataclass(frozen=True, slots=True)
class Validation:
    """What was found: one sentence a finding, none if the run is sound, and what the run holds."""

    findings: tuple[str, ...]
    topics: int
    documents: int

    def __str__(self) -> str:
        """The findings, a line each, or the one line that says the run is valid and how large it is."""
        summary = f"valid: {_count(self.topics, 'topic', 'topics')}, {_count(self.documents, 'document', 'documents')}"
        return "\n".join(self.findings) or summary


def validate(
    run: str | os.PathLike[str],
    topics: Collection[str] | None = None,
    first: str | os.PathLike[str] | None = None,
    without_candidates: Collection[str] = (),
) -> Validation:
    """Check a run in any of our formats by itself, against the qids of its topics, and against its first-stage run.

    A topic may be missing where it is listed in ``without_candidates`` or where ``first`` has nothing for it either.
    UsageError if a file is missing or empty, or if the first-stage run itself can't be read.
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
        for line in parsed:
            lines.setdefault(line.qid, []).append(line)
            tags.setdefault(line.tag)
    if len(tags) > 1:
        findings.append(f"{run}: {len(tags)} tags ({_some(tags)}); a run has one.")
    for qid, found in lines.items():
        findings.extend(f"Query {qid}: {problem}" for problem in _form(found))

    candidates = None
    if first is not None:
        candidates = {qid: [hit.docid for hit in hits] for qid, hits in read_run(first).items()}
        for qid, found in lines.items():
            findings.extend(f"Query {qid}: {problem}" for problem in _same(found, candidates.get(qid, [])))
    if topics is not None:
        known = set(topics)
        if unknown := [qid for qid in lines if qid not in known]:
            findings.append(f"{_count(len(unknown), 'query', 'queries')} not among the topics: {_some(unknown)}.")
    expected = [qid for qid in (topics if topics is not None else candidates or ()) if qid not in without_candidates]
    if candidates is not None:
        expected = [qid for qid in expected if qid in candidates]
    if missing := [qid for qid in expected if qid not in lines]:
        findings.append(f"{_count(len(missing), 'topic', 'topics')} missing from the run: {_some(missing)}.")
    return Validation(tuple(findings), len(lines), sum(map(len, lines.values())))


def _form(lines: list[RunLine]) -> Iterable[str]:
    """What is wrong with one query's lines, taken by themselves, in the order of the file."""
    for expected, line in enumerate(lines, 1):
        if line.rank != expected:
            yield f"rank {line.rank} where {expected} is due; ranks run 1, 2, 3, ..."
            break
    for above, below in pairwise(lines):
        if not single(above.score) > single(below.score):
            yield (
                f"the score {below.score:g} of {below.docid} is not below the {above.score:g} of {above.docid} "
                "before it, so trec_eval may order them otherwise."
            )
            break
    if twice := repeated(line.docid for line in lines):
        yield f"{_count(len(twice), 'document', 'documents')} more than once: {_some(twice)}."


def _same(lines: list[RunLine], candidates: list[str]) -> Iterable[str]:
    """How one query's documents differ from its first-stage candidates."""
    found = {line.docid for line in lines}
    if lost := [docid for docid in candidates if docid not in found]:
        yield f"{_count(len(lost), 'document', 'documents')} of the first stage lost: {_some(lost)}."
    known = set(candidates)
    if invented := [line.docid for line in lines if line.docid not in known]:
        yield f"{_count(len(invented), 'document', 'documents')} the first stage does not have: {_some(invented)}."


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _some(items: Iterable[str]) -> str:
    names = list(items)
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
