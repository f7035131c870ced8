"""The stages a query goes through at a teacher's: positives, hard negatives, an order with its reasoning, a check."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.corpus import corpus_texts
from pyserini_reasonrank.ir.files import read_lines
from pyserini_reasonrank.ir.qrels import Qrels, read_qrels
from pyserini_reasonrank.ir.runs import Hit, Run, read_run
from pyserini_reasonrank.ir.topics import read_topics
from pyserini_reasonrank.records import Candidate, Query, Request, Status, Tally
from pyserini_reasonrank.rerankers.reranker import Ranker
from pyserini_reasonrank.train.data.builder import Listed
from pyserini_reasonrank.train.data.useful import Selector
from pyserini_reasonrank.train.rewards.measures import ndcg


class Teacher(BaseModel):
    """Who labels: a reranker, whose engine also selects."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reranker: Annotated[str, Field(description="the listwise reranker that orders the lists")] = "reasonrank"
    settings: Annotated[dict[str, Any], Field(description="its settings, as under --rerank: engine, model, ...")] = {}


class Config(BaseModel):
    """What is labelled, by whom, and for which reranker the rows are made."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    teacher: Annotated[Teacher, Field(description="who labels")] = Teacher()
    reranker: Annotated[str, Field(description="the reranker to train")]
    model: Annotated[str, Field(description="the model to train, whose tokens passages are cut by")]
    rerank: Annotated[dict[str, Any], Field(description="settings of the reranker to train, as under --rerank")] = {}
    topics: Annotated[Path, Field(description="the questions: TSV or JSON lines")]
    run: Annotated[Path, Field(description="first-stage run: what positives are picked from")]
    corpus: Annotated[Path, Field(description="JSON lines that hold the texts")]
    answers: Annotated[Path | None, Field(description='accepted answers, JSON lines of {"qid", "answer"}')] = None
    qrels: Annotated[Path | None, Field(description="positives that are known: nothing is picked then")] = None
    negatives: Annotated[
        Path | None, Field(description="run to pick hard negatives from; without it what is not picked serves")
    ] = None
    depth: Annotated[int, Field(ge=1, description="candidates of a run to pick from")] = 40
    window: Annotated[int, Field(ge=1, description="candidates shown when picking")] = 20
    size: Annotated[int, Field(ge=2, description="passages in a list, at most")] = 20
    threshold: Annotated[
        float, Field(ge=0, le=1, description="nDCG@10 of the teacher's order against the positives, at least")
    ] = 0.4
    repaired: Annotated[
        bool, Field(description="take orders too that were incomplete, or whose thought was cut and closed")
    ] = False
    output: Annotated[Path, Field(description="rows; OUTPUT.records.jsonl and OUTPUT.journal.sqlite lie beside it")]
    queries: Annotated[int | None, Field(ge=1, description="take the first so many")] = None
    source: Annotated[str | None, Field(description="what to call these data, if not by the topics' folder")] = None
    seed: Annotated[int, Field(description="of every draw and shuffle")] = 929
    cost: Annotated[bool, Field(description="tell what it will cost, and stop")] = False


@dataclass(frozen=True, slots=True)
class Work:
    """What the teacher is asked about: queries in order, their answers, pools by qid, and the texts of all of them."""

    queries: Sequence[Query]
    answers: Mapping[str, str]
    hits: Run
    negatives: Run
    qrels: Qrels
    texts: Mapping[str, str]

    def request(self, query: Query, hits: Sequence[Hit], number: int) -> Request:
        candidates = tuple(Candidate(hit.docid, hit.score, self.texts[hit.docid]) for hit in hits)
        answer = self.answers.get(query.qid)
        told = f"{query.text} - Answer: {answer}" if answer else query.text
        return Request(Query(query.qid, told), candidates, number)


def read_work(config: Config) -> Work:
    """Everything that ``config`` names, read."""
    queries = read_topics(config.topics)[: config.queries]
    hits = {q: found[: config.depth] for q, found in read_run(config.run).items()}
    negatives = (
        {q: found[: config.depth] for q, found in read_run(config.negatives).items()} if config.negatives else {}
    )
    qids = {query.qid for query in queries}
    docids = {hit.docid for run in (hits, negatives) for qid, found in run.items() if qid in qids for hit in found}
    return Work(
        queries,
        _read_answers(config.answers) if config.answers else {},
        hits,
        negatives,
        read_qrels(config.qrels) if config.qrels else {},
        corpus_texts(config.corpus, docids),
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
class Labelled:
    """What became of a query: a list and the agreement of its labels (nDCG@10), or why there is none."""

    query: Query
    listed: Listed | None = None
    agreement: float | None = None
    fault: str | None = None


class Labeller:
    """The stages that a query goes through."""

    def __init__(self, config: Config, ranker: Ranker, selectors: Mapping[str, Selector]) -> None:
        self._config, self._ranker, self._selectors = config, ranker, selectors

    @property
    def tallies(self) -> Mapping[str, Tally]:
        return {**{purpose: s.tally for purpose, s in self._selectors.items()}, "order": self._ranker.tally}

    async def __call__(self, work: Work, query: Query, number: int) -> Labelled:
        config, hits = self._config, work.hits.get(query.qid, [])
        if not hits:
            return Labelled(query, fault="nothing to pick from")
        positives = await self._positives(work, query, hits, number)
        if positives is None:
            return Labelled(query, fault="the pick of positives can't be read")
        if not positives:
            return Labelled(query, fault="no positive")
        hard = await self._hard_negatives(work, query, set(positives), number)
        if hard is None:
            return Labelled(query, fault="the pick of negatives can't be read")
        listed = self._list(work, query, hits, positives, hard)
        if min(listed.gains) == max(listed.gains):
            return Labelled(query, fault="no negative")
        ranked = await self._ranker.rank(Request(query, listed.candidates, number), part="order")
        taken = (Status.OK, Status.REPAIRED) if config.repaired else (Status.OK,)
        if bad := sorted(status for status in ranked.statuses if status not in taken):
            return Labelled(query, fault=f"the order is {bad[0]}")
        agreement = ndcg(ranked.order, listed.gains)
        gold = tuple(listed.candidates[i].docid for i in ranked.order)
        labelled = Listed(
            query, listed.candidates, listed.gains, listed.first_stage, listed.source, gold, ranked.reasoning
        )
        low = agreement < config.threshold
        fault = f"the order contradicts the positives (nDCG@10 below {config.threshold:g})" if low else None
        return Labelled(query, labelled, agreement, fault)

    async def _positives(self, work: Work, query: Query, hits: Sequence[Hit], number: int) -> list[str] | None:
        if self._config.qrels is not None:
            grades = work.qrels.get(query.qid, {})
            return [hit.docid for hit in hits if grades.get(hit.docid, 0) > 0]
        picked = await self._selectors["useful"].select(work.request(query, hits, number))
        return None if picked is None else [hits[i].docid for i in picked]

    async def _hard_negatives(self, work: Work, query: Query, positives: set[str], number: int) -> list[str] | None:
        if "misleading" not in self._selectors:
            return []
        pool = [hit for hit in work.negatives.get(query.qid, []) if hit.docid not in positives]
        if not pool:
            return []
        picked = await self._selectors["misleading"].select(work.request(query, pool, number))
        return None if picked is None else [pool[i].docid for i in picked]

    def _list(
        self, work: Work, query: Query, hits: Sequence[Hit], positives: Sequence[str], hard: Sequence[str]
    ) -> Listed:
        """Positives, hard negatives and a sample of what was not picked, shuffled; no text twice."""
        config, chance = self._config, random.Random(f"{self._config.seed} {query.qid}")
        ranks = {hit.docid: rank for rank, hit in enumerate(hits, 1)}
        rest = [docid for docid in ranks if docid not in {*positives, *hard}]
        chance.shuffle(rest)
        head = [*positives[: config.size - 1], *hard, *rest]
        texts = {" ".join(work.texts[docid].split()): docid for docid in reversed(head)}
        chosen = [docid for docid in head if docid in set(texts.values())][: config.size]
        chance.shuffle(chosen)
        return Listed(
            query,
            tuple(Candidate(docid, -float(i), work.texts[docid]) for i, docid in enumerate(chosen)),
            tuple(float(docid in set(positives)) for docid in chosen),
            tuple(ranks.get(docid, len(hits) + 1) for docid in chosen),
            config.source or config.topics.resolve().parent.name,
        )
