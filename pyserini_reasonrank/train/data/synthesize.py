"""Have a teacher label lists with its reasoning: ReasonRank's data synthesis, with any engine as the teacher.

ReasonRank, arXiv 2508.07050, section 4.1: the teacher sees the answer when it selects positives and hard negatives, but
not when it orders a list, so that its reasoning is that of serving. A list whose order contradicts the selected
positives is dropped. A journal records every call, so an interrupted run continues where it stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.file_io import atomic, check_plain
from pyserini_reasonrank.ir.tables import table
from pyserini_reasonrank.journal import Journal, journal_of
from pyserini_reasonrank.records import Query, Tally
from pyserini_reasonrank.rerankers.scheduling import together
from pyserini_reasonrank.run.cost import estimate
from pyserini_reasonrank.run.parts import SinglePlan
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.run.progress import Progress
from pyserini_reasonrank.run.session import Session
from pyserini_reasonrank.settings import layers
from pyserini_reasonrank.train.data.labelling import Config, Labeller, LabellingData, LabellingOutcome, read_data
from pyserini_reasonrank.train.data.row_builder import RowBuilder
from pyserini_reasonrank.train.data.rows import Audit, write_rows
from pyserini_reasonrank.train.data.selection import Selector

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)  # the paper's grid


def run(config: Config) -> None:
    """Print the cost, label, filter, write rows and records, and print the filter rates."""
    check_plain(config.output)
    here = not config.cost
    made = plan(*layers.load(config.teacher.reranker, config.teacher.settings, here=here), here=here)
    teacher = made.parts.get("")
    if teacher is None:
        raise UsageError(f"{config.teacher.reranker} combines several rerankers: name a single reranker as the teacher")
    data = read_data(config)
    builder = RowBuilder(config.reranker, config.model, config.rerank, widest=config.size)
    print(cost_of(config, teacher, data))
    if config.cost:
        return
    config.output.parent.mkdir(parents=True, exist_ok=True)
    outcomes, tallies = asyncio.run(_label(config, teacher, data))
    queries, rows = Audit("queries"), Audit()
    kept = [one.labelled for one in outcomes if queries.note(one.fault, f"query {one.query.qid}") and one.labelled]
    print(_report(config, outcomes, queries, tallies))
    _write_records(config, outcomes)
    count = write_rows(config.output, (row for one in kept for row in builder.usable_rows(one, rows)))
    warnings = [f"warning: {warning}" for warning in builder.warnings]
    print("\n".join([*warnings, str(rows), *builder.reasoning_report(kept), f"{count:,} rows in {config.output}"]))


def cost_of(config: Config, teacher: SinglePlan, data: LabellingData) -> str:
    """A table of the teacher's calls and tokens, as upper bounds without repairs. The journal is not considered."""
    selecting, ordering, shown = _calls(config, teacher, data)
    passage, written = teacher.settings.passage_tokens, teacher.settings.sampling.max_tokens
    rows = [
        ("calls that select positives and negatives", f"{selecting:,}"),
        ("calls that order a list", f"{ordering:,}"),
        ("passages shown", f"{shown:,}"),
        ("prompt tokens of passages", f"{shown * passage:,}" if passage else "not limited: passage_tokens"),
        ("output tokens", f"{(selecting + ordering) * written:,}"),
    ]
    name = f"{len(data.queries):,} queries to {teacher.engine.model.name} on {teacher.engine.name}"
    return table((name, "at most"), rows)


def _calls(config: Config, teacher: SinglePlan, data: LabellingData) -> tuple[int, int, int]:
    """The number of selecting calls, of ordering calls, and of passages shown."""
    runs = [*([] if config.qrels else [data.hits]), *([data.negatives] if config.negatives else [])]
    pools = [len(run.get(query.qid, ())) for run in runs for query in data.queries]
    ordered, per_list = sum(bool(data.hits.get(q.qid)) for q in data.queries), estimate(teacher, config.size)
    selecting = sum(math.ceil(n / config.window) for n in pools)
    return selecting, per_list.calls * ordered, sum(pools) + per_list.shown * ordered


