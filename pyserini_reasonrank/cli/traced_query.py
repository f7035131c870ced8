"""One query of a run with its texts and prompts, which the journal does not store."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from pyserini_reasonrank.cli.rerank import requests_of
from pyserini_reasonrank.cli.trace_text import TracedQuery
from pyserini_reasonrank.errors import Failure, UsageError
from pyserini_reasonrank.ir.runs import DUPLICATES
from pyserini_reasonrank.journal import prompt_sha256
from pyserini_reasonrank.journal_reader import RecordedCall, contexts, export, rankings, recorded_calls
from pyserini_reasonrank.records import Prompt, Request
from pyserini_reasonrank.run.prompt_replay import Place, prompts_of
from pyserini_reasonrank.run.recorded_run import RecordedRun, Restored, restored
from pyserini_reasonrank.settings.schema import Settings


@dataclass(frozen=True, slots=True)
class Texts:
    """The flags that name the texts; None: as in the run."""

    topics: str | None = None
    index: str | None = None
    corpus: str | None = None
    candidates: str | None = None

    @classmethod
    def of(cls, options: argparse.Namespace) -> Texts:
        return cls(options.topics, options.index, options.corpus, options.candidates)


def traced(run: RecordedRun, qid: str, texts: Texts) -> TracedQuery:
    """The query ``qid`` of a run. UsageError if the run has no such query, or if the journal is not that of the run.

    Without the settings or the texts of the run, the query has no passages and prompts, and a note that says why.
    """
    run.check_qid(qid)
    run.check_rankings(qid)
    [ranking] = rankings(run.journal, qid, run.name)
    judgements = list(export(run.journal, qid, run.name))
    name = str(run.output or run.journal)
    try:
        found = restored(run)
        request = asyncio.run(_request(found, qid, texts))
    except (UsageError, Failure) as error:
        note = f"passages and prompts are not shown: {error}; --topics and --corpus, --index or --candidates name the texts"
        return TracedQuery(qid, name, ranking, judgements, note=note)
    passages = {candidate.docid: candidate.text for candidate in request.candidates}
    calls = list(recorded_calls(run.journal, run.name, qid))
    try:
        found.check(run.output)
        prompts = asyncio.run(prompts_of(found.plan, request, calls, contexts(run.journal)))
    except UsageError as error:
        return TracedQuery(
            qid, name, ranking, judgements, request.query.text, passages, note=f"prompts are not shown: {error}"
        )
    return TracedQuery(qid, name, ranking, judgements, request.query.text, passages, checked(prompts, calls))


def checked(prompts: Mapping[Place, Prompt], calls: Sequence[RecordedCall]) -> dict[Place, tuple[Prompt, bool]]:
    """The prompts with whether they have the recorded hashes."""
    hashes = {(call.part, call.number, call.turn): call.prompt_sha256 for call in calls}
    return {place: (prompt, hashes.get(place) in ("", prompt_sha256(prompt))) for place, prompt in prompts.items()}


async def _request(found: Restored, qid: str, texts: Texts) -> Request:
    """The query with its candidates. UsageError if they can't be read, or do not contain it."""
    settings, inputs = found.plan.settings, dict(found.inputs)
    given = {name: value for name, value in asdict(texts).items() if value is not None}
    if given.keys() & {"index", "corpus", "candidates"}:
        inputs = {name: value for name, value in inputs.items() if name not in ("index", "corpus", "candidates")}
        settings = settings.model_copy(update={"corpus": None})
    inputs |= given
    if "," not in qid and not Path(qid).exists():
        inputs["qids"] = qid
        inputs.pop("shard", None)
    async with AsyncExitStack() as stack:
        _, requests = await requests_of(inputs_as_options(inputs, settings), settings, stack)
        async for request in requests:
            if request.query.qid == qid:
                return request
    raise UsageError(f"the topics have no query {qid!r}")


def inputs_as_options(inputs: Mapping[str, str], settings: Settings) -> argparse.Namespace:
    """``inputs`` as the options of ``rerank``."""
    names = ("run", "topics", "index", "corpus", "candidates", "qids", "shard")
    options = argparse.Namespace(**{name: inputs.get(name) for name in names})
    for name in ("run", "corpus", "candidates"):
        if getattr(options, name) is not None:
            setattr(options, name, Path(getattr(options, name)))
    options.duplicates = inputs.get("duplicates", DUPLICATES[0])
    return options
