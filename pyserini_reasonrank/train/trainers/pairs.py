"""Make preference pairs: the best and the worst rewarded answer among the policy's own samples for each prompt.

For self-exploration (SELM, arXiv 2405.19332) the reward reads the answer itself. For an order adjuster (CoRanking, arXiv
2503.23427) the answer is the input order of a larger reranker, and the reward is the nDCG@10 of that reranker's result.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from pyserini_reasonrank.engines import build_engine
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.corpus import corpus_texts
from pyserini_reasonrank.ir.file_io import atomic, check_plain, read_lines
from pyserini_reasonrank.ir.runs import read_run
from pyserini_reasonrank.journal import Journal, journal_of
from pyserini_reasonrank.models.catalogue import resolve
from pyserini_reasonrank.records import Call, Candidate, Completion, Query, Repeat, Request, Sampling
from pyserini_reasonrank.rerankers.endpoint import Endpoint
from pyserini_reasonrank.run.candidates import stream
from pyserini_reasonrank.run.parts import Plan
from pyserini_reasonrank.run.pipeline import Task, rerank
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.settings import layers
from pyserini_reasonrank.train.data.rows import Audit, Row, check_written, read_rows
from pyserini_reasonrank.train.rewards.answers import exact_order
from pyserini_reasonrank.train.rewards.measures import ndcg
from pyserini_reasonrank.train.trainers.grpo import Reward, function

NO_GAP = "best and worst answer are too close"
UNANSWERED = "fewer than two answers"


class Adjusted(BaseModel):
    """The larger reranker whose input order the policy adjusts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reranker: Annotated[str, Field(description="name of the larger reranker")]
    settings: Annotated[dict[str, Any], Field(description="settings of the larger reranker, as under --rerank")] = {}
    corpus: Annotated[Path, Field(description="corpus as JSON lines")]


class Config(BaseModel):
    """Settings of ``train pairs``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Annotated[str, Field(description="policy: a name (`models`), a folder or a hub id")]
    adapter: Annotated[str | None, Field(description="LoRA adapter of the policy")] = None
    engine: Annotated[dict[str, Any], Field(description="engine to sample with: name and settings")] = {
        "name": "transformers"
    }
    data: Annotated[Path, Field(description="file of rows")]
    output: Annotated[Path, Field(description="file of pairs, JSON lines; a journal beside it records the answers")]
    samples: Annotated[int, Field(ge=1, description="number of answers sampled for each row")] = 4
    temperature: Annotated[float, Field(gt=0, description="sampling temperature")] = 1.0
    max_tokens: Annotated[int, Field(ge=1, description="maximum tokens of an answer")] = 512
    seed: Annotated[int, Field(description="seed of the sampling")] = 42
    gold: Annotated[bool, Field(description="also use the row's own answer as a candidate")] = True
    shown: Annotated[bool, Field(description="also use the order shown as a candidate, if answers are bare lists")] = (
        True
    )
    reward: Annotated[Reward, Field(description="reward function: {path, args}")] = Reward(path="multiview")
    adjusted: Annotated[Adjusted | None, Field(description="reward an order by a larger reranker's result")] = None
    gap: Annotated[float, Field(ge=0, description="minimum difference between best and worst reward")] = 0.05


class Pair(BaseModel):
    """A better and a worse answer to a prompt, without the prefill. ``own`` is the policy's own first sample."""

    qid: str
    source: str
    prompt: list[dict[str, str]]
    prefill: str
    chosen: str
    rejected: str
    own: str
    rewards: tuple[float, float]


def run(config: Config) -> None:
    """Sample, reward and write pairs. UsageError if no row gives a pair."""
    check_plain(config.output)
    reward = function(config.reward)
    rows, audit = read_rows(config.data)
    check_written(rows)
    print(audit)
    larger = config.adjusted and plan(*layers.load(config.adjusted.reranker, dict(config.adjusted.settings)))
    own = asyncio.run(_sampled(config, rows))
    answers = [_candidates(row, texts, config) for row, texts in zip(rows, own, strict=True)]
    values = asyncio.run(_adjusted(config, larger, rows, answers)) if larger else [
        _rewarded(reward, row, texts) for row, texts in zip(rows, answers, strict=True)
    ]  # fmt: skip
    paired, pairs = Audit(), []
    for row, texts, found, samples in zip(rows, answers, values, own, strict=True):
        rewarded = zip(found, texts, strict=True)
        known = [(value, text) for value, text in rewarded if value is not None and math.isfinite(value)]
        fault = UNANSWERED if len(known) < 2 else NO_GAP if max(known)[0] - min(known)[0] < config.gap else None
        if paired.note(fault, f"{row.source} {row.qid}"):
            pairs.append(_pair(row, max(known, key=lambda k: k[0]), min(known, key=lambda k: k[0]), samples[0]))
    print(paired)
    write_pairs(config.output, pairs)
    print(f"{len(pairs):,} pairs in {config.output}")


