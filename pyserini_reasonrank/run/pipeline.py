"""One run of a reranker: requests in; run, journal and metadata out."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pyserini_reasonrank import interrupts
from pyserini_reasonrank.errors import CallFailed, Failure, UsageError, listed
from pyserini_reasonrank.ir.metadata import PartRecord, RunRecord, sidecar, write_metadata
from pyserini_reasonrank.ir.rewrite_record import RewriteRecord
from pyserini_reasonrank.ir.run_writer import RunWriter
from pyserini_reasonrank.ir.runs import RunFormat
from pyserini_reasonrank.journal import Journal, journal_of, run_name
from pyserini_reasonrank.journal_reader import contexts
from pyserini_reasonrank.records import PrefixCache, Query, Ranking, Request, Tally
from pyserini_reasonrank.run.cost import estimate
from pyserini_reasonrank.run.notices import Notices, as_error
from pyserini_reasonrank.run.outputs import committing
from pyserini_reasonrank.run.parts import Plan, SinglePlan
from pyserini_reasonrank.run.progress import LINE_SECONDS, Progress
from pyserini_reasonrank.run.session import Session, close
from pyserini_reasonrank.run.starting import Starter

NAMED = 10
"""The number of failed queries that an error names; it counts the others."""
WARNED_BAD = 0.1
"""The share of bad judgements from which there is a warning."""


@dataclass(frozen=True, slots=True)
class Task:
    """What to rerank, and where to write it.

    ``queries`` are the topics, if they are known before the requests. ``fingerprint`` identifies settings and inputs.
    ``part`` has the flags that select a part of the topics, ``qids`` and ``shard``. ``rewriting``: how the queries were
    rewritten for the search. ``announced``: warnings are printed on
    stderr as soon as they are known. ``progress_seconds`` is the time between two lines of progress if stderr is not a terminal.
    """

    requests: AsyncIterator[Request]
    output: Path
    first_run: Path
    topics: str
    command: Sequence[str]
    output_format: RunFormat = RunFormat.TREC
    queries: Sequence[Query] = ()
    fingerprint: str = ""
    part: Mapping[str, str] = field(default_factory=dict)
    rewriting: RewriteRecord | None = None
    announced: bool = False
    progress_seconds: float = LINE_SECONDS


async def rerank(plan: Plan, task: Task) -> RunRecord:
    """Rerank every request of ``task`` by ``plan``. The engines load while the first requests arrive, or only if the journal
    of an earlier run lacks a call.

    Failure if an engine dies, a call failed (its query's order is then the first stage's, and the others are finished), or
    too many judgements are bad; the same command then resumes from the journal. With the setting ``strict``, UsageError for a
    warning before the first call, and Failure for one that arises later.
    """
    began = time.monotonic()
    in_process = any(engine.answering.needs_weights for engine in plan.engines)
    with contextlib.nullcontext() if in_process else _rare_collections():
        record = await _rerank(plan, task, began)
    write_metadata(sidecar(task.output), record.fields())
    return record


async def _rerank(plan: Plan, task: Task, began: float) -> RunRecord:
    journal_path = _journal_path(plan, task)
    async with Progress(task.progress_seconds) as progress:
        notices = Notices(progress.warn if task.announced else lambda warning: None)
        notices.add(plan.warnings)
        try:
            starter = Starter(plan.engines, contexts(journal_path), progress.say)
            first = await _start(starter, task.requests, progress)
            loaded = time.monotonic()
            with (
                _writer(plan, task) as writer,
                contextlib.closing(Journal(journal_path, run_name(plan.tag, task.output, journal_path))) as journal,
                interrupts.cleaning(journal.flush),
            ):
                session = Session(plan, journal, ready=starter.ready)
                progress.tally = lambda: session.tally
                progress.waiting = lambda: session.waiting
                for identity, context in starter.contexts().items():
                    journal.loaded(identity, context)
                if (early := notices.add(session.warnings)) and plan.settings.strict:
                    raise UsageError(as_error(early))
                for query in task.queries:
                    session.check(query)
                served = await _serve(session, _rest(first, task.requests), writer, progress)
                _check_finished(session.tally, plan.settings.max_bad, served.failures, writer, served.candidates)
                warnings = [*session.warnings, *_bad_warning(session.tally), *_unused_exclusions(plan, task, served)]
                if (late := notices.add(warnings)) and plan.settings.strict:
                    writer.keep(served.candidates)
                    raise Failure(f"{as_error(late)}; the finished queries are in {writer.partial}")
                await journal.settle()
                prefix_cache = await _prefix_cache(plan, session.tally)
                committing(task.output, task.fingerprint)
                writer.commit(served.candidates)
        finally:
            await close(plan.engines)
    loaded += starter.late_seconds
    record = _record(plan, task, served, session.tallies)
    seconds = {"load": loaded - began, "rerank": time.monotonic() - loaded}
    return replace(record, seconds=seconds, warnings=[*record.warnings, *notices.found], prefix_cache=prefix_cache)


def _record(plan: Plan, task: Task, served: _Served, tallies: Mapping[str, Tally]) -> RunRecord:
    """The record of a run without what is measured around it: seconds, warnings of the run and counters of the engines."""
    settings, rewriting = plan.settings, task.rewriting
    return RunRecord(
        tag=plan.tag,
        command=task.command,
        reranker=settings.name,
        settings=settings.model_dump(include=_OF_THE_WHOLE, by_alias=True),
        parts={name: part_record(part, tallies[name]) for name, part in plan.parts.items()},
        topics_file=task.topics,
        collection=_collection(plan, task),
        fingerprint=task.fingerprint,
        candidates=served.candidates,
        threshold=settings.threshold,
        dropped={qid: served.dropped[qid] for qid in served.candidates if qid in served.dropped},
        excluded=served.excluded if settings.exclude is not None or served.excluded else None,
        first_run=task.first_run,
        output=task.output,
        journal=_journal_path(plan, task),
        warnings=rewriting.warnings if rewriting else (),
        rewriting=rewriting,
    )


def _journal_path(plan: Plan, task: Task) -> Path:
    return Path(plan.settings.journal or journal_of(task.output))


async def _prefix_cache(plan: Plan, tally: Tally) -> PrefixCache | None:
    """The counters of the servers' prefix caches, if the answers did not report the tokens that came from one."""
    if tally.cached_tokens or not tally.calls:
        return None
    caches = await asyncio.gather(*(engine.prefix_cache() for engine in plan.engines))
    found = [cache for cache in caches if cache is not None]
    return PrefixCache(sum(c.queries for c in found), sum(c.hits for c in found)) if found else None


