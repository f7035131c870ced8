"""The settings of router training, and the quality, cost and reward of each arm on the judged queries."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from pyserini_reasonrank.combine.query_classifier import NONE, encode
from pyserini_reasonrank.errors import UsageError, nearest
from pyserini_reasonrank.ir.evaluate import per_query
from pyserini_reasonrank.ir.measure_names import parse_measure
from pyserini_reasonrank.ir.metadata import sidecar
from pyserini_reasonrank.ir.qrels import Qrels, read_qrels
from pyserini_reasonrank.ir.recorded_cost import recorded_cost
from pyserini_reasonrank.ir.runs import Run, read_run
from pyserini_reasonrank.ir.topics import read_topics
from pyserini_reasonrank.train.router.classifier import Examples

Unit = Literal["calls", "tokens", "seconds"]


class Config(BaseModel):
    """Settings of ``train route``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    topics: Annotated[Path, Field(description="topics as TSV or JSON lines")]
    qrels: Annotated[Path, Field(description="TREC qrels")]
    run: Annotated[Path, Field(description="first-stage run, with its scores")]
    arms: Annotated[dict[str, Path], Field(description="reranked run of each arm: --arms.NAME RUN")]
    output: Annotated[Path, Field(description="JSON file of the router")]
    none: Annotated[bool, Field(description="add an arm that keeps the first-stage order")] = True
    unit: Annotated[Unit, Field(description="unit of the cost of a query, read from the metadata beside a run")] = (
        "calls"
    )
    costs: Annotated[
        dict[str, Annotated[float, Field(ge=0)]], Field(description="cost of a query, for arms whose metadata lack it")
    ] = {}
    mu: Annotated[
        float,
        Field(ge=0, description="cost of the most expensive arm, in units of the measure"),
    ] = 0.05
    measure: Annotated[str, Field(description="measure in ir_measures' notation")] = "nDCG@10"
    depth: Annotated[int, Field(ge=1, description="number of first-stage hits for the features; as --rerank.depth")] = (
        100
    )
    encoder: Annotated[
        str | None,
        Field(
            description="sentence encoder of the query: all-minilm-l6-v2 (a wheel), a folder or a hub id; without it, the "
            "router reads eight features"
        ),
    ] = None
    features: Annotated[
        bool, Field(description="also read the eight features; false: the encoder's vector alone, as in Zooter")
    ] = True
    temperature: Annotated[float, Field(gt=0, description="temperature of the softmax over rewards")] = 0.2
    tags: Annotated[
        str | None,
        Field(
            description="smooth targets over queries with the same tag: TSV of qid and tag, or `length` for length quartiles"
        ),
    ] = None
    beta: Annotated[
        float, Field(ge=0, le=1, description="weight of a query's own target; the mean of its tag has 1 minus beta")
    ] = 0.3
    C: Annotated[float, Field(gt=0, description="inverse strength of the L2 penalty (scikit-learn)")] = 1.0
    threshold: Annotated[float, Field(ge=0, le=1, description="probability below which the fallback arm is chosen")] = (
        0.4
    )
    fallback: Annotated[
        str | None, Field(description="fallback arm; default: the arm with the highest mean reward")
    ] = None
    folds: Annotated[int, Field(ge=2, description="number of cross-validation folds")] = 5
    seed: Annotated[int, Field(description="seed of the folds")] = 929