def write_pairs(path: Path, pairs: Sequence[Pair]) -> None:
    """Write pairs, one a line. UsageError if there are none."""
    if not pairs:
        raise UsageError(f"{path} was not written: there is no pair to train on")
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as file:
        lines = (json.dumps(pair.model_dump(), ensure_ascii=False) for pair in pairs)
        file.writelines(f"{line}\n".encode(errors="replace") for line in lines)  # half of a surrogate pair becomes "?"


def _pair(row: Row, best: tuple[float, str], worst: tuple[float, str], own: str) -> Pair:
    turns = [{"role": turn.role, "content": turn.content} for turn in row.prompt]
    return Pair(qid=row.qid, source=row.source, prompt=turns, prefill=row.prefill, chosen=best[1], rejected=worst[1],
                own=own, rewards=(best[0], worst[0]))  # fmt: skip


async def _sampled(config: Config, rows: Sequence[Row]) -> list[list[str]]:
    """``samples`` answers to each row. Answers in the journal of an earlier run are reused."""
    from pyserini_reasonrank.train.trainers.examples import prompt_of

    given = dict(config.engine)
    model = resolve(config.model, revision=None, adapter=config.adapter, context=None)
    engine = build_engine(given.pop("name", "transformers"), given, model)
    journal = Journal(journal_of(config.output), config.output.name)
    with contextlib.closing(journal):
        await engine.start()
        try:
            endpoint = Endpoint(engine, journal)

            async def ask(number: int, row: Row, sample: int) -> Completion:
                call = Call(row.qid, number, row.docids, lambda gains: "", lambda gains, choices: {}, Repeat((sample,)))
                sampling = Sampling(temperature=config.temperature, max_tokens=config.max_tokens, seed=config.seed)
                completion, _ = await endpoint.complete(prompt_of(row), sampling, call, number)
                return completion

            asked = [ask(n, row, k) for n, row in enumerate(rows) for k in range(config.samples)]
            found = await asyncio.gather(*asked)
        finally:
            await engine.close()
    texts = ["" if completion.error else completion.text for completion in found]
    return [texts[i : i + config.samples] for i in range(0, len(texts), config.samples)]


def _candidates(row: Row, sampled: Sequence[str], config: Config) -> list[str]:
    """The distinct answers: samples, the row's own answer, the order shown."""
    found = [text for text in sampled if text]
    if config.gold and row.completion:
        found.append(row.demonstration)
    if config.shown and row.kind == "permutation" and not row.tags:
        found.append(" > ".join(f"[{i + 1}]" for i in range(len(row.docids))))
    return list(dict.fromkeys(found))


def _rewarded(reward: Any, row: Row, texts: Sequence[str]) -> list[float | None]:
    columns = {
        name: [value] * len(texts) for name, value in row.as_json().items() if name not in ("prompt", "completion")
    }
    values: list[float | None] = reward([""] * len(texts), list(texts), **columns)
    return values


async def _adjusted(
    config: Config, larger: Plan, rows: Sequence[Row], answers: Sequence[Sequence[str]]
) -> list[list[float | None]]:
    """The nDCG@10 of the larger reranker's result for each order; None if the answer is not a complete order."""
    assert config.adjusted is not None
    texts = corpus_texts(config.adjusted.corpus, {docid for row in rows for docid in row.docids})
    requests: list[Request] = []
    places: dict[str, Any] = {}
    for n, (row, found) in enumerate(zip(rows, answers, strict=True)):
        for k, text in enumerate(found):
            order = exact_order(row.prefill + text, len(row.docids))
            if order is None:
                continue
            qid = f"{n}.{k}"
            places[qid] = (n, k)
            shown = tuple(Candidate(row.docids[i], -float(rank), texts[row.docids[i]]) for rank, i in enumerate(order))
            requests.append(Request(Query(qid, row.query), shown, len(requests)))
    output = config.output.with_name(f"{config.output.name}.adjusted.txt")
    await rerank(larger, Task(stream(iter(requests)), output, config.data, str(config.data), ["train", "pairs"]))
    values: list[list[float | None]] = [[None] * len(found) for found in answers]
    for qid, hits in read_run(output).items():
        n, k = places[qid]
        position = {docid: i for i, docid in enumerate(rows[n].docids)}
        values[n][k] = ndcg([position[hit.docid] for hit in hits], rows[n].gains)
    return values


def read_pairs(path: Path) -> list[Pair]:
    """The pairs of a file. UsageError if it is missing or empty, or if a line is not a pair."""
    return [_read_pair(where, line) for where, line in read_lines(path)]


def _read_pair(where: str, line: bytes) -> Pair:
    try:
        return Pair.model_validate_json(line)
    except ValueError:
        raise UsageError(f"{where} is not a pair of answers: write the file with `train pairs`") from None
