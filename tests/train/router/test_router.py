"""A router learns from runs which reranker a query deserves, and is judged on queries it has not seen."""

from __future__ import annotations

import json
import math
import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import Command, whole_run

from pyserini_reasonrank.combine.features import features
from pyserini_reasonrank.combine.query_classifier import Router, softmax, standardised
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.runs import read_run
from pyserini_reasonrank.records import Candidate, Query, Request
from pyserini_reasonrank.train.command import load
from pyserini_reasonrank.train.router import arm_rewards
from pyserini_reasonrank.train.router import train_router as route
from pyserini_reasonrank.train.router.classifier import Examples, Fit, cross_validated, targets, train

FIT = Fit(temperature=0.2, beta=0.3, C=1.0, depth=100, threshold=0.4, fallback=None)


@dataclass(frozen=True)
class Study:
    """Judged queries, easy and hard in turn: of an easy one the first hit stands out and is the relevant one, of a hard
    one no score stands out and the relevant hit lies at rank 12, beyond the reach of the arm `top`."""

    folder: Path
    requests: tuple[Request, ...]

    def words(self, **changes: Any) -> list[str]:
        """The flags of ``train route``."""
        named = {
            "topics": "topics.tsv",
            "qrels": "qrels.txt",
            "run": "first.txt",
            "arms.top": "top.txt",
            "arms.deep": "deep.txt",
            "output": "router.json",
        }
        given = {key: str(self.folder / name) for key, name in named.items()} | {"mu": 0.3} | changes
        return [word for key, value in given.items() if value is not None for word in (f"--{key}", str(value))]

    def config(self, **changes: Any) -> arm_rewards.Config:
        return load("route", arm_rewards.Config, self.words(**changes))


@pytest.fixture(scope="module")
def requests() -> tuple[Request, ...]:
    chance = random.Random(7)
    found = []
    for number in range(60):
        start = 20 + chance.random()
        falls = [8.0 if number % 2 == 0 and i == 0 else chance.random() / 4 for i in range(14)]
        scores = [start - sum(falls[:i]) for i in range(15)]
        hits = tuple(Candidate(f"q{number}-d{i}", score, f"text {i}") for i, score in enumerate(scores))
        found.append(Request(Query(f"q{number}", f"what is topic {number}"), hits, number))
    return tuple(found)


