"""Checks of a run file: its format, its topics, and that its documents are exactly those of the first stage."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from pyserini_reasonrank.errors import UsageError, listed
from pyserini_reasonrank.ir.boards import Board, Finding, PlacedLine
from pyserini_reasonrank.ir.file_io import read_lines
from pyserini_reasonrank.ir.metadata import NO_VERDICT, Verdict, nothing_kept
from pyserini_reasonrank.ir.runs import RunFormat, is_json, parse_lines, read_run, repeated, single
from pyserini_reasonrank.ir.selection import EVERYTHING, Selection

RULES = {
    "format": "each line has 6 columns (TREC), 3 columns (MS MARCO), or is a query's ranking as JSON; the text is UTF-8",
    "blanks": "docids contain no white space, which separates the columns",
    "tag": "all lines have the same tag",
    "ranks": "the ranks of a query are 1, 2, 3, ... in the order of the file",
    "scores": "the scores of a query fall strictly in single precision, so that trec_eval keeps the order",
    "documents": "a query lists a document once",
    "topics": "with --topics: each topic is in the run, except those without candidates, and no other query",
    "candidates": "with --first: a query has the documents of its first-stage run, and no others",
    "left out": "a run that keeps relevant documents lacks as many as its metadata say; with --first, exactly as many",
    "excluded": "with --exclude: a query lists none of its excluded documents",
}
"""The rules that ``validate`` checks, by the name that a finding has."""

SHOWN = 3
"""The number of ids that a finding names; it counts the others."""
LISTED = 10
"""The number of findings of a rule that are printed."""


@dataclass(frozen=True, slots=True)
class Validation:
    """The result of a check: the findings, each with place and rule, and the size of the run. A valid run has no findings."""

    findings: tuple[Finding, ...]
    topics: int
    documents: int

    def __str__(self) -> str:
        """The findings, one per line, the first ``LISTED`` of each rule; for a valid run a line with its size."""
        found: dict[str, list[Finding]] = {}
        for finding in self.findings:
            found.setdefault(finding.rule, []).append(finding)
        shown = [str(finding) for findings in found.values() for finding in findings[:LISTED]]
        shown += [
            f"and {len(findings) - LISTED:,} more findings of the rule {rule}"
            for rule, findings in found.items()
            if len(findings) > LISTED
        ]
        summary = f"valid: {_count(self.topics, 'topic', 'topics')}, {_count(self.documents, 'document', 'documents')}"
        return "\n".join(shown) or summary


def validate(
    run: str | os.PathLike[str],
    topics: Collection[str] | None = None,
    first: str | os.PathLike[str] | None = None,
    without_candidates: Collection[str] = (),
    *,
    keep_first: bool = False,
    board: Board | None = None,
    selection: Selection = EVERYTHING,
    verdict: Verdict = NO_VERDICT,
) -> Validation:
    """Check the format of a run (TREC, MS MARCO or JSON lines), and compare it with its topics and its first-stage run.

    ``topics`` are qids. A topic may be missing if it is in ``without_candidates`` or if ``first`` has no documents for it.
    ``keep_first`` accepts a first-stage run that repeats documents. ``board`` adds the requirements of a leaderboard. The
    documents that ``selection`` excludes must be missing. ``verdict`` says what a run that keeps relevant documents only lacks:
    these topics have no documents, and so many candidates of a query are missing, not more and not fewer.
    UsageError if a file is missing or empty, or if the first-stage run can't be read.
    """
    findings: list[Finding] = []
    lines: dict[str, list[PlacedLine]] = {}
    formats: dict[str, list[tuple[str, RunFormat]]] = {}
    tags: dict[str, str] = {}
    for where, text in () if nothing_kept(run, verdict) else read_lines(Path(run)):
        try:
            parsed = parse_lines(text, where)
        except UsageError as error:
            findings.append(Finding(where, "format", str(error).removeprefix(where).lstrip(": ")))
            continue
        findings.extend(_blank_docid(text, parsed[0].docid if parsed else "", where))
        for line in parsed:
            lines.setdefault(line.qid, []).append(PlacedLine(where, line))
            formats.setdefault(line.qid, []).append((where, _format(text)))
            tags.setdefault(line.tag, where)
    if len(tags) > 1:
        findings.append(Finding([*tags.values()][1], "tag", f"{len(tags)} tags ({_some(tags)}), expected one"))
    for qid, found in lines.items():
        findings.extend(_format_findings(qid, found))
        findings.extend(board.findings(formats[qid], found) if board else ())
        findings.extend(_excluded(qid, found, selection.excluded.get(qid, ())))

    candidates = None
    if first is not None:
        found_first = read_run(first, keep_first=keep_first)
        candidates = {qid: [hit.docid for hit in selection.remaining(qid, hits)] for qid, hits in found_first.items()}
        for qid, found in lines.items():
            findings.extend(_differences(qid, found, candidates.get(qid, []), verdict.dropped.get(qid, 0)))
    findings.extend(_verdict_findings(str(run), lines, candidates, verdict))
    empty = {*without_candidates, *verdict.without_relevant}
    findings.extend(_topic_findings(str(run), lines, topics, candidates, empty))
    return Validation(tuple(findings), len(lines), sum(map(len, lines.values())))


def _topic_findings(
    run: str,
    lines: dict[str, list[PlacedLine]],
    topics: Collection[str] | None,
    candidates: dict[str, list[str]] | None,
    without_candidates: Collection[str],
) -> Iterator[Finding]:
    """Queries that are not topics, and topics that are not in the run."""
    if topics is not None:
        known = set(topics)
        if unknown := [qid for qid in lines if qid not in known]:
            what = f"{_count(len(unknown), 'query', 'queries')} not among the topics: {_some(unknown)}"
            yield Finding(lines[unknown[0]][0].where, "topics", what)
    expected = [qid for qid in (topics if topics is not None else candidates or ()) if qid not in without_candidates]
    if candidates is not None:
        expected = [qid for qid in expected if candidates.get(qid)]
    if missing := [qid for qid in expected if qid not in lines]:
        yield Finding(
            run, "topics", f"{_count(len(missing), 'topic', 'topics')} missing from the run: {_some(missing)}"
        )


def _format(text: bytes) -> RunFormat:
    """The format of a line that was parsed."""
    if is_json(text):
        return RunFormat.JSONL
    return RunFormat.MSMARCO if len(text.split()) == 3 or text.count(b"\t") == 2 else RunFormat.TREC


def _blank_docid(text: bytes, docid: str, where: str) -> Iterable[Finding]:
    """A finding for a docid with white space in a format with columns: other programs can't read the line."""
    if not is_json(text) and len(docid.encode().split()) > 1:
        columns = len(text.split())
        what = f"{columns} columns; the docid {docid!r} contains white space, so trec_eval can't read it"
        yield Finding(where, "blanks", what)


