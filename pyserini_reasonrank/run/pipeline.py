"""One run of a reranker: requests in; run, journal, metadata and a summary out."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyserini_reasonrank.engines import Engine
from pyserini_reasonrank.errors import Failure, UsageError
from pyserini_reasonrank.ir.metadata import Part, Provenance, sidecar, write_metadata
from pyserini_reasonrank.ir.runs import RunFormat, RunWriter
from pyserini_reasonrank.journal import Journal
from pyserini_reasonrank.prompts.fitting import Fitter
from pyserini_reasonrank.records import Query, Ranking, Request
from pyserini_reasonrank.rerankers.endpoint import Endpoint
from pyserini_reasonrank.rerankers.questions import Tally
from pyserini_reasonrank.rerankers.reranker import Desk, Ranker
from pyserini_reasonrank.rerankers.scheduling import Load, rerank_all
from pyserini_reasonrank.run.plan import Plan, Single
from pyserini_reasonrank.run.progress import Progress


@dataclass(frozen=True, slots=True)
class Task:
    """What to rerank and where the result goes. ``queries`` are the topics where they are known beforehand."""

    requests: AsyncIterator[Request]
    output: Path
    first_run: Path
    topics: str
    command: Sequence[str]
    output_format: RunFormat = RunFormat.TREC
    queries: Sequence[Query] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended, and the files it left."""

    tallies: Mapping[str, Tally]
    topics: int
    answered: int
    seconds: Mapping[str, float]
    output: Path
    journal: Path
    metadata: Path
    first_run: Path
    warnings: Sequence[str]

    @property
    def tally(self) -> Tally:
        """Of all parts together."""
        return sum(self.tallies.values(), Tally())


async def rerank(plan: Plan, task: Task) -> Outcome:
    """Rerank every request of ``task`` by ``plan``. The engine loads while the requests begin to come in.

    Failure if the engine dies or too many calls are bad; the journal stays, so the same command goes on from there.
    """
    began = time.monotonic()
    journal_path = Path(plan.settings.journal or f"{task.output}.journal.sqlite")
    with Progress() as progress:
        try:
            first = await _start(plan.engines, task.requests, progress)
            loaded = time.monotonic()
            fitters = plan.fitters()
            for query in task.queries:
                _check(query, fitters)
            with (
                RunWriter(
                    task.output,
                    tag=plan.tag,
                    output_format=task.output_format,
                    docid_blanks=plan.settings.docid_blanks,
                ) as writer,
                contextlib.closing(Journal(journal_path, _run_name(plan, task, journal_path))) as journal,
            ):
                endpoints = functools.cache(lambda engine: Endpoint(engine, journal))
                ranker: Ranker = plan.ranker(endpoints, lambda: progress.show(ranker.tally), fitters)
                desk = Desk(ranker, journal, plan.settings.depth, plan.settings.fuse)
                served = await _serve(desk, _rest(first, task.requests), writer, progress, plan, fitters)
                _judge_the_run(ranker.tally, plan.settings.max_bad, writer)
                writer.commit(served)
        finally:
            await asyncio.gather(*(engine.close() for engine in plan.engines))
    seconds = {"load": loaded - began, "rerank": time.monotonic() - loaded}
    empty = [qid for qid, count in served.items() if not count]
    outcome = Outcome(
        ranker.tallies,
        len(served),
        len(served) - len(empty),
        seconds,
        task.output,
        journal_path,
        sidecar(task.output),
        task.first_run,
        [*plan.warnings, *plan.cuts(fitters)],
    )
    write_metadata(outcome.metadata, _provenance(plan, task, outcome, empty).fields())
    return outcome


async def _start(
    engines: Sequence[Engine[Any]], requests: AsyncIterator[Request], progress: Progress
) -> Request | None:
    """Load the engines and wait for the first request, at once; the first of them to fail ends the wait."""
    if weights := [engine.model.name for engine in engines if engine.needs_weights]:
        progress.say(f"loading {', '.join(weights)}")
    first = asyncio.ensure_future(anext(requests, None))
    loading = asyncio.ensure_future(_load(engines))
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


