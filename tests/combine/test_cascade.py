"""A small reranker, then a large one: who sees what in which order, what it costs, whose order stands."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Collection, Command, RunReranker
from hypothesis import given
from hypothesis import strategies as st

from pyserini_reasonrank.cli.summary import summary
from pyserini_reasonrank.combine.cascade import Adjust, cascade
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.fusion import Fusion
from pyserini_reasonrank.ir.metadata import RunRecord
from pyserini_reasonrank.ir.runs import read_run
from pyserini_reasonrank.journal_reader import export, rankings
from pyserini_reasonrank.prompts import sources
from pyserini_reasonrank.records import Candidate, Query, Ranked, Request, Status
from pyserini_reasonrank.run.candidates import stream
from pyserini_reasonrank.run.cost import estimate
from pyserini_reasonrank.run.pipeline import Task, rerank
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.settings import layers, rerankers
from pyserini_reasonrank.settings.flags import lift
from pyserini_reasonrank.settings.schema import Settings

ORACLE = {"engine": {"name": "oracle", "qrels": "q"}}


class Sorting:
    """An arm that orders what it is shown by a key, and remembers what that was."""

    depth = 1000

    def __init__(self, key: Callable[[int], Any], status: Status = Status.OK) -> None:
        self.key, self.status = key, status
        self.shown: list[tuple[int, ...]] = []

    async def __call__(
        self, indices: Sequence[int], *, sample: int = 0, prior: Sequence[int] | None = None, passages: Any = None
    ) -> Ranked:
        self.shown.append(tuple(indices))
        positions = range(len(indices))
        order = positions if self.status.bad else sorted(positions, key=lambda i: self.key(indices[i]))
        return Ranked(tuple(order), {self.status: 1} if len(indices) > 1 else {})

    async def grade(self, texts: Sequence[str]) -> list[float | None]:
        raise NotImplementedError


def request(n: int) -> Request:
    return Request(Query("q", "query"), tuple(Candidate(f"d{i}", -float(i), "text") for i in range(n)))


def run(n: int, arms: dict[str, Sorting], keep: int = 20, adjust: Adjust = "none") -> Ranked:
    return asyncio.run(cascade(request(n), arms, keep=keep, adjust=adjust))


# --- the order


def test_the_large_one_orders_what_the_small_one_put_on_top() -> None:
    small, large = Sorting(lambda i: -i), Sorting(lambda i: i % 3)
    ranked = run(7, {"small": small, "large": large}, keep=4)
    assert small.shown == [(0, 1, 2, 3, 4, 5, 6)]
    assert large.shown == [(6, 5, 4, 3)]
    assert ranked.order == (6, 3, 4, 5, 2, 1, 0)
    assert ranked.statuses == {Status.OK: 2}
    assert ranked.notes == {"top": "large"}


@pytest.mark.parametrize(("adjust", "shown"), [("none", (6, 5, 4)), ("reverse", (4, 5, 6)), ("model", (6, 4, 5))])
def test_the_large_one_sees_them_adjusted(adjust: Adjust, shown: tuple[int, ...]) -> None:
    arms = {"small": Sorting(lambda i: -i), "large": Sorting(lambda i: i), "adjuster": Sorting(lambda i: i % 2)}
    ranked = run(7, arms, keep=3, adjust=adjust)
    assert arms["large"].shown == [shown]
    assert arms["adjuster"].shown == ([(6, 5, 4)] if adjust == "model" else [])
    assert ranked.order == (4, 5, 6, 3, 2, 1, 0)


@pytest.mark.parametrize("status", [Status.TRUNCATED, Status.EMPTY, Status.REFUSED, Status.ERROR])
@pytest.mark.parametrize("adjust", ["none", "reverse", "model"])
def test_without_an_answer_of_the_large_one_the_order_is_the_small_ones(adjust: Adjust, status: Status) -> None:
    arms = {
        "small": Sorting(lambda i: -i),
        "large": Sorting(lambda i: i, status),
        "adjuster": Sorting(lambda i: i % 2),
    }
    ranked = run(7, arms, keep=3, adjust=adjust)
    assert ranked.order == (6, 5, 4, 3, 2, 1, 0)
    assert ranked.notes == {"top": "small"}
    assert ranked.statuses[status] == 1
    assert not ranked.undecided  # the small one did answer


def test_without_any_answer_the_order_is_the_first_stages() -> None:
    ranked = run(5, {"small": Sorting(int, Status.EMPTY), "large": Sorting(int, Status.REFUSED)}, adjust="reverse")
    assert ranked.order == (0, 1, 2, 3, 4)
    assert ranked.undecided


def test_an_adjuster_without_an_answer_adjusts_nothing() -> None:
    arms = {
        "small": Sorting(lambda i: -i),
        "large": Sorting(lambda i: i),
        "adjuster": Sorting(lambda i: i, Status.EMPTY),
    }
    run(5, arms, keep=3, adjust="model")
    assert arms["large"].shown == [(4, 3, 2)]


@given(
    n=st.integers(0, 40),
    keep=st.integers(1, 50),
    adjust=st.sampled_from(["none", "reverse", "model"]),
    multipliers=st.tuples(*[st.sampled_from([1, 7, 11, 13, 17])] * 3),
    statuses=st.tuples(*[st.sampled_from([Status.OK, Status.REFUSED])] * 3),
)
def test_it_is_always_a_permutation(
    n: int, keep: int, adjust: Adjust, multipliers: tuple[int, ...], statuses: tuple[Status, ...]
) -> None:
    def shuffling(multiplier: int, status: Status) -> Sorting:
        return Sorting(lambda i: multiplier * i % 41, status)

    sorts = [shuffling(*of_arm) for of_arm in zip(multipliers, statuses, strict=True)]
    arms = dict(zip(("small", "large", "adjuster"), sorts, strict=True))
    ranked = run(n, arms, keep=keep, adjust=adjust)
    assert sorted(ranked.order) == list(range(n))
    assert [len(indices) for indices in arms["large"].shown] == [min(keep, n)]


# --- whole runs


def oracle(collection: Collection, **flags: Any) -> dict[str, Any]:
    return {"engine": {"name": "oracle", "qrels": str(collection.qrels)}, **flags}


def docids(outcome: RunRecord) -> dict[str, list[str]]:
    return {qid: [hit.docid for hit in hits] for qid, hits in read_run(outcome.output).items()}


def shown(outcome: RunRecord, qid: str, part: str) -> list[list[str]]:
    return [record["docids"] for record in export(outcome.journal, qid) if record["part"] == part]


def turned(path: Path, collection: Collection, part: str, calls: int = 1) -> dict[str, Any]:
    """An engine of recorded answers, each of which turns what it is shown upside down."""
    rows = []
    for asked in collection.requests:
        n = min(len(asked.candidates), 20)
        answer = " > ".join(f"[{i}]" for i in range(n, 0, -1))
        rows += [{"qid": asked.query.qid, "part": part, "call": call, "response": answer} for call in range(calls)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"name": "recorded", "path": str(path)}


def test_the_oracle_twice_is_the_oracle(run_reranker: RunReranker, collection: Collection) -> None:
    outcome = run_reranker("coranking", oracle(collection))
    for asked in collection.requests[:3]:
        names = [c.docid for c in asked.candidates]
        grades = collection.grades[asked.query.qid]
        assert docids(outcome)[asked.query.qid][:10] == sorted(names, key=lambda name: -grades[name])[:10]
    # 25 candidates: two windows of 20, then one call over the top 20; 7: one each; a single one: nothing to ask
    assert {name: tally.judgements for name, tally in outcome.tallies.items()} == {"small": 3, "large": 2}
    assert {name: tally.rankings for name, tally in outcome.tallies.items()} == {"small": 3, "large": 3}
    lines = summary(outcome).splitlines()
    assert "  small   3 rankings, 1.0 judgements per query (3 ok)" in lines
    assert "  large   3 rankings, 0.7 judgements per query (2 ok)" in lines


def test_small_and_large_by_different_engines(
    run_reranker: RunReranker, collection: Collection, tmp_path: Path
) -> None:
    flags = oracle(collection, combine={"keep": 5})
    flags["arms"] = {"small": {"engine": turned(tmp_path / "answers.jsonl", collection, "small", calls=2)}}
    outcome = run_reranker("coranking", flags)
    names = [f"7-d{i}" for i in range(7)]
    top = sorted(names[:1:-1], key=lambda name: -collection.grades["7"][name])
    assert docids(outcome)["7"] == [*top, "7-d1", "7-d0"]
    assert shown(outcome, "7", "large") == [["7-d6", "7-d5", "7-d4", "7-d3", "7-d2"]]
    said = yaml.safe_load(outcome.metadata.read_text())
    parts = said["method"]["retrieval"][1]["parts"]
    assert {name: part["engine"]["name"] for name, part in parts.items()} == {"small": "recorded", "large": "oracle"}
    assert said["resources"]["llm"]["by part"]["large"]["calls"] == 2
    assert said["method"]["retrieval"][1]["combine"] == {
        "name": "cascade", "keep": 5, "adjust": "none", "show": "segment",
    }  # fmt: skip


@pytest.mark.parametrize(("adjust", "first"), [("none", 0), ("reverse", 6)])
def test_a_large_model_that_refuses_leaves_the_run_of_the_small_one(
    adjust: str, first: int, run_reranker: RunReranker, collection: Collection, tmp_path: Path
) -> None:
    alone = run_reranker("reasonrank", oracle(collection), output=tmp_path / "alone.txt")
    refusing = {"name": "faulty", "inner": {"qrels": str(collection.qrels)}, "faults": {"refused": 1.0}}
    flags = oracle(collection, combine={"adjust": adjust}, arms={"large": {"engine": refusing}})
    outcome = run_reranker("coranking", flags)
    assert docids(outcome) == docids(alone)
    assert outcome.tallies["large"].statuses == {Status.REFUSED: 2}
    assert shown(outcome, "7", "large")[0][first] == docids(alone)["7"][0]
    notes = {record["qid"]: record["notes"] for record in rankings(outcome.journal)}
    assert notes == {"long": {"top": "small"}, "7": {"top": "small"}, "single": {"top": "large"}, "nothing": {}}


def test_the_adjuster_decides_what_the_large_model_reads_first(
    run_reranker: RunReranker, collection: Collection, tmp_path: Path
) -> None:
    """Its answer has the form that its prompt asks for: a bare list."""
    answers = tmp_path / "answers.jsonl"
    rows = [{"qid": qid, "part": "adjuster", "call": 0, "response": "[3] [1] [2]"} for qid in ("long", "7")]
    answers.write_text("".join(json.dumps(row) + "\n" for row in rows))
    adjuster = {"reranker": "order-adjuster", "engine": {"name": "recorded", "path": str(answers)}}
    flags = oracle(collection, combine={"adjust": "model", "keep": 3}, arms={"adjuster": adjuster})
    outcome = run_reranker("coranking", flags)
    [[a, b, c]] = shown(outcome, "7", "adjuster")
    assert shown(outcome, "7", "large") == [[c, a, b]]
    assert outcome.tallies["adjuster"].statuses == {Status.OK: 2}
    assert [c.docid for c in collection.requests[1].candidates] != docids(outcome)["7"]


def test_the_adjusters_prompt_asks_for_a_bare_list() -> None:
    template = sources.load("order-adjuster")
    words = template.render("why", ["one", "two"]).messages[-1].content
    assert template.contract == "permutation"
    assert "[2] [1]" in words
    assert ">" not in words


def test_arms_may_be_combinations(run_reranker: RunReranker, collection: Collection) -> None:
    inner = {"reranker": "coranking", "combine": {"keep": 6}}
    outcome = run_reranker("coranking", oracle(collection, arms={"small": inner}, combine={"keep": 4}))
    grades = collection.gains("7", docids(outcome)["7"])
    assert grades == sorted(grades, reverse=True)
    assert {name: tally.judgements for name, tally in outcome.tallies.items()} == {
        "small/small": 3, "small/large": 2, "large": 2,
    }  # fmt: skip
    assert {record["part"] for record in export(outcome.journal, "7")} == {"small/small", "small/large", "large"}


def test_a_refused_top_within_a_combination_is_no_refusal_of_the_whole(
    run_reranker: RunReranker, collection: Collection, tmp_path: Path
) -> None:
    """The large arm is a cascade whose large model refuses: its small model's order counts, not that of the outer one."""
    refusing = {"name": "faulty", "inner": {"qrels": str(collection.qrels)}, "faults": {"refused": 1.0}}
    flags = oracle(collection)
    flags["arms"] = {
        "small": {"engine": turned(tmp_path / "answers.jsonl", collection, "small", calls=2)},
        "large": {"reranker": "coranking", "arms": {"large": {"engine": refusing}}},
    }
    outcome = run_reranker("coranking", flags)
    grades = collection.gains("7", docids(outcome)["7"])
    assert grades == sorted(grades, reverse=True)
    assert outcome.tallies["large/large"].bad == 2