async def _label(
    config: Config, teacher: SinglePlan, data: LabellingData
) -> tuple[list[LabellingOutcome], Mapping[str, Tally]]:
    """The outcome of each query, in the order of the topics."""
    outcomes: dict[int, LabellingOutcome] = {}
    async with _labeller(config, teacher) as (labeller, progress):
        free = asyncio.Semaphore(teacher.engine.options.concurrency)

        async def one(number: int, query: Query) -> None:
            async with free:
                outcomes[number] = await labeller(data, query, number)

        progress.expect(sum(_calls(config, teacher, data)[:2]))
        async with together() as spawn:
            for number, query in enumerate(data.queries):
                spawn(one(number, query))
    return [outcomes[number] for number in sorted(outcomes)], labeller.tallies


@asynccontextmanager
async def _labeller(config: Config, teacher: SinglePlan) -> AsyncIterator[tuple[Labeller, Progress]]:
    """The labeller with its teacher loaded and its journal open."""
    path = Path(teacher.settings.journal or journal_of(config.output))
    try:
        async with Progress() as progress:
            progress.say(f"loading {teacher.engine.model.name}")
            await teacher.engine.start()
            progress.say("labelling")
            with contextlib.closing(Journal(path, f"synthesize-{teacher.tag}")) as journal:
                session = Session(teacher, journal, candidates=config.size)
                wanted = ["useful"] * (config.qrels is None) + ["misleading"] * (config.negatives is not None)
                selectors = {
                    purpose: Selector(purpose, teacher, session.endpoint(teacher.engine), config.window)
                    for purpose in wanted
                }
                labeller = Labeller(config, session.ranker, selectors)
                progress.tally = lambda: sum(labeller.tallies.values(), Tally())
                yield labeller, progress
    finally:
        await teacher.engine.close()


def _report(config: Config, outcomes: Sequence[LabellingOutcome], audit: Audit, tallies: Mapping[str, Tally]) -> str:
    """The rate of each filter, the lists that other thresholds would keep, and the calls to the teacher."""
    agreements = [one.agreement for one in outcomes if one.agreement is not None]
    stages = [("queries", len(outcomes))]
    for fault, count in audit.faults.items():
        stages.append((f"- {fault}", count))
    stages.append(("kept", audit.kept))
    rows = [(what, f"{count:,}", f"{count / len(outcomes):.1%}") for what, count in stages]
    lines = [table(("filter", "queries", "share"), rows)]
    if agreements:
        kept = ", ".join(f"{t:g}: {sum(a >= t for a in agreements):,}" for t in THRESHOLDS)
        mean = sum(agreements) / len(agreements)
        lines.append(
            f"{len(agreements):,} lists ordered, mean nDCG@10 {mean:.3f} against the positives; lists kept by threshold: {kept}"
        )
    lines += [
        f"{name}: {tally} ({tally.calls:,} calls, {tally.from_journal:,} from the journal)"
        for name, tally in tallies.items()
    ]
    return "\n".join(lines)


def _write_records(config: Config, outcomes: Sequence[LabellingOutcome]) -> None:
    """Write all ordered lists in the format of ReasonRank's release, including those below the threshold."""
    with atomic(config.output.with_name(f"{config.output.name}.records.jsonl")) as file:
        for one in outcomes:
            if (labelled := one.labelled) is None:
                continue
            record = {
                "dataset": labelled.source,
                "qid": one.query.qid,
                "query": one.query.text,
                "initial_list": [c.docid for c in labelled.candidates],
                "final_list": labelled.gold,
                "reasoning": labelled.reasoning,
                "relevant_docids": [
                    c.docid for c, gain in zip(labelled.candidates, labelled.gains, strict=True) if gain > 0
                ],
                "agreement": one.agreement,
            }
            file.write(json.dumps(record, ensure_ascii=False).encode(errors="replace") + b"\n")
