"""One query of a rewriting with its prompts, whose passages are read again for the rounds after a search."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

from pyserini_reasonrank.cli.rerank import requests_of
from pyserini_reasonrank.cli.trace_text import TracedQuery
from pyserini_reasonrank.cli.traced_query import Texts, checked, inputs_as_options
from pyserini_reasonrank.errors import Failure, UsageError
from pyserini_reasonrank.interrupts import temporary_folder
from pyserini_reasonrank.ir.run_writer import run_lines
from pyserini_reasonrank.ir.runs import RunFormat
from pyserini_reasonrank.ir.topics import read_topics, write_topics
from pyserini_reasonrank.journal_reader import contexts, export, rankings, recorded_calls
from pyserini_reasonrank.records import Candidate, Query
from pyserini_reasonrank.run.named_inputs import local_file
from pyserini_reasonrank.run.rewriting.recorded import (
    RecordedRewriting,
    RestoredRewriting,
    prompts_of_rewriting,
    restored_rewriting,
)


def traced_rewrite(run: RecordedRewriting, qid: str, texts: Texts) -> TracedQuery:
    """The query ``qid`` of a rewriting.

    UsageError if there is no such query, if the journal is of other topics, and for candidates, which it does not have.

    Without the settings or the topics, the query has no prompts; without the texts of the index or the corpus, it has none
    of the rounds that show passages. A note says why.
    """
    if texts.candidates is not None:
        raise UsageError(
            "--candidates has the texts of a run; those of rewritten topics are --topics, --corpus and --index"
        )
    run.check_qid(qid)
    run.check_rankings(qid)
    [ranking] = rankings(run.journal, qid, run.name)
    judgements = list(export(run.journal, qid, run.name))
    name = str(run.output or run.journal)
    calls = list(recorded_calls(run.journal, run.name, qid))
    passages, note = dict[str, Candidate](), ""
    try:
        found = restored_rewriting(run)
        query = _query(found, qid, texts)
    except (UsageError, Failure) as error:
        note = f"prompts are not shown: {error}; --topics names the original topics"
        return TracedQuery(qid, name, ranking, judgements, note=note, rewritten=True)
    docids = list(dict.fromkeys(docid for call in calls for docid in call.docids))
    try:
        passages = asyncio.run(_passages(found, query, docids, texts)) if docids else {}
    except (UsageError, Failure) as error:
        note = f"prompts with passages are not shown: {error}; --corpus or --index names the texts"
    prompts = asyncio.run(prompts_of_rewriting(found.plan, query, calls, passages, contexts(run.journal)))
    shown = {docid: candidate.text for docid, candidate in passages.items()}
    return TracedQuery(qid, name, ranking, judgements, query.text, shown, checked(prompts, calls), note, rewritten=True)


def _query(found: RestoredRewriting, qid: str, texts: Texts) -> Query:
    if texts.topics is None:
        queries = found.queries()
    else:
        with local_file("topics", texts.topics) as topics:
            queries = read_topics(topics)
    query = next((query for query in queries if query.qid == qid), None)
    if query is None:
        raise UsageError(f"the topics have no query {qid!r}")
    return query


async def _passages(found: RestoredRewriting, query: Query, docids: list[str], texts: Texts) -> dict[str, Candidate]:
    """The documents ``docids`` with their texts. UsageError or Failure if they can't be read."""
    corpus, index = texts.corpus, texts.index
    if corpus is None and index is None:
        corpus, index = found.corpus, found.found.index
    settings = found.plan.settings.model_copy(update={"corpus": None, "exclude": None, "depth": len(docids)})
    with temporary_folder() as folder:
        run, topics = Path(folder, "run.txt"), Path(folder, "topics.tsv")
        run.write_text(run_lines(query.qid, docids, "passages", RunFormat.TREC), encoding="utf-8")
        write_topics(topics, [query])
        inputs = {"run": str(run), "topics": str(topics)}
        inputs |= {"corpus": corpus} if corpus else {"index": str(index)}
        async with AsyncExitStack() as stack:
            _, requests = await requests_of(inputs_as_options(inputs, settings), settings, stack)
            return {one.docid: one async for request in requests for one in request.candidates}