def _format_findings(qid: str, lines: Sequence[PlacedLine]) -> Iterator[Finding]:
    """What is wrong with the lines of one query, in the order of the file."""
    for expected, (where, line) in enumerate(lines, 1):
        if line.rank != expected:
            what = f"query {qid}: rank {line.rank}, expected {expected}; ranks are 1, 2, 3, ..."
            yield Finding(where, "ranks", what)
            break
    for (_, above), (where, below) in pairwise(lines):
        if not single(above.score) > single(below.score):
            what = (
                f"query {qid}: the score {below.score:g} of {below.docid} is not less than the score {above.score:g} of "
                f"{above.docid} above it, so trec_eval may order them differently"
            )
            yield Finding(where, "scores", what)
            break
    if duplicates := repeated(line.docid for _, line in lines):
        places = [where for where, line in lines if line.docid == duplicates[0]]
        what = f"query {qid}: {_count(len(duplicates), 'document', 'documents')} more than once: {_some(duplicates)}"
        yield Finding(places[1], "documents", what)


def _excluded(qid: str, lines: Sequence[PlacedLine], excluded: Collection[str]) -> Iterator[Finding]:
    """The documents of one query that should have been excluded."""
    if kept := [placed for placed in lines if placed.line.docid in excluded]:
        names = _some(placed.line.docid for placed in kept)
        what = f"query {qid}: {_count(len(kept), 'excluded document', 'excluded documents')}: {names}"
        yield Finding(kept[0].where, "excluded", what)


def _verdict_findings(
    run: str, lines: Mapping[str, Sequence[PlacedLine]], candidates: Mapping[str, list[str]] | None, verdict: Verdict
) -> Iterator[Finding]:
    """Topics without documents by the metadata that have some, or whose candidates are more than those that are left out."""
    if known := [qid for qid in verdict.without_relevant if qid in lines]:
        what = f"{_count(len(known), 'topic has', 'topics have')} documents, but none by the metadata: {_some(known)}"
        yield Finding(lines[known[0]][0].where, "left out", what)
    for qid in verdict.without_relevant:
        count = len(candidates.get(qid, ())) if candidates is not None else verdict.dropped.get(qid, 0)
        if count != (dropped := verdict.dropped.get(qid, 0)):
            what = f"query {qid}: no documents, {dropped:,} left out by the metadata, {count:,} of the first stage"
            yield Finding(run, "left out", what)


def _differences(qid: str, lines: Sequence[PlacedLine], candidates: list[str], dropped: int) -> Iterator[Finding]:
    """How the documents of one query differ from its first-stage candidates, of which ``dropped`` are left out."""
    found = {line.docid for _, line in lines}
    lost = [docid for docid in candidates if docid not in found]
    if dropped and len(lost) != dropped:
        what = (
            f"query {qid}: {_count(len(lost), 'document', 'documents')} of the first stage missing, {dropped:,} left out by "
            "the metadata"
        )
        yield Finding(lines[0].where, "left out", what)
    elif lost and not dropped:
        what = f"query {qid}: {_count(len(lost), 'document', 'documents')} of the first stage missing: {_some(lost)}"
        yield Finding(lines[0].where, "candidates", what)
    known = set(candidates)
    if added := [placed for placed in lines if placed.line.docid not in known]:
        names = _some(placed.line.docid for placed in added)
        what = f"query {qid}: {_count(len(added), 'document', 'documents')} not in the first stage: {names}"
        yield Finding(added[0].where, "candidates", what)


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _some(items: Iterable[str]) -> str:
    return listed(items, SHOWN)