def test_an_arm_ranks_down_to_its_own_depth(run_reranker: RunReranker, collection: Collection) -> None:
    outcome = run_reranker("coranking", oracle(collection, arms={"small": {"depth": 4}}, combine={"keep": 2}))
    head = sorted((f"7-d{i}" for i in range(4)), key=lambda name: -collection.grades["7"][name])
    assert docids(outcome)["7"] == [*head, "7-d4", "7-d5", "7-d6"]
    assert outcome.tallies["small"].judgements == 2


@pytest.mark.parametrize("adjust", ["none", "reverse"])
def test_what_the_large_one_leaves_as_it_was_is_in_the_small_ones_order(
    adjust: str, run_reranker: RunReranker, collection: Collection, tmp_path: Path
) -> None:
    large = {"reranker": "setwise", "strategy": {"name": "heapsort", "children": 2, "k": 2}}
    flags = oracle(collection, combine={"adjust": adjust}, arms={"large": large})
    small = docids(run_reranker("reasonrank", oracle(collection), output=tmp_path / "small.txt"))
    for qid, names in docids(run_reranker("coranking", flags)).items():
        assert names[2:] == [name for name in small[qid] if name not in names[:2]]


def test_a_large_one_that_would_not_rank_all_it_is_shown_is_refused(
    run_reranker: RunReranker, collection: Collection, tmp_path: Path
) -> None:
    flags = oracle(collection, arms={"large": {"depth": 5}}, combine={"keep": 6, "adjust": "reverse"})
    with pytest.raises(UsageError, match=r"large reranker's depth 5 is less than combine\.keep 6"):
        run_reranker("coranking", flags)
    assert not (tmp_path / "run.txt").exists()
    assert run_reranker("coranking", flags | {"arms": {"large": {"depth": 6}}}).tallies["large"].judgements == 2