def _run_name(plan: Plan, task: Task, journal: Path) -> str:
    """What the journal knows the run by: a journal may be shared, and be moved with its runs."""
    return f"{plan.tag} {os.path.relpath(task.output, journal.parent)}"


async def _load(engines: Sequence[Engine[Any]]) -> None:
    for engine in engines:  # one after the other: each measures the memory that is left
        await engine.start()


def _check(query: Query, fitters: Mapping[str, Fitter]) -> None:
    for fitter in fitters.values():
        fitter.check(query)


async def _rest(first: Request | None, requests: AsyncIterator[Request]) -> AsyncIterator[Request]:
    if first is not None:
        yield first
        async for request in requests:
            yield request


async def _serve(
    desk: Desk,
    requests: AsyncIterator[Request],
    writer: RunWriter,
    progress: Progress,
    plan: Plan,
    fitters: Mapping[str, Fitter],
) -> dict[str, int]:
    """Rerank all requests, writing each as it ends. Returns the number of candidates by qid, in topics order."""
    counts: dict[str, int] = {}

    async def noted() -> AsyncIterator[Request]:
        async for request in requests:
            _check(request.query, fitters)
            if request.query.qid in counts:
                raise UsageError(f"query {request.query.qid} comes twice; a topic is reranked once")
            writer.qid(request.query.qid)  # before a call is paid for what can't be written
            for candidate in request.candidates:
                writer.docid(candidate.docid)
            counts[request.query.qid] = len(request.candidates)
            progress.expect(plan.cost(len(request.candidates)).questions)
            yield request

    def load(request: Request) -> Load:
        cost = plan.cost(len(request.candidates))
        return Load(cost.questions, cost.calls / max(cost.chain, 1))

    def done(ranking: Ranking) -> None:
        writer.write(ranking.request.query.qid, [c.docid for c in ranking.candidates])

    width = max(engine.options.concurrency for engine in plan.engines)
    await rerank_all(noted(), desk.rerank, width=width, done=done, load=load)
    return counts


def _judge_the_run(tally: Tally, max_bad: float, writer: RunWriter) -> None:
    share = tally.bad / tally.questions if tally.questions else 0.0
    if share > max_bad:
        raise Failure(
            f"{tally.bad} of {tally.questions} questions ({share:.1%}) ended badly ({tally}), above --rerank.max_bad {max_bad:g}; "
            f"the finished queries are in {writer.partial}"
        )


def _provenance(plan: Plan, task: Task, outcome: Outcome, empty: Sequence[str]) -> Provenance:
    settings = plan.settings
    return Provenance(
        tag=plan.tag,
        command=task.command,
        reranker=settings.name,
        settings=settings.model_dump(include={"combine", "fuse", "depth", "max_bad"}),
        parts={name: _part(part, outcome.tallies[name]) for name, part in plan.parts.items()},
        topics=task.topics,
        topics_total=outcome.topics,
        topics_answered=outcome.answered,
        first_run=task.first_run,
        topics_without_candidates=empty,
        calls_from_journal=outcome.tally.from_journal,
        statuses=outcome.tally.statuses,
        seconds=outcome.seconds,
        warnings=outcome.warnings,
    )


def _part(plan: Single, tally: Tally) -> Part:
    settings = plan.settings
    names = {
        "judge",
        "strategy",
        "fuse",
        "collection",
        "passage_tokens",
        "query_tokens",
        "mend",
        "max_model_len",
        "on_error",
    }
    return Part(
        model=plan.engine.model,
        prompt=plan.template.name,
        prompt_sha256=plan.template.sha256,
        sampling=settings.sampling.sampling(),
        settings=settings.model_dump(include=names)
        | {"engine": {"name": plan.engine.name, **plan.engine.options.model_dump()}},
        calls=tally.calls,
        prompt_tokens=tally.prompt_tokens,
        output_tokens=tally.output_tokens,
        rankings=tally.rankings,
    )
