"""The runs of a report, with the files beside them: metadata, journal, and the run of the first stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.metadata import nested, read_finished_run, read_metadata, recorded_verdict, sha256
from pyserini_reasonrank.ir.runs import FIRST_RUN, Hit, Run, read_run
from pyserini_reasonrank.journal import DamagedJournal
from pyserini_reasonrank.journal_reader import rankings
from pyserini_reasonrank.run.recorded_run import journal_for, name_in

NO_JOURNAL = "none"
"""The value of ``--journal`` for a run whose journal is left out."""


@dataclass(frozen=True, slots=True)
class RunInput:
    """A run, and what is known of it.

    ``metadata`` is empty without a metadata file. ``journal`` is None without a journal; ``journal_run`` is the name of the
    run in it. ``first_run`` is the file of the first stage; it is None if there is none, though ``first_hits`` may be known
    from the journal. ``notes`` are sentences about what is missing.
    """

    path: Path
    hits: Run
    metadata: Mapping[str, Any]
    journal: Path | None
    journal_run: str
    first_run: Path | None
    first_hits: Run | None
    llm: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """The LLM's score of each docid, by qid, of rerankers that score documents one by one."""
    fused: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """The score of each docid by which a query was ordered, by qid, if the run was fused with its first stage."""
    segments: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """The best segment of each docid, such as ``2 of 5``, by qid, if documents were judged in segments."""
    remarks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Confidences and notes of the reranker, by qid."""
    notes: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()
    """The qids without documents because the judge found none relevant."""

    @property
    def qids(self) -> Set[str]:
        """All queries of the run."""
        return self.hits.keys() | self.empty

    @property
    def reranker(self) -> Mapping[str, Any]:
        """The settings of the reranker in the metadata; empty without them."""
        return _entry(self.metadata, 1)


def read_run_input(path: Path, journal: str | None, *, keep_first: bool = False) -> RunInput:
    """Read a run and the files beside it. ``journal`` is its journal, ``none`` to leave it out, or None for the default.

    UsageError for an unreadable file, and for a journal that records another run.
    """
    hits = read_finished_run(path, keep_first=keep_first)
    metadata = read_metadata(path) or {}
    found = _journal(path, journal, metadata)
    name, notes = "", []
    ranked = dict[str, dict[str, Any]]()
    if found is not None:
        with readable(found):
            name = name_in(found, path, metadata) or ""
            ranked = {each["qid"]: each for each in rankings(found, run=name)} if name else {}
        _check_same_run(ranked, hits, path, found)
        if not name:
            notes.append(f"The journal {found.name} has no calls.")
    elif journal != NO_JOURNAL and metadata:
        notes.append(f"{path.name} has no journal, so its calls are not shown.")
    if empty := recorded_verdict(path).without_relevant:
        notes.append(f"{path.name} has no documents for {_queries(len(empty))}: its judge found none relevant.")
    first_run, about = _first_run(path, metadata)
    if first_run is not None:
        first_hits: Run | None = read_run(first_run, keep_first=keep_first)
    else:
        first_hits = {qid: _first_stage(each["ranking"]) for qid, each in ranked.items()} or None
        if about and first_hits:
            about = f"{about} The first-stage order comes from the journal."
    return RunInput(
        path, hits, metadata, found if name else None, name, first_run, first_hits,
        {qid: scores for qid, each in ranked.items() if (scores := _scores(each["ranking"], "score"))},
        {qid: scores for qid, each in ranked.items() if (scores := _scores(each["ranking"], "fused"))},
        {qid: segments for qid, each in ranked.items() if (segments := _segments(each["ranking"]))},
        {qid: {key: each[key] for key in ("confidence", "notes") if each[key]} for qid, each in ranked.items()},
        (*notes, *filter(None, [about])), tuple(empty),
    )  # fmt: skip


def _queries(number: int) -> str:
    return "1 query" if number == 1 else f"{number:,} queries"


@contextmanager
def readable(journal: Path) -> Iterator[None]:
    """Report a damaged journal, which is found while it is read, as UsageError."""
    try:
        yield
    except DamagedJournal as error:
        raise UsageError(f"{error}; --journal {NO_JOURNAL} leaves it out") from None


def _journal(path: Path, journal: str | None, metadata: Mapping[str, Any]) -> Path | None:
    if journal == NO_JOURNAL:
        return None
    if journal is not None:
        return Path(journal)
    found = journal_for(path, metadata)
    return found if found.exists() else None


def _check_same_run(ranked: Mapping[str, Mapping[str, Any]], hits: Run, path: Path, journal: Path) -> None:
    """UsageError if a query of the run has other documents in the journal, or no query of the run is there."""
    differs = f"{journal} is the journal of another run than {path}"
    remedy = f"name the journal of the run with --journal, or --journal {NO_JOURNAL}"
    kept = {qid: [line["docid"] for line in each["ranking"] if not line.get("dropped")] for qid, each in ranked.items()}
    if kept and not any(qid in hits or not docids for qid, docids in kept.items()):
        raise UsageError(f"{differs}: it has none of its queries; {remedy}")
    for qid in kept.keys() & hits.keys():
        docids = kept[qid][: len(hits[qid])]  # a run may be cut
        if docids != [hit.docid for hit in hits[qid]]:
            raise UsageError(f"{differs}: query {qid} has another order there; {remedy}")


def _first_run(path: Path, metadata: Mapping[str, Any]) -> tuple[Path | None, str]:
    """The file of the first stage: the one beside the run, or the one that the metadata name; and a note if it changed."""
    beside = Path(f"{path}{FIRST_RUN}")
    if beside.exists():
        return beside, ""
    entry = _entry(metadata, 0)
    recorded = entry.get("run")
    if not isinstance(recorded, str) or not Path(recorded).is_file():
        return None, ""
    if entry.get("sha256") != sha256(recorded):
        return None, f"The first-stage run {recorded} has changed since {path.name} was made."
    return Path(recorded), ""


def _entry(metadata: Mapping[str, Any], index: int) -> Mapping[str, Any]:
    """An entry below ``method: retrieval``: 0 is the first stage, 1 the reranker. Empty if there is none."""
    found = nested(metadata, "method", "retrieval", index)
    return found if isinstance(found, Mapping) else {}


def _first_stage(ranking: Sequence[Mapping[str, Any]]) -> list[Hit]:
    lines = sorted(ranking, key=lambda line: int(line["first_stage"][0]))
    return [Hit(line["docid"], float(line["first_stage"][1])) for line in lines]


def _scores(ranking: Sequence[Mapping[str, Any]], kind: str) -> dict[str, float]:
    """The scores of one kind by docid: ``score``, of the LLM, or ``fused``."""
    return {line["docid"]: float(line[kind]) for line in ranking if line.get(kind) is not None}


def _segments(ranking: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    placed = {line["docid"]: line["segment"] for line in ranking if "segment" in line}
    return {docid: f"{found['number']} of {found['of']}" for docid, found in placed.items() if found["of"] > 1}


def check_same_topics(runs: Sequence[RunInput]) -> Iterator[str]:
    """Yield a note for each run with other queries than the first. UsageError if a run shares none with it."""
    first, *others = runs
    for other in others:
        shared = first.qids & other.qids
        if not shared:
            raise UsageError(f"{other.path} has no query of {first.path}: compare runs of the same topics")
        only = len(first.qids) - len(shared), len(other.qids) - len(shared)
        if any(only):
            yield (
                f"{first.path.name} and {other.path.name} have {_queries(len(shared))} in common; "
                f"the first has {only[0]:,} more, and the second {only[1]:,} more."
            )
