"""The rewriting of topics: queries in; a topics file, a journal and a record out."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pyserini_reasonrank import interrupts
from pyserini_reasonrank.errors import CallFailed, Failure, UsageError, listed
from pyserini_reasonrank.ir.rewrite_record import RewriteRecord
from pyserini_reasonrank.ir.topics import one_line, write_topics
from pyserini_reasonrank.journal import Journal, journal_of, run_name
from pyserini_reasonrank.journal_reader import contexts
from pyserini_reasonrank.records import Candidate, Judgement, Query, Request
from pyserini_reasonrank.rerankers.scheduling import MAX_AHEAD, rerank_all
from pyserini_reasonrank.run.candidates import stream
from pyserini_reasonrank.run.notices import Notices, as_error
from pyserini_reasonrank.run.outputs import committing
from pyserini_reasonrank.run.pipeline import part_record
from pyserini_reasonrank.run.progress import LINE_SECONDS, Progress
from pyserini_reasonrank.run.rewriting.asking import RewriteSession
from pyserini_reasonrank.run.rewriting.plan import RewritePlan, of_rewrites, speaking_of_rewrites
from pyserini_reasonrank.run.rewriting.texts import search_text
from pyserini_reasonrank.run.session import close
from pyserini_reasonrank.run.starting import Starter

NAMED = 10
"""The number of queries that a message names; it counts the others."""

Passages = Mapping[str, tuple[Candidate, ...]]
Search = Callable[[Sequence[Query]], Awaitable[Passages]]
"""Search with the texts of queries: the top passages by qid."""


@dataclass(frozen=True, slots=True)
class RewriteTask:
    """The queries to rewrite, and the topics file to write.

    ``search`` finds the passages that later rounds show. ``announced``: warnings are printed on stderr as soon as they are
    known. ``progress_seconds`` is the time between two lines of progress if stderr is not a terminal. ``fingerprint``
    identifies the settings, if the topics file is the output that the command has claimed.
    """

    queries: Sequence[Query]
    output: Path
    search: Search | None = None
    announced: bool = False
    progress_seconds: float = LINE_SECONDS
    fingerprint: str = ""


@dataclass(slots=True)
class _Texts:
    """What is searched for each query so far, and which of these texts are rewrites."""

    texts: dict[str, str]
    rewritten: set[str] = field(default_factory=set)
    cut: set[str] = field(default_factory=set)

    def queries(self, originals: Sequence[Query]) -> list[Query]:
        return [Query(query.qid, self.texts[query.qid]) for query in originals]


async def rewrite(plan: RewritePlan, task: RewriteTask) -> RewriteRecord:
    """Rewrite every query of ``task`` by ``plan``, and write the topics file.

    A query without a readable rewrite is searched with its text of the round before, the original one in the first round.
    Each round ends before the next begins. Failure if an engine dies, a call failed (the other queries of the round are
    finished), or too many answers are bad; the same command then resumes from the journal. With the setting ``strict``,
    warnings are errors.
    """
    began = time.monotonic()
    settings, engine = plan.settings, plan.part.engine
    path = Path(settings.journal or journal_of(task.output))
    async with Progress(task.progress_seconds) as progress:
        notices = Notices(progress.warn if task.announced else lambda warning: None)
        notices.add(plan.warnings)
        try:
            with speaking_of_rewrites():
                starter = Starter([engine], contexts(path), progress.say)
                await starter.start()
                loaded = time.monotonic()
                with (
                    contextlib.closing(Journal(path, run_name(plan.tag, task.output, path))) as journal,
                    interrupts.cleaning(journal.flush),
                ):
                    rewriter = RewriteSession(plan, journal, starter.ready)
                    progress.tally = lambda: rewriter.tally
                    progress.waiting = lambda: rewriter.waiting
                    for identity, context in starter.contexts().items():
                        journal.loaded(identity, context)
                    if (early := notices.add(map(of_rewrites, rewriter.warnings))) and settings.strict:
                        raise UsageError(as_error(early))
                    for query in task.queries:
                        rewriter.check(query)
                    texts = await _rounds(rewriter, plan, task, progress, notices)
                    if (
                        late := notices.add([*map(of_rewrites, rewriter.warnings), *_cuts(plan, texts)])
                    ) and settings.strict:
                        raise Failure(as_error(late))
                    await journal.settle()
        finally:
            await close([engine])
    loaded += starter.late_seconds
    if task.fingerprint:
        committing(task.output, task.fingerprint)
    write_topics(task.output, texts.queries(task.queries))
    return RewriteRecord(
        rewriter=settings.name,
        part=part_record(plan.part, rewriter.tally, _RECORDED),
        settings=settings.model_dump(include={"rounds", "originals", "depth", "most_terms"}),
        topics=len(task.queries),
        kept=[query.qid for query in task.queries if query.qid not in texts.rewritten],
        cut=len(texts.cut),
        output=task.output,
        journal=path,
        seconds={"load": loaded - began, "rewrite": time.monotonic() - loaded},
        warnings=notices.found,
    )


async def _rounds(
    rewriter: RewriteSession, plan: RewritePlan, task: RewriteTask, progress: Progress, notices: Notices
) -> _Texts:
    """Rewrite the queries in every round. UsageError if a round needs a search and there is none."""
    settings = plan.settings
    if settings.rounds > 1 and task.search is None:
        raise UsageError("--rewrite.rounds above 1 needs a search: use python -m pyserini.search ... --rewrite NAME")
    found: Passages = {}
    texts = _Texts({query.qid: one_line(query.text) for query in task.queries})
    for number in range(settings.rounds):
        if number and task.search is not None:
            progress.say("searching")
            found = await task.search(texts.queries(task.queries))
        progress.say("rewriting")
        requests = [
            Request(query, found.get(query.qid, ())[: settings.depth], i) for i, query in enumerate(task.queries)
        ]
        progress.expect(len(requests))
        judgements = await _asked(rewriter, requests, number)
        _check_bad(rewriter, settings.max_bad)
        unread = []
        for request in requests:
            query, judgement = request.query, judgements[request.query.qid]
            if judgement.status.bad:
                unread.append((query.qid, judgement))
                continue
            texts.texts[query.qid], cut = search_text(
                query.text, judgement.text, settings.originals, settings.most_terms
            )
            texts.rewritten.add(query.qid)
            (texts.cut.add if cut else texts.cut.discard)(query.qid)
        if (new := notices.add(_unread(unread, number))) and settings.strict:
            raise Failure(as_error(new))
    for request in requests:
        rewriter.record(request, texts.texts[request.query.qid])
    return texts


async def _asked(rewriter: RewriteSession, requests: Sequence[Request], number: int) -> dict[str, Judgement]:
    """The answers of a round by qid. Failure if a call failed; the other queries are finished before."""
    judgements, failures = dict[str, Judgement](), list[CallFailed]()

    async def ask(request: Request) -> tuple[str, Judgement]:
        return request.query.qid, await rewriter.ask(request, number)

    def done(answer: tuple[str, Judgement]) -> None:
        judgements[answer[0]] = answer[1]

    def failed(request: Request, error: CallFailed) -> None:
        failures.append(error)

    arriving: AsyncIterator[Request] = stream(requests)
    width = rewriter.width
    await rerank_all(arriving, ask, width=width, ahead=min(2 * width, MAX_AHEAD), done=done, failed=failed)
    if failures:
        names = sorted(failure.qid for failure in failures)
        raise Failure(
            f"the rewriting of {len(names)} of {len(requests)} queries failed ({listed(names, NAMED)}), first {failures[0]}: "
            "run the same command again to retry, or search with their original queries with --rewrite.on_error keep"
        )
    return judgements


def _check_bad(rewriter: RewriteSession, most: float) -> None:
    if rewriter.tally.bad_share > most:
        raise Failure(f"{rewriter.tally.bad_of('rewrites')}, above --rewrite.max_bad {most:g}")


def _unread(unread: Sequence[tuple[str, Judgement]], number: int) -> list[str]:
    """A warning about the queries that were not rewritten in a round."""
    if not unread:
        return []
    statuses = [str(judgement.status) for _, judgement in unread]
    counted = ", ".join(f"{statuses.count(status)} {status}" for status in sorted(set(statuses)))
    where, kept = (f" in round {number + 1}", "that of the round before") if number else ("", "their original query")
    return [
        f"queries without a readable rewrite{where}: {len(unread)} ({counted}), searched with {kept}: "
        f"{listed([qid for qid, _ in unread], NAMED)}"
    ]


def _cuts(plan: RewritePlan, texts: _Texts) -> list[str]:
    if not texts.cut:
        return []
    return [
        f"queries cut to --rewrite.most_terms {plan.settings.most_terms} different words: "
        f"{listed(sorted(texts.cut), NAMED)}"
    ]


_RECORDED = {
    "judge",
    "passage_tokens",
    "query_tokens",
    "passage",
    "instruction",
    "max_model_len",
    "on_error",
    "max_bad",
}
