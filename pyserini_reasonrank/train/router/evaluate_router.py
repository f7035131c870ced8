"""Train a router: which reranker a query deserves, from runs that rerankers left on judged queries.

Zooter (arXiv 2311.08692) for ranking: an arm's reward is its nDCG@10 less what it costs, the router learns the softmax
of the rewards from features that need no LLM. The figures printed are of queries held out in cross-validation.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field

from pyserini_reasonrank.combine.query_classifier import NONE
from pyserini_reasonrank.errors import UsageError, nearest
from pyserini_reasonrank.ir.evaluate import parse_measure, per_query
from pyserini_reasonrank.ir.metadata import sha256, sidecar
from pyserini_reasonrank.ir.qrels import Qrels, read_qrels
from pyserini_reasonrank.ir.runs import Run, read_run
from pyserini_reasonrank.ir.significance import t_test
from pyserini_reasonrank.ir.topics import read_topics
from pyserini_reasonrank.tables import table
from pyserini_reasonrank.train.router.fit_router import Array, Examples, Fit, check, held_out, train

Unit = Literal["calls", "tokens", "seconds"]


class Config(BaseModel):
    """Settings of ``train route``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    topics: Annotated[Path, Field(description="TSV or JSON lines")]
    qrels: Path
    run: Annotated[Path, Field(description="first-stage run, with its scores")]
    arms: Annotated[dict[str, Path], Field(description="run that each arm left of it: --arms.NAME RUN")]
    output: Annotated[Path, Field(description="the router's file, JSON")]
    none: Annotated[bool, Field(description="whether to leave the first stage's order is a choice too")] = True
    unit: Annotated[
        Unit, Field(description="of cost, a query; calls, tokens and seconds stand in the metadata beside a run")
    ] = "calls"
    costs: Annotated[dict[str, float], Field(description="of a query, for arms whose metadata does not tell")] = {}
    mu: Annotated[float, Field(ge=0, description="what the dearest arm's cost is worth, in units of the measure")] = (
        0.05
    )
    measure: Annotated[str, Field(description="as ir_measures writes it")] = "nDCG@10"
    depth: Annotated[int, Field(ge=1, description="first-stage hits that features are of; as --rerank.depth")] = 100
    temperature: Annotated[float, Field(gt=0, description="of the softmax over rewards")] = 0.2
    tags: Annotated[
        str | None,
        Field(description="smooths targets over queries alike: TSV of qid and tag, or `length` for quarters"),
    ] = None
    beta: Annotated[
        float, Field(ge=0, le=1, description="weight of a query's own target; its tag's mean has the rest")
    ] = 0.3
    C: Annotated[float, Field(gt=0, description="inverse strength of the L2 penalty, scikit-learn's")] = 1.0
    threshold: Annotated[float, Field(ge=0, le=1, description="probability below which the fallback is asked")] = 0.4
    fallback: Annotated[str | None, Field(description="arm, if not that of the highest mean reward")] = None
    folds: Annotated[int, Field(ge=2, description="of the cross-validation")] = 5
    seed: Annotated[int, Field(description="of the folds")] = 929


def run(config: Config) -> None:
    """Train, judge by cross-validation, write the router."""
    _check_arms(config)
    examples, left_out = read(config)
    check(examples, str(config.run), config.depth)
    fit = Fit(config.temperature, config.beta, config.C, config.depth, config.threshold, config.fallback)
    choices = held_out(examples, fit, config.folds, config.seed)
    chosen = [examples.arms.index(choice.arm) for choice in choices]
    rows = list(range(len(examples)))
    report = Report(config, examples, chosen)
    router = train(examples, rows, fit, _facts(config, examples, report))
    router.write(config.output)
    fallback = sum(choice.unsure for choice in choices)
    print(
        f"queries   {len(examples)} judged, with hits in {config.run}" + (f"; {left_out} without" if left_out else "")
    )
    print(report)
    print(
        f"unsure    {fallback} held-out queries below {config.threshold:g}, to the fallback; it is {router.fallback} now"
    )
    print(f"router    {config.output}")


def read(config: Config) -> tuple[Examples, int]:
    """The examples that the files hold, and how many judged queries have no hits and so nothing to be routed."""
    qrels, first = read_qrels(config.qrels), read_run(config.run)
    texts = {query.qid: query.text for query in read_topics(config.topics)}
    judged = [qid for qid in qrels if qid in texts]
    qids = [qid for qid in judged if qid in first]
    if not qids:
        raise UsageError(f"{config.run} has no query that {config.topics} asks and {config.qrels} judges")
    runs = {name: read_run(path) for name, path in config.arms.items()}
    for name, of_arm in runs.items():
        if missing := [qid for qid in qids if qid not in of_arm]:
            raise UsageError(f"{config.arms[name]} lacks {len(missing)} of {len(qids)} queries, {missing[0]} for one: "
                             f"an arm has to rank all that {config.run} does")  # fmt: skip
    costs = {name: _cost(config, name, len(of_arm)) for name, of_arm in runs.items()}
    if config.none:
        runs, costs = {NONE: first} | runs, {NONE: 0.0} | costs
    quality = np.array([_quality(config, qrels, name, of_arm, qids) for name, of_arm in runs.items()]).T
    cost = np.array(list(costs.values()))
    rewards = quality - config.mu * cost / (cost.max() or 1.0)
    scores = [[hit.score for hit in first[qid]] for qid in qids]
    words = [texts[qid] for qid in qids]
    found = Examples(words, scores, tuple(runs), quality, cost, rewards, _tags(config.tags, qids, words))
    return found, len(judged) - len(qids)