@pytest.fixture(scope="module")
def studied(requests: tuple[Request, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a study, which no test changes."""
    folder = tmp_path_factory.mktemp("studied")
    lines = [f"{r.query.qid}\t{r.query.text}\n" for r in requests]
    (folder / "topics.tsv").write_text("".join(lines))
    relevant = [r.candidates[0 if r.number % 2 == 0 else 11].docid for r in requests]
    lines = [f"{r.query.qid} 0 {docid} 1\n" for r, docid in zip(requests, relevant, strict=True)]
    (folder / "qrels.txt").write_text("".join(lines))
    lines = [
        f"{r.query.qid} Q0 {c.docid} {rank} {c.score} bm25\n"
        for r in requests
        for rank, c in enumerate(r.candidates, 1)
    ]
    (folder / "first.txt").write_text("".join(lines))
    engine = {"name": "oracle", "qrels": str(folder / "qrels.txt")}
    strategy = {"window_size": 6, "stride": 3}
    for name, depth in {"top": 6, "deep": 15}.items():
        flags = {"engine": engine, "depth": depth, "strategy": strategy}
        whole_run("reasonrank", flags, requests, folder / f"{name}.txt", folder / "first.txt")
    return folder


@pytest.fixture
def study(requests: tuple[Request, ...], studied: Path, tmp_path: Path) -> Study:
    shutil.copytree(studied, tmp_path, dirs_exist_ok=True)
    return Study(tmp_path, requests)


def example(rewards: Sequence[Sequence[float]], tags: Sequence[str] | None = None) -> Examples:
    n, k = len(rewards), len(rewards[0])
    array = np.array(rewards)
    scores = [[10.0 + i, 9.0, 5.0 - i] for i in range(n)]
    return Examples([f"query {i}" for i in range(n)], scores, tuple("abc"[:k]), array, np.zeros(k), array, tags)


# --- the targets


def test_targets_by_hand() -> None:
    [soft] = targets(example([[0.5, 0.7, 0.1]]), [0], FIT)
    weights = [math.exp(r / 0.2) for r in (0.5, 0.7, 0.1)]
    assert soft == pytest.approx([w / sum(weights) for w in weights])
    [colder] = targets(example([[0.5, 0.7, 0.1]]), [0], replace(FIT, temperature=0.01))
    assert colder == pytest.approx([0, 1, 0], abs=1e-6)


def test_a_target_is_smoothed_over_the_queries_of_its_tag() -> None:
    examples = example([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], tags=["x", "x", "y"])
    p = 1 / (1 + math.exp(-1 / 0.2))
    assert targets(examples, [0, 1, 2], FIT) == pytest.approx(
        np.array([
            [0.3 * p + 0.7 * 0.5, 0.3 * (1 - p) + 0.7 * 0.5],
            [0.3 * (1 - p) + 0.7 * 0.5, 0.3 * p + 0.7 * 0.5],
            [p, 1 - p],
        ])
    )  # fmt: skip
    # of the queries at hand only
    assert targets(examples, [0], FIT)[0] == pytest.approx([p, 1 - p])


# --- the fit


@pytest.mark.parametrize("k", [2, 3])
def test_the_router_says_what_scikit_learn_would_say(k: int) -> None:
    from sklearn.linear_model import LogisticRegression

    chance = np.random.default_rng(3)
    examples = example(chance.random((40, k)).tolist())
    router = train(examples, range(40), FIT)
    raw = np.array([features(t, s) for t, s in zip(examples.texts, examples.scores, strict=True)])
    scales = np.where(raw.std(axis=0) == 0, 1, raw.std(axis=0))
    x = np.array([standardised(row, raw.mean(axis=0).tolist(), scales.tolist()) for row in raw])
    model = LogisticRegression(C=1.0, max_iter=1000)
    weights = [softmax([r / 0.2 for r in row]) for row in examples.rewards.tolist()]
    model.fit(np.vstack([x] * k), np.repeat(range(k), 40), sample_weight=np.array(weights).T.ravel())
    for i in range(40):
        assert router.probabilities(examples.texts[i], examples.scores[i]) == pytest.approx(
            model.predict_proba(x[i : i + 1])[0], abs=1e-4
        )


def test_arms_that_are_alike_are_as_probable() -> None:
    router = train(example([[0.4, 0.4, 0.4]] * 12), range(12), FIT)
    assert router.probabilities("any", [3.0, 2.0]) == pytest.approx([1 / 3] * 3, abs=1e-3)


def test_the_fallback_is_the_best_arm_of_the_training_queries_unless_named() -> None:
    examples = example([[0.1, 0.9], [0.5, 0.2], [0.5, 0.4]])
    assert train(examples, [0, 1, 2], FIT).fallback == "b"
    assert train(examples, [1, 2], FIT).fallback == "a"
    assert train(examples, [0], replace(FIT, fallback="a")).fallback == "a"


def test_no_choice_depends_on_what_its_query_taught() -> None:
    chance = np.random.default_rng(5)
    rewards = chance.random((30, 3))
    before = cross_validated(example(rewards.tolist()), FIT, 5, 929)
    rewards[11] = rewards[11][::-1] * 5
    after = cross_validated(example(rewards.tolist()), FIT, 5, 929)
    assert after[11] == before[11]
    assert after != before


def test_nor_on_what_another_of_the_same_words_taught() -> None:
    chance = np.random.default_rng(5)
    rewards = chance.random((30, 3))
    texts = [f"query {i}" for i in range(30)]
    texts[17] = " QUERY  11"
    before = cross_validated(replace(example(rewards.tolist()), texts=texts), FIT, 5, 929)
    rewards[17] = rewards[17][::-1] * 5
    after = cross_validated(replace(example(rewards.tolist()), texts=texts), FIT, 5, 929)
    assert after[11].probabilities == before[11].probabilities


# --- the step


def test_it_learns_to_send_each_query_where_it_is_worth_it(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    route.run(study.config())
    said = capsys.readouterr().out
    rows = {line[:24].strip(): line[24:].split() for line in said.splitlines()}
    # easy queries are right at once, hard ones need the four windows of the deep arm
    assert rows["none"] == ["0.5000", "0.0", "0.5000", "100%", "0%", "0%"]
    assert rows["top"] == ["0.5000", "1.0", "0.4250", "0%", "100%", "0%"]
    assert rows["deep"] == ["1.0000", "4.0", "0.7000", "0%", "0%", "100%"]
    assert rows["router, 5 folds"] == ["1.0000", "2.0", "0.8500", "50%", "0%", "50%"]
    assert rows["best arm of each query"] == rows["router, 5 folds"]
    assert "reward    +0.1500 against deep alone, the best single arm" in said
    router = Router.read(study.folder / "router.json")
    assert (router.arms, router.fallback, router.depth) == (("none", "top", "deep"), "deep", 100)
    chosen = [router.choose(r.query.text, [c.score for c in r.candidates]).arm for r in study.requests]
    assert chosen == ["none", "deep"] * 30
    assert router.trained["costs"] == {"none": 0.0, "top": 1.0, "deep": 4.0}
    assert router.trained["queries"] == 60
    assert len(router.trained["files"]["deep"]["sha256"]) == 64


def test_what_is_dear_has_to_be_worth_it(study: Study) -> None:
    route.run(study.config(mu=1.2))
    router = Router.read(study.folder / "router.json")
    chosen = [router.choose(r.query.text, [c.score for c in r.candidates]).arm for r in study.requests]
    assert set(chosen) == {"none"}


def test_the_same_input_gives_the_same_bytes(study: Study) -> None:
    route.run(study.config())
    first = (study.folder / "router.json").read_bytes()
    route.run(study.config())
    assert (study.folder / "router.json").read_bytes() == first


@pytest.mark.parametrize("unit", ["calls", "tokens", "seconds"])
def test_cost_is_what_the_metadata_tells(unit: str, study: Study) -> None:
    path = study.folder / "deep.txt.ir-metadata.yml"
    told = yaml.safe_load(path.read_text())
    told["resources"]["llm"] |= {"calls": 200, "prompt tokens": 6000, "output tokens": 600}
    told["resources"]["runtime in seconds"]["rerank"] = 30.0
    path.write_text(yaml.safe_dump(told))
    examples, _ = arm_rewards.read(study.config(unit=unit))
    assert examples.costs[2] == {"calls": 200 / 60, "tokens": 110.0, "seconds": 0.5}[unit]


def test_answers_from_a_journal_cost_what_they_did_but_not_their_time(study: Study) -> None:
    path = study.folder / "deep.txt.ir-metadata.yml"
    told = yaml.safe_load(path.read_text())
    told["resources"]["llm"] |= {"calls": 0, "calls answered from the journal": 240}
    path.write_text(yaml.safe_dump(told))
    assert arm_rewards.read(study.config())[0].costs[2] == 4.0
    with pytest.raises(
        UsageError, match=r"240 calls answered from a journal.*set --costs\.deep to its seconds per query"
    ):
        arm_rewards.read(study.config(unit="seconds"))
    assert arm_rewards.read(study.config(unit="seconds", **{"costs.deep": 9, "costs.top": 1}))[0].costs.tolist() == [
        0,
        1,
        9,
    ]


def test_queries_without_hits_or_judgments_are_left_out(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    with (study.folder / "topics.tsv").open("a") as file:
        file.write("unjudged\twho\nnothing\twhat\n")
    with (study.folder / "qrels.txt").open("a") as file:
        file.write("nothing 0 d 1\nunasked 0 d 1\n")
    route.run(study.config())
    assert "queries   60 judged, with hits in" in (said := capsys.readouterr().out)
    assert "; 1 without\n" in said


@pytest.mark.parametrize("tags", ["length", "tags.tsv"])
def test_tags(tags: str, study: Study) -> None:
    lines = [f"q{i}\t{'even' if i % 2 == 0 else 'odd'}\n" for i in range(60)]
    (study.folder / "tags.tsv").write_text("".join(lines))
    examples, _ = arm_rewards.read(study.config(tags=tags if tags == "length" else study.folder / tags))
    assert examples.tags is not None
    assert len(examples.tags) == 60
    if tags == "tags.tsv":
        assert examples.tags == ["even", "odd"] * 30
        (study.folder / "tags.tsv").write_text("q0\teven\n")
        with pytest.raises(UsageError, match=r"tags\.tsv has no tag for query q1"):
            arm_rewards.read(study.config(tags=study.folder / tags))


def without(path: Path, qid: str) -> None:
    path.write_text("".join(line for line in path.read_text().splitlines(True) if not line.startswith(f"{qid} ")))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"arms.top": None, "arms.deep": None}, "train route needs --arms"),
        ({"arms.deep": None, "none": "false"}, "a router needs at least two arms; given: top"),
        ({"arms.none": "x.txt"}, "the arm none is the first-stage order and has no run of its own"),
        ({"fallback": "depe"}, "--fallback names 'depe', which is not an arm; did you mean 'deep'?"),
        ({"costs.depe": 3}, "--costs names 'depe', which is not an arm"),
        ({"arms.deep": "nowhere.txt"}, "nowhere.txt does not exist"),
        ({"folds": 40}, "60 different queries are too few for 40 folds"),
        ({"measure": "nDGC@10"}, "there is no measure 'nDGC'; did you mean 'nDCG'?"),
        ({"mu": -1}, "route.mu -1: input should be greater than or equal to 0"),
        ({"temperature": 0}, "route.temperature 0"),
    ],
)
def test_settings_that_can_not_be_are_refused(changes: dict[str, Any], says: str, study: Study) -> None:
    with pytest.raises(UsageError) as error:
        route.run(study.config(**changes))
    assert says in str(error.value)
    assert not (study.folder / "router.json").exists()


def test_a_run_that_lacks_queries_is_named(study: Study) -> None:
    without(study.folder / "top.txt", "q7")
    with pytest.raises(UsageError, match=r"top\.txt lacks 1 of 60 queries, such as q7"):
        route.run(study.config())


def test_a_run_without_metadata_needs_a_cost(study: Study) -> None:
    (study.folder / "top.txt.ir-metadata.yml").unlink()
    with pytest.raises(UsageError, match=r"no metadata at .*: set --costs\.top to its calls per query"):
        route.run(study.config())
    (study.folder / "top.txt.ir-metadata.yml").write_text("tag: other\n")
    with pytest.raises(UsageError, match=r"does not record the cost of its run"):
        route.run(study.config())
    route.run(study.config(**{"costs.top": 1.5}))


def test_arms_all_alike_teach_nothing(study: Study) -> None:
    same = study.folder / "first.txt"
    with pytest.raises(UsageError, match="all arms have the same reward on every query"):
        route.run(study.config(**{"arms.top": same, "arms.deep": same, "costs.top": 0, "costs.deep": 0}))


def test_a_first_stage_without_scores_is_refused(study: Study) -> None:
    lines = (study.folder / "first.txt").read_text().splitlines()
    ranks = [f"{qid}\t{docid}\t{rank}\n" for qid, _, docid, rank, *_ in map(str.split, lines)]
    (study.folder / "ranks.txt").write_text("".join(ranks))
    with pytest.raises(UsageError, match=r"scores of .*ranks\.txt are the same for every query, as ranks are"):
        route.run(study.config(run=study.folder / "ranks.txt"))


def test_files_of_other_queries_are_refused(study: Study) -> None:
    (study.folder / "other.tsv").write_text("x\twhat\n")
    with pytest.raises(UsageError, match=r"no query of .* is both in .*other\.tsv and in .*qrels\.txt"):
        route.run(study.config(topics=study.folder / "other.tsv"))


def test_from_runs_to_a_routed_run_by_commands(command: Command, study: Study) -> None:
    """The way of docs/rerankers/route.md: train, then search with what was trained, each query to its arm."""
    trained = command("train", "route", "--config", "route", *study.words(output=study.folder / "new" / "router.json"))
    assert (trained.returncode, trained.stderr) == (0, "")
    corpus = study.folder / "corpus.jsonl"
    lines = [json.dumps({"id": c.docid, "contents": c.text}) + "\n" for r in study.requests for c in r.candidates]
    corpus.write_text("".join(lines))
    router = ["--rerank.combine.router", study.folder / "new" / "router.json"]
    engine = ["--rerank.engine.name", "oracle", "--rerank.engine.qrels", study.folder / "qrels.txt"]
    arms = ["--rerank.arms.top.depth", 6]
    for name in ("top", "deep"):
        arms += [f"--rerank.arms.{name}.reranker", "reasonrank"]
        arms += [f"--rerank.arms.{name}.strategy.window_size", 6, f"--rerank.arms.{name}.strategy.stride", 3]
    inputs = ["--run", study.folder / "first.txt", "--topics", study.folder / "topics.tsv", "--corpus", corpus]
    flags = ["--output", study.folder / "run.txt", "--rerank", "route", *router, *engine, *arms]
    refused = command("rerank", *inputs, *flags)
    assert refused.returncode == 2
    assert refused.stderr == "error: the router has no arm 'listwise'; its arms: none, top, deep\n"
    done = command("rerank", *inputs, *flags, "--rerank.arms.listwise", "none", "--rerank.combine.unrouted", "deep")
    assert (done.returncode, done.stderr) == (0, "")
    assert "  top     0 rankings, 0.0 judgements per query (no calls)\n" in done.stdout
    assert "  deep    30 rankings, 2.0 judgements per query (120 ok)\n" in done.stdout
    run = read_run(study.folder / "run.txt")
    relevant = {r.query.qid: r.candidates[0 if r.number % 2 == 0 else 11].docid for r in study.requests}
    assert {qid: hits[0].docid for qid, hits in run.items()} == relevant
