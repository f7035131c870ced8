"""The labelling stages of a query: positives, hard negatives, the teacher's order with its reasoning, a check."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.corpus import corpus_texts
from pyserini_reasonrank.ir.file_io import read_lines
from pyserini_reasonrank.ir.qrels import Qrels, read_qrels
from pyserini_reasonrank.ir.runs import Hit, Run, read_run
from pyserini_reasonrank.ir.topics import read_topics
from pyserini_reasonrank.records import Candidate, Query, Request, Status, Tally
from pyserini_reasonrank.rerankers.reranker import Ranker
from pyserini_reasonrank.train.data.index_texts import hits_with_texts
from pyserini_reasonrank.train.data.lists import LabelledList
from pyserini_reasonrank.train.data.selection import Selector
from pyserini_reasonrank.train.rewards.measures import ndcg
from pyserini_reasonrank.train.settings import Published


class TeacherSettings(BaseModel):
    """The teacher: a reranker that orders the lists and whose engine selects the passages."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reranker: Annotated[str, Field(description="listwise reranker that orders the lists")] = "reasonrank"
    settings: Annotated[
        dict[str, Any], Field(description="settings of the teacher, as under --rerank: engine, model, ...")
    ] = {}


class Config(BaseModel):
    """Settings of ``train synthesize``: the queries, the teacher, and the reranker to train."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    teacher: Annotated[TeacherSettings, Field(description="the reranker that labels the lists")] = TeacherSettings()
    reranker: Annotated[str, Field(description="reranker to train")]
    model: Annotated[str, Field(description="model to train; its tokenizer cuts the passages")]
    rerank: Annotated[dict[str, Any], Field(description="settings of the reranker to train, as under --rerank")] = {}
    topics: Annotated[Path, Field(description="queries as TSV or JSON lines")]
    run: Annotated[Path, Field(description="first-stage run to select positives from")]
    corpus: Annotated[Path, Field(description="corpus as JSON lines")]
    answers: Annotated[Path | None, Field(description='accepted answers, JSON lines of {"qid", "answer"}')] = None
    qrels: Annotated[Path | None, Field(description="known positives; the teacher then selects none")] = None
    negatives: Annotated[
        Path | None,
        Field(description="run to select hard negatives from; default: passages not selected"),
    ] = None
    negatives_index: Annotated[
        str | None,
        Field(
            description="Lucene index with the texts of `negatives`, a folder or a prebuilt one, as of a web collection; "
            "default: corpus"
        ),
    ] = None
    depth: Annotated[int, Field(ge=1, description="number of candidates of a run to select from")] = 40
    window: Annotated[int, Field(ge=1, description="number of candidates in a selection prompt")] = 20
    size: Annotated[int, Field(ge=2, description="maximum number of passages in a list")] = 20
    threshold: Annotated[
        float, Field(ge=0, le=1, description="minimum nDCG@10 of the teacher's order against the positives")
    ] = 0.4
    repaired: Annotated[
        bool, Field(description="also accept orders that had to be repaired: incomplete, or reasoning cut and closed")
    ] = False
    output: Annotated[
        Path, Field(description="file of rows; OUTPUT.records.jsonl and OUTPUT.journal.sqlite are written beside it")
    ]
    queries: Annotated[int | None, Field(ge=1, description="use only this many queries from the start")] = None
    source: Annotated[str | None, Field(description="name of the data; default: the folder of the topics")] = None
    seed: Annotated[int, Field(description="seed of every draw and shuffle")] = 929
    cost: Annotated[bool, Field(description="print the cost and stop")] = False
    published: Annotated[Published | None, Field(description="the published data that these settings reproduce")] = None


@dataclass(frozen=True, slots=True)
class LabellingData:
    """The queries in order, their accepted answers, the candidate pools by qid, and the texts of all candidates."""

    queries: Sequence[Query]
    answers: Mapping[str, str]
    hits: Run
    negatives: Run
    qrels: Qrels
    texts: Mapping[str, str]

    def selection_request(self, query: Query, hits: Sequence[Hit], number: int) -> Request:
        candidates = tuple(Candidate(hit.docid, hit.score, self.texts[hit.docid]) for hit in hits)
        answer = self.answers.get(query.qid)
        text = f"{query.text} - Answer: {answer}" if answer else query.text
        return Request(Query(query.qid, text), candidates, number)


def read_data(config: Config) -> LabellingData:
    """Read the files that ``config`` names. UsageError if a file can't be used."""
    queries = read_topics(config.topics)[: config.queries]
    hits = {q: found[: config.depth] for q, found in read_run(config.run).items()}
    negatives: Run = {}
    others: Mapping[str, str] = {}
    if config.negatives and config.negatives_index:
        negatives, others = hits_with_texts(config.negatives, config.topics, config.negatives_index, config.depth)
    elif config.negatives:
        negatives = {q: found[: config.depth] for q, found in read_run(config.negatives).items()}
    elif config.negatives_index:
        raise UsageError("--negatives_index holds the texts of a run: set --negatives")
    qids = {query.qid for query in queries}
    docids = {hit.docid for run in (hits, negatives) for qid, found in run.items() if qid in qids for hit in found}
    docids -= others.keys()
    return LabellingData(
        queries,
        _read_answers(config.answers) if config.answers else {},
        hits,
        negatives,
        read_qrels(config.qrels) if config.qrels else {},
        {**corpus_texts(config.corpus, docids), **others},
    )