@contextlib.contextmanager
def _rare_collections() -> Iterator[None]:
    """Search for cycles of unused objects less often: the candidates of a run are many objects, and form none."""
    before = gc.get_threshold()
    gc.set_threshold(50_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _collection(plan: Plan, task: Task) -> dict[str, str]:
    """The inputs of the run beside its topics, for the metadata."""
    inputs = {"rerank topics": plan.settings.topics, "excluded documents": plan.settings.exclude}
    return {name: value for name, value in inputs.items() if value is not None} | dict(task.part)


async def _start(starter: Starter, requests: AsyncIterator[Request], progress: Progress) -> Request | None:
    """Load the engines while waiting for the first request. The first error of either is raised at once."""
    first = asyncio.ensure_future(anext(requests, None))
    loading = asyncio.ensure_future(starter.start())
    try:
        await asyncio.wait([first, loading], return_when=asyncio.FIRST_EXCEPTION)
        for task in (first, loading):
            if task.done():
                task.result()
        return await first
    finally:
        for task in (first, loading):
            task.cancel()
        await asyncio.gather(first, loading, return_exceptions=True)  # the stream can't be closed while it is read
        progress.say("reranking")


def _writer(plan: Plan, task: Task) -> RunWriter:
    blanks = plan.settings.docid_blanks
    return RunWriter(task.output, tag=plan.tag, output_format=task.output_format, docid_blanks=blanks)


async def _rest(first: Request | None, requests: AsyncIterator[Request]) -> AsyncIterator[Request]:
    if first is not None:
        yield first
        async for request in requests:
            yield request


@dataclass(slots=True)
class _Served:
    """What became of the requests: numbers of candidates by qid, in topics order, and of those that are left out; failures.

    ``excluded`` is the number of documents that an exclusion list removed before.
    """

    candidates: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    failures: list[CallFailed] = field(default_factory=list)
    excluded: int = 0


async def _serve(
    session: Session,
    requests: AsyncIterator[Request],
    writer: RunWriter,
    progress: Progress,
) -> _Served:
    """Rerank all requests and write each as it ends; one with a failed call in first-stage order."""
    served = _Served()

    async def checked() -> AsyncIterator[Request]:
        async for request in requests:
            session.check(request.query)
            if request.query.qid in served.candidates:
                raise UsageError(f"query {request.query.qid} occurs twice; each topic must have one request")
            writer.names(
                request.query.qid, [c.docid for c in request.candidates]
            )  # raises before any call of the query
            served.candidates[request.query.qid] = len(request.candidates)
            served.excluded += request.excluded
            progress.expect((await session.cost(request)).questions)
            yield request

    def done(ranking: Ranking) -> None:
        if ranking.ranked.segments:  # fewer questions than expected of documents of unknown length
            expected = estimate(session.plan, len(ranking.request.candidates)).questions
            progress.expect(sum(ranking.ranked.statuses.values()) - expected)
        if ranking.dropped:
            served.dropped[ranking.request.query.qid] = len(ranking.dropped)
        writer.write_ranked(ranking.request.query, ranking.candidates)

    def failed(request: Request, error: CallFailed) -> None:
        served.failures.append(error)
        writer.write_ranked(request.query, request.candidates)

    await session.rerank_all(checked(), done, failed)
    return served


def _check_finished(
    tally: Tally, max_bad: float, failures: Sequence[CallFailed], writer: RunWriter, qids: Mapping[str, int]
) -> None:
    """Failure if a query failed or too many judgements are bad; the partial file then has all queries in topics order."""
    if failures:
        writer.keep(qids)
        place = {qid: number for number, qid in enumerate(qids)}
        names = sorted((failure.qid for failure in failures), key=lambda qid: place[qid])
        raise Failure(
            f"calls of {len(names)} of {len(qids)} queries failed ({listed(names, NAMED)}), first {failures[0]}; "
            f"{writer.partial} has all queries, these in first-stage order: run the same command again to retry, or accept "
            "their order with --rerank.on_error keep"
        )
    if tally.bad_share > max_bad:
        writer.keep(qids)
        raise Failure(
            f"{tally.bad_of()}, above --rerank.max_bad {max_bad:g}; the finished queries are in {writer.partial}"
        )


def _bad_warning(tally: Tally) -> list[str]:
    return [tally.bad_of()] if tally.bad_share >= WARNED_BAD else []


def _unused_exclusions(plan: Plan, task: Task, served: _Served) -> list[str]:
    """A warning if the exclusion list of a whole run removed nothing; a part of the topics may have no such document."""
    if plan.settings.exclude is None or served.excluded or task.part:
        return []
    return [
        f"no candidate is among the excluded documents of {plan.settings.exclude}: check that its qids and docids are "
        "those of the topics and the collection"
    ]


_OF_THE_WHOLE = {"as_", "combine", "fuse", "depth", "max_bad", "keep", "threshold"}
_RECORDED = {
    "as_", "judge", "strategy", "fuse", "collection", "passage_tokens", "query_tokens", "passage", "segments", "instruction",
    "max_model_len", "on_error",
}  # fmt: skip


def part_record(part: SinglePlan, tally: Tally, recorded: Collection[str] = _RECORDED) -> PartRecord:
    """The record of one part of a run; ``recorded`` are the names of its settings to keep."""
    settings = part.settings
    engine = {"name": part.engine.name, **part.engine.options.model_dump()}
    return PartRecord(
        model=part.engine.model,
        prompt=part.template.name,
        prompt_sha256=part.template.sha256,
        sampling=settings.sampling.sampling(),
        settings=settings.model_dump(include=set(recorded), by_alias=True) | {"engine": engine},
        tally=tally,
    )