def test_an_arm_is_fused_as_its_checkpoint_says(
    run_reranker: RunReranker, collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fuse: dict[str, Any] = {"method": "z-score", "weight": 0.3}
    small = {"reranker": "upr"}
    plain = docids(run_reranker("coranking", oracle(collection, arms={"small": small}, combine={"keep": 2})))
    alone = run_reranker("upr", oracle(collection, fuse=fuse), output=tmp_path / "alone.txt")
    made = layers.load("coranking", oracle(collection, arms={"small": small}, combine={"keep": 2}))[0]
    of_checkpoint = made.arms["small"].model_copy(update={"fuse": Fusion(**fuse)})  # as a preset would
    made = made.model_copy(update={"arms": {**made.arms, "small": of_checkpoint}})
    task = Task(stream(iter(collection.requests)), tmp_path / "fused.txt", collection.run, "topics.tsv", ["rerank"])
    fused = asyncio.run(rerank(plan(made), task))
    for qid, names in docids(fused).items():
        assert names[2:] == docids(alone)[qid][2:]
    assert docids(fused) != plain
    parts = yaml.safe_load(fused.metadata.read_text())["method"]["retrieval"][1]["parts"]
    assert [parts[arm]["fuse"]["method"] for arm in ("small", "large")] == ["z-score", "none"]


# --- what it costs


def test_explain_counts_one_call_of_the_large_model_instead_of_nine(command: Command) -> None:
    made = plan(*layers.load("coranking", dict(ORACLE)))
    cost = estimate(made, 100)
    assert (cost.calls, cost.chain, cost.shown) == (10, 10, 200)
    assert {name: part.calls for name, part in cost.parts.items()} == {"small": 9, "large": 1}
    assert estimate(plan(*layers.load("reasonrank", dict(ORACLE))), 100).calls == 9
    done = command("explain", "--rerank", "coranking", "--queries", 43, "--rerank.engine.name", "oracle")
    rows = {line[:26].strip(): line[26:].split() for line in done.stdout.splitlines()}
    assert rows["calls of small"] == ["9", "387"]
    assert rows["calls of large"] == ["1", "43"]


def test_the_adjuster_is_one_call_more() -> None:
    arms = {"adjuster": {"reranker": "order-adjuster"}}
    cost = estimate(plan(*layers.load("coranking", {**ORACLE, "combine": {"adjust": "model"}, "arms": arms})), 100)
    assert (cost.calls, cost.chain, cost.parts["adjuster"].shown) == (11, 11, 20)


@pytest.mark.parametrize("n", [0, 1, 2, 19, 20, 21, 100])
@pytest.mark.parametrize("keep", [1, 20, 200])
def test_the_prediction_holds_for_any_number_of_candidates(
    n: int, keep: int, run_reranker: RunReranker, collection: Collection
) -> None:
    flags = oracle(collection, combine={"keep": keep})
    predicted = estimate(plan(*layers.load("coranking", flags)), n)
    outcome = run_reranker("coranking", flags, requests=[request(n)])
    asked = {name: tally.judgements for name, tally in outcome.tallies.items() if tally.judgements}
    assert asked == {name: part.questions for name, part in predicted.parts.items()}
    assert sorted(docids(outcome)["q"] if n else []) == sorted(f"d{i}" for i in range(n))


# --- by flags


def arms(*words: str) -> dict[str, Settings]:
    return dict(layers.load("coranking", lift(words)[1], here=False)[0].arms)


def test_flags_of_all_arms_and_of_one() -> None:
    openai = ["--rerank.engine.name", "openai", "--rerank.engine.base_url", "http://a"]
    made = arms(*openai, "--rerank.arms.large.model", "org/large", "--rerank.arms.large.engine.base_url", "http://b")
    assert made["small"].engine == {"name": "openai", "base_url": "http://a"}
    assert made["large"].engine == {"name": "openai", "base_url": "http://b"}
    assert (made["small"].model, made["large"].model) == ("auto", "org/large")
    other = arms(*openai, "--rerank.arms.small.engine.name", "oracle", "--rerank.sampling.max_tokens", "99")
    assert other["small"].engine == {"name": "oracle"}
    assert {arm.sampling.max_tokens for arm in other.values()} == {99}


def test_an_arm_has_the_depth_of_the_whole_by_default() -> None:
    assert {arm.depth for arm in arms().values()} == {100}
    made = arms("--rerank.depth", "200", "--rerank.arms.large.depth", "15")
    assert (made["small"].depth, made["large"].depth) == (200, 15)
    nested = arms("--rerank.depth", "200", "--rerank.arms.small.reranker", "coranking")["small"]
    assert {arm.depth for arm in nested.arms.values()} == {200}


def test_an_arm_can_be_dropped() -> None:
    words = ["--rerank.engine.name", "oracle", "--rerank.arms.top", "none"]
    assert list(layers.load("route", lift(words)[1])[0].arms) == ["listwise"]
    with pytest.raises(UsageError, match="the cascade combination needs an arm small"):
        plan(*layers.load("coranking", {**ORACLE, "arms": {"small": "none"}}))


def test_another_reranker_for_an_arm_brings_its_own_settings() -> None:
    made = arms("--rerank.arms.large.reranker", "rank1", "--rerank.arms.large.passage_tokens", "77")["large"]
    assert made.strategy == {"name": "pointwise"}
    assert (made.checkpoint, made.passage_tokens) == (rerankers.read("rank1").get("checkpoint"), 77)
    same = arms("--rerank.arms.large.reranker", "reasonrank")["large"]
    assert same.strategy == {"name": "full"}


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("arms.large.modle x", "--rerank.arms.large.modle is not known; did you mean 'model'?"),
        ("arms.large.depth 0", "--rerank.arms.large.depth 0: input should be greater than or equal to 1"),
        ("arms.large.strategy.windowsize 5", "--rerank.arms.large.strategy.windowsize is not known"),
        ("arms.large.judge.kind permutations", "--rerank.arms.large.judge.kind 'permutations' is not known"),
        ("arms.large.sampling.temprature 0", "--rerank.arms.large.sampling.temprature is not known"),
        ("arms.large.engine oracle", "use --rerank.arms.large.engine.name oracle"),
        ("arms.large.reranker nosuch", "there is no reranker 'nosuch'"),
        ("arms.large rankgpt", "use --rerank.arms.large.reranker rankgpt"),
        ("arms rankgpt", "use --rerank.arms.NAME.reranker rankgpt"),
        ("arms.large.fuse.method rrf", "--rerank.arms.large.fuse can't be set for one arm"),
        ("arms.large.tag t", "--rerank.arms.large.tag can't be set for one arm"),
        ("arms.lrage.reranker rankgpt", "the cascade combination has no arm 'lrage'; did you mean 'large'?"),
        ("arms.other.depth 5", "--rerank.arms.other.reranker is required"),
        ("strategy.window_size 10", "--rerank.strategy can't be set for all arms; set --rerank.arms.NAME.strategy"),
        ("checkpoint x", "--rerank.checkpoint can't be set for all arms"),
        ("combine.keep 0", "--rerank.combine.keep 0: input should be greater than or equal to 1"),
        ("combine.kep 5", "--rerank.combine.kep is not known; did you mean 'keep'?"),
        ("combine.adjust sideways", "--rerank.combine.adjust 'sideways'"),
        ("combine.adjust model", "needs an arm adjuster: set --rerank.arms.adjuster.reranker order-adjuster"),
        (
            "arms.adjuster.reranker order-adjuster",
            "--rerank.arms.adjuster is not used: set --rerank.combine.adjust model",
        ),
        ("combine.name cascad", "--rerank.combine.name 'cascad' is not known; did you mean 'cascade'?"),
        ("combine cascade", "--rerank.combine.name cascade"),
    ],
)
def test_errors_name_the_flag(flags: str, says: str) -> None:
    words = ["--rerank.engine.name", "oracle", *f"--rerank.{flags}".split(" ")]
    with pytest.raises(UsageError) as error:
        plan(*layers.load("coranking", lift(words)[1]))
    assert says in str(error.value)


def test_the_whole_command(command: Command, collection: Collection, tmp_path: Path) -> None:
    run = tmp_path / "run.txt"
    engine = ["--rerank.engine.name", "oracle", "--rerank.engine.qrels", collection.qrels]
    small = ["--rerank.arms.small.engine.name", "recorded", "--rerank.arms.small.engine.path"]
    turned(tmp_path / "answers.jsonl", collection, "small", calls=2)
    words = [*collection.inputs, "--output", run, "--rerank", "coranking", *engine, *small, tmp_path / "answers.jsonl"]
    done = command("rerank", *words, "--rerank.combine.adjust", "reverse")
    assert (done.returncode, done.stderr) == (0, "")
    assert "  large   3 rankings, 0.7 judgements per query (2 ok)" in done.stdout
    assert {line.split()[-1] for line in run.read_text().splitlines()} == {"coranking-recorded+oracle"}
    assert command("validate", run, "--topics", collection.topics, "--first", collection.run).returncode == 0