def read(config: Config) -> tuple[Examples, int]:
    """The examples of the files, and the number of judged queries without hits, which are left out.

    UsageError for files that do not fit together.
    """
    qrels, first = read_qrels(config.qrels), read_run(config.run)
    texts = {query.qid: query.text for query in read_topics(config.topics)}
    judged = [qid for qid in qrels if qid in texts]
    qids = [qid for qid in judged if qid in first]
    if not qids:
        raise UsageError(f"no query of {config.run} is both in {config.topics} and in {config.qrels}")
    runs = {name: read_run(path) for name, path in config.arms.items()}
    for name, of_arm in runs.items():
        if missing := [qid for qid in qids if qid not in of_arm]:
            raise UsageError(f"{config.arms[name]} lacks {len(missing)} of {len(qids)} queries, such as {missing[0]}: "
                             f"an arm must rank all queries of {config.run}")  # fmt: skip
    costs = {name: _cost(config, name, len(of_arm)) for name, of_arm in runs.items()}
    if config.none:
        runs, costs = {NONE: first} | runs, {NONE: 0.0} | costs
    quality = np.array([_quality(config, qrels, name, of_arm, qids) for name, of_arm in runs.items()]).T
    cost = np.array(list(costs.values()))
    rewards = quality - config.mu * cost / (cost.max() or 1.0)
    scores = [[hit.score for hit in first[qid]] for qid in qids]
    words = [texts[qid] for qid in qids]
    vectors = None if config.encoder is None else np.array(encode(config.encoder, words))
    found = Examples(words, scores, tuple(runs), quality, cost, rewards, _tags(config.tags, qids, words), vectors)
    return found, len(judged) - len(qids)


def check_arms(config: Config) -> None:
    """UsageError for fewer than two arms, or for settings that name an unknown arm."""
    if NONE in config.arms:
        raise UsageError(f"the arm {NONE} is the first-stage order and has no run of its own: set --none true")
    if not config.features and config.encoder is None:
        raise UsageError("--features false leaves the router nothing to read: set --encoder")
    arms = [NONE] * config.none + list(config.arms)
    if len(arms) < 2:
        raise UsageError(f"a router needs at least two arms; given: {arms[0] if arms else 'none'}")
    for key, name in [("costs", name) for name in config.costs] + [("fallback", config.fallback or arms[0])]:
        if name not in arms:
            raise UsageError(f"--{key} names {name!r}, which is not an arm{nearest(name, arms)}")


def _quality(config: Config, qrels: Qrels, name: str, of_arm: Run, qids: Sequence[str]) -> list[float]:
    measure, path = parse_measure(config.measure), config.arms.get(name, config.run)
    values = per_query({qid: qrels[qid] for qid in qids}, config.qrels, of_arm, path, [measure])[measure]
    return [values[qid] for qid in qids]


def _cost(config: Config, name: str, queries: int) -> float:
    """The cost of a query in the arm's run, from the run's metadata. UsageError if they lack it."""
    if name in config.costs:
        return config.costs[name]
    path, remedy = sidecar(config.arms[name]), f"set --costs.{name} to its {config.unit} per query"
    if not path.exists():
        raise UsageError(f"there is no metadata at {path}: {remedy}")
    cost = recorded_cost(config.arms[name])
    if cost is None or (config.unit == "seconds" and cost.seconds is None):
        raise UsageError(f"{path} does not record the cost of its run: {remedy}")
    if config.unit == "seconds" and cost.from_journal:
        raise UsageError(
            f"{config.arms[name]} has {cost.from_journal} calls answered from a journal, so its seconds are not its cost: "
            f"{remedy}"
        )
    totals = {"calls": cost.calls + cost.from_journal, "tokens": cost.tokens, "seconds": cost.seconds or 0.0}
    return totals[config.unit] / queries


def _tags(source: str | None, qids: Sequence[str], texts: Sequence[str]) -> list[str] | None:
    """The tag of each query; None without tags. UsageError for a query without a tag."""
    if source is None:
        return None
    if source == "length":
        lengths = [len(text.split()) for text in texts]
        quarters = np.digitize(lengths, np.quantile(lengths, [0.25, 0.5, 0.75]))
        return [str(quarter) for quarter in quarters]
    tags = {query.qid: query.text for query in read_topics(source)}
    if missing := [qid for qid in qids if qid not in tags]:
        raise UsageError(f"{source} has no tag for query {missing[0]}")
    return [tags[qid] for qid in qids]