def _check_arms(config: Config) -> None:
    if NONE in config.arms:
        raise UsageError(f"the arm {NONE} is the first stage's order and has no run of its own: say --none true")
    arms = [NONE] * config.none + list(config.arms)
    if len(arms) < 2:
        raise UsageError(f"a router chooses between two arms or more; there is {arms[0] if arms else 'none'}")
    for key, name in [("costs", name) for name in config.costs] + [("fallback", config.fallback or arms[0])]:
        if name not in arms:
            raise UsageError(f"--{key} speaks of {name!r}, which is no arm{nearest(name, arms)}")


def _quality(config: Config, qrels: Qrels, name: str, of_arm: Run, qids: Sequence[str]) -> list[float]:
    measure, path = parse_measure(config.measure), config.arms.get(name, config.run)
    values = per_query({qid: qrels[qid] for qid in qids}, config.qrels, of_arm, path, [measure])[measure]
    return [values[qid] for qid in qids]


def _cost(config: Config, name: str, queries: int) -> float:
    """What the arm's run cost a query, by its metadata."""
    if name in config.costs:
        return config.costs[name]
    path, remedy = sidecar(config.arms[name]), f"say --costs.{name} NUMBER, its {config.unit} a query"
    try:
        resources = yaml.safe_load(path.read_text(encoding="utf-8"))["resources"]
        llm, seconds = resources["llm"], resources["runtime in seconds"]["rerank"]
        found, asked = llm["calls answered from the journal"], llm["calls"]
        tokens = llm["prompt tokens"] + llm["output tokens"]
    except OSError:
        raise UsageError(f"there is no metadata at {path}: {remedy}") from None
    except (yaml.YAMLError, KeyError, TypeError):
        raise UsageError(f"{path} does not tell what its run cost: {remedy}") from None
    if config.unit == "seconds" and found:
        raise UsageError(
            f"{config.arms[name]} had {found} calls from a journal, so its seconds are not its cost: {remedy}"
        )
    total: float = {"calls": asked + found, "tokens": tokens, "seconds": seconds}[config.unit]
    return total / queries


def _tags(source: str | None, qids: Sequence[str], texts: Sequence[str]) -> list[str] | None:
    """The tag of each query."""
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


class Report:
    """What each arm alone reached and cost, the router on held-out queries, and the best arm of each query."""

    def __init__(self, config: Config, examples: Examples, chosen: Sequence[int]) -> None:
        self.config, self.examples = config, examples
        every = np.arange(len(examples))
        self.router = np.array(chosen)
        self.rows: dict[str, Array] = {arm: np.full(len(examples), i) for i, arm in enumerate(examples.arms)}
        self.best = max(examples.arms, key=lambda arm: self.rewards(self.rows[arm]).mean())
        self.rows |= {f"router, {config.folds} folds": self.router}
        self.rows |= {"best arm of each query": examples.rewards[every].argmax(axis=1)}

    def rewards(self, arms: Any) -> Array:
        """Of each query with its arm in ``arms``."""
        rewards: Array = self.examples.rewards[np.arange(len(self.examples)), arms]
        return rewards

    def figures(self, arms: Any) -> dict[str, float]:
        """Means over the queries."""
        quality = self.examples.quality[np.arange(len(self.examples)), arms]
        means = quality.mean(), self.examples.costs[arms].mean(), self.rewards(arms).mean()
        return dict(zip((self.config.measure, self.config.unit, "reward"), map(float, means), strict=True))

    def __str__(self) -> str:
        names, unit = self.examples.arms, self.config.unit
        lines = []
        for name, arms in self.rows.items():
            quality, cost, reward = self.figures(arms).values()
            shares = [f"{np.mean(arms == i):.0%}" for i in range(len(names))]
            lines.append((name, f"{quality:.4f}", f"{cost:,.1f}", f"{reward:.4f}", *shares))
        header = ("", self.config.measure, f"{unit} a query", "reward", *(f"to {name}" for name in names))
        difference = self.rewards(self.router) - self.rewards(self.rows[self.best])
        p = t_test(difference.tolist())
        verdict = (
            f"{difference.mean():+.4f} against {self.best} alone, the best single arm (paired t-test: p = {p:.3g})"
        )
        return f"{table(header, lines)}\nreward    {verdict}"


def _facts(config: Config, examples: Examples, report: Report) -> dict[str, Any]:
    """What the router's file says of its training."""
    files = {"topics": config.topics, "qrels": config.qrels, "first stage": config.run} | config.arms
    return {
        "files": {name: {"path": str(path), "sha256": sha256(path)} for name, path in files.items()},
        "queries": len(examples),
        **config.model_dump(include={"mu", "measure", "unit", "temperature", "tags", "beta", "C", "folds", "seed"}),
        "costs": dict(zip(examples.arms, examples.costs.tolist(), strict=True)),
        "figures": {name: report.figures(arms) for name, arms in report.rows.items()},
    }
