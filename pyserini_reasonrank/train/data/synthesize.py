"""Let a teacher label lists with its reasoning: ReasonRank's data synthesis, with any engine as the teacher.

ReasonRank, arXiv 2508.07050, section 4.1: the teacher picks positives (and hard negatives) knowing the answer, then
orders a list without knowing it, so that its thoughts are those of serving. A list whose order does not agree with the
picked positives is dropped. Every call is on record, so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.files import atomic
from pyserini_reasonrank.journal import Journal
from pyserini_reasonrank.records import Query, Tally
from pyserini_reasonrank.rerankers.scheduling import together
from pyserini_reasonrank.run.cost import estimate
from pyserini_reasonrank.run.parts import SinglePlan
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.run.progress import Progress
from pyserini_reasonrank.run.session import Session
from pyserini_reasonrank.settings import layers
from pyserini_reasonrank.tables import table
from pyserini_reasonrank.train.data.builder import Asking
from pyserini_reasonrank.train.data.labelling import Config, Labelled, Labeller, Work, read_work
from pyserini_reasonrank.train.data.rows import Audit, write_rows
from pyserini_reasonrank.train.data.useful import Selector

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)  # the paper's grid


def run(config: Config) -> None:
    """Tell the cost, label, filter, write rows and records, and print the rates."""
    made = plan(*layers.load(config.teacher.reranker, config.teacher.settings))
    teacher = made.parts.get("")
    if teacher is None:
        raise UsageError(f"{config.teacher.reranker} combines several rerankers; a teacher is a single one")
    work = read_work(config)
    asking = Asking(config.reranker, config.model, config.rerank, widest=config.size)
    print(cost_of(config, teacher, work))
    if config.cost:
        return
    config.output.parent.mkdir(parents=True, exist_ok=True)
    labelled, tallies = asyncio.run(_label(config, teacher, work))
    queries, rows = Audit("queries"), Audit()
    kept = [one.listed for one in labelled if queries.note(one.fault, f"query {one.query.qid}") and one.listed]
    print(_report(config, labelled, queries, tallies))
    _write_records(config, labelled)
    count = write_rows(config.output, (row for one in kept for row in asking.fitting(one, rows)))
    thoughts = asking.unthought(kept)
    print(
        "\n".join(
            [*(f"warning: {w}" for w in asking.warnings), str(rows), *thoughts, f"{count:,} rows in {config.output}"]
        )
    )


def cost_of(config: Config, teacher: SinglePlan, work: Work) -> str:
    """What the teacher will be asked, at most; what a journal already holds is not reckoned with, nor are repairs."""
    picking, ordering, shown = _asked_for(config, teacher, work)
    passage, written = teacher.settings.passage_tokens, teacher.settings.sampling.max_tokens
    rows = [
        ("calls that pick positives and negatives", f"{picking:,}"),
        ("calls that order a list", f"{ordering:,}"),
        ("passages shown", f"{shown:,}"),
        ("prompt tokens of passages", f"{shown * passage:,}" if passage else "not limited: passage_tokens"),
        ("output tokens", f"{(picking + ordering) * written:,}"),
    ]
    name = f"{len(work.queries):,} queries to {teacher.engine.model.name} on {teacher.engine.name}"
    return table((name, "at most"), rows)


def _asked_for(config: Config, teacher: SinglePlan, work: Work) -> tuple[int, int, int]:
    """Calls that pick, calls that order, passages shown."""
    runs = [*([] if config.qrels else [work.hits]), *([work.negatives] if config.negatives else [])]
    pools = [len(run.get(query.qid, ())) for run in runs for query in work.queries]
    ordered, per_list = sum(bool(work.hits.get(q.qid)) for q in work.queries), estimate(teacher, config.size)
    picking = sum(math.ceil(n / config.window) for n in pools)
    return picking, per_list.calls * ordered, sum(pools) + per_list.shown * ordered


async def _label(config: Config, teacher: SinglePlan, work: Work) -> tuple[list[Labelled], Mapping[str, Tally]]:
    """Every query's list, in the order of the topics."""
    labelled: dict[int, Labelled] = {}
    async with _asked(config, teacher) as (labeller, progress):
        free = asyncio.Semaphore(teacher.engine.options.concurrency)

        async def one(number: int, query: Query) -> None:
            async with free:
                labelled[number] = await labeller(work, query, number)

        progress.expect(sum(_asked_for(config, teacher, work)[:2]))
        async with together() as spawn:
            for number, query in enumerate(work.queries):
                spawn(one(number, query))
    return [labelled[number] for number in sorted(labelled)], labeller.tallies


@asynccontextmanager
async def _asked(config: Config, teacher: SinglePlan) -> AsyncIterator[tuple[Labeller, Progress]]:
    """The labeller, its teacher loaded and its journal open."""
    path = Path(teacher.settings.journal or f"{config.output}.journal.sqlite")
    try:
        with Progress() as progress:
            progress.say(f"loading {teacher.engine.model.name}")
            await teacher.engine.start()
            progress.say("labelling")
            with contextlib.closing(Journal(path, f"synthesize-{teacher.tag}")) as journal:
                watch: Callable[[], None] = lambda: progress.show(sum(labeller.tallies.values(), Tally()))  # noqa: E731
                session = Session(teacher, journal, watch, candidates=config.size)
                wanted = ["useful"] * (config.qrels is None) + ["misleading"] * (config.negatives is not None)
                selectors = {
                    purpose: Selector(purpose, teacher, session.endpoint(teacher.engine), config.window, watch)
                    for purpose in wanted
                }
                labeller = Labeller(config, session.ranker, selectors)
                yield labeller, progress
    finally:
        await teacher.engine.close()


def _report(config: Config, labelled: Sequence[Labelled], audit: Audit, tallies: Mapping[str, Tally]) -> str:
    """The rates of every filter, what other thresholds would have kept, and what the teacher was asked."""
    agreements = [one.agreement for one in labelled if one.agreement is not None]
    stages = [("queries", len(labelled))]
    for fault, count in audit.faults.items():
        stages.append((f"- {fault}", count))
    stages.append(("kept", audit.kept))
    rows = [(what, f"{count:,}", f"{count / len(labelled):.1%}") for what, count in stages]
    lines = [table(("filter", "queries", "share"), rows)]
    if agreements:
        kept = ", ".join(f"{t:g}: {sum(a >= t for a in agreements):,}" for t in THRESHOLDS)
        mean = sum(agreements) / len(agreements)
        lines.append(
            f"{len(agreements):,} lists ordered, mean nDCG@10 {mean:.3f} against the positives; a threshold keeps {kept}"
        )
    lines += [
        f"{name}: {tally} ({tally.calls:,} calls, {tally.from_journal:,} from the journal)"
        for name, tally in tallies.items()
    ]
    return "\n".join(lines)


def _write_records(config: Config, labelled: Sequence[Labelled]) -> None:
    """All ordered lists in the form of ReasonRank's release, those below the threshold too."""
    with atomic(config.output.with_name(f"{config.output.name}.records.jsonl")) as file:
        for one in labelled:
            if (listed := one.listed) is None:
                continue
            record = {
                "dataset": listed.source,
                "qid": one.query.qid,
                "query": one.query.text,
                "initial_list": [c.docid for c in listed.candidates],
                "final_list": listed.gold,
                "reasoning": listed.reasoning,
                "relevant_docids": [
                    c.docid for c, gain in zip(listed.candidates, listed.gains, strict=True) if gain > 0
                ],
                "agreement": one.agreement,
            }
            file.write(json.dumps(record, ensure_ascii=False).encode(errors="replace") + b"\n")