def _read_answers(path: Path) -> dict[str, str]:
    answers = {}
    for where, line in read_lines(path):
        try:
            record = json.loads(line)
            answers[str(record["qid"])] = str(record["answer"])
        except (ValueError, KeyError, TypeError):
            raise UsageError(f'{where} is not {{"qid": ..., "answer": ...}}') from None
    return answers


@dataclass(frozen=True, slots=True)
class LabellingOutcome:
    """The result for a query: its labelled list and the nDCG@10 of the teacher's order, or the fault."""

    query: Query
    labelled: LabelledList | None = None
    agreement: float | None = None
    fault: str | None = None


class Labeller:
    """Runs the labelling stages for a query."""

    def __init__(self, config: Config, ranker: Ranker, selectors: Mapping[str, Selector]) -> None:
        self._config, self._ranker, self._selectors = config, ranker, selectors

    @property
    def tallies(self) -> Mapping[str, Tally]:
        return {**{purpose: s.tally for purpose, s in self._selectors.items()}, "order": self._ranker.tally}

    async def __call__(self, data: LabellingData, query: Query, number: int) -> LabellingOutcome:
        config, hits = self._config, data.hits.get(query.qid, [])
        if not hits:
            return LabellingOutcome(query, fault="no candidates to select from")
        positives = await self._positives(data, query, hits, number)
        if positives is None:
            return LabellingOutcome(query, fault="the selection of positives can't be read")
        if not positives:
            return LabellingOutcome(query, fault="no positive")
        hard = await self._hard_negatives(data, query, set(positives), number)
        if hard is None:
            return LabellingOutcome(query, fault="the selection of negatives can't be read")
        unordered = self._list(data, query, hits, positives, hard)
        if min(unordered.gains) == max(unordered.gains):
            return LabellingOutcome(query, fault="no negative")
        ranked = await self._ranker.rank(Request(query, unordered.candidates, number), part="order")
        accepted = (Status.OK, Status.REPAIRED) if config.repaired else (Status.OK,)
        if bad := sorted(status for status in ranked.statuses if status not in accepted):
            return LabellingOutcome(query, fault=f"the order is {bad[0]}")
        agreement = ndcg(ranked.order, unordered.gains)
        gold = tuple(unordered.candidates[i].docid for i in ranked.order)
        labelled = replace(unordered, gold=gold, reasoning=ranked.reasoning)
        low = agreement < config.threshold
        fault = f"the order contradicts the positives (nDCG@10 below {config.threshold:g})" if low else None
        return LabellingOutcome(query, labelled, agreement, fault)

    async def _positives(self, data: LabellingData, query: Query, hits: Sequence[Hit], number: int) -> list[str] | None:
        if self._config.qrels is not None:
            grades = data.qrels.get(query.qid, {})
            return [hit.docid for hit in hits if grades.get(hit.docid, 0) > 0]
        selected = await self._selectors["useful"].select(data.selection_request(query, hits, number))
        return None if selected is None else [hits[i].docid for i in selected]

    async def _hard_negatives(
        self, data: LabellingData, query: Query, positives: set[str], number: int
    ) -> list[str] | None:
        if "misleading" not in self._selectors:
            return []
        pool = [hit for hit in data.negatives.get(query.qid, []) if hit.docid not in positives]
        if not pool:
            return []
        selected = await self._selectors["misleading"].select(data.selection_request(query, pool, number))
        return None if selected is None else [pool[i].docid for i in selected]

    def _list(
        self, data: LabellingData, query: Query, hits: Sequence[Hit], positives: Sequence[str], hard: Sequence[str]
    ) -> LabelledList:
        """Positives, hard negatives and a sample of the other candidates, shuffled, without repeated texts."""
        config, chance = self._config, random.Random(f"{self._config.seed} {query.qid}")
        ranks = {hit.docid: rank for rank, hit in enumerate(hits, 1)}
        rest = [docid for docid in ranks if docid not in {*positives, *hard}]
        chance.shuffle(rest)
        head = [*positives[: config.size - 1], *hard, *rest]
        texts = {" ".join(data.texts[docid].split()): docid for docid in reversed(head)}
        chosen = [docid for docid in head if docid in set(texts.values())][: config.size]
        chance.shuffle(chosen)
        return LabelledList(
            query,
            tuple(Candidate(docid, -float(i), data.texts[docid]) for i, docid in enumerate(chosen)),
            tuple(float(docid in set(positives)) for docid in chosen),
            tuple(ranks.get(docid, len(hits) + 1) for docid in chosen),
            config.source or config.topics.resolve().parent.name,
        )
