"""Several rankings made one: what each sample is shown, who votes, how sure the result is, what it costs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Container, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import Collection, Command, RunReranker
from hypothesis import given
from hypothesis import strategies as st

from pyserini_reasonrank.combine.aggregate import aggregate
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.runs import read_run
from pyserini_reasonrank.ir.voting import borda, distance, medoid, rrf
from pyserini_reasonrank.journal_reader import export, rankings
from pyserini_reasonrank.records import Candidate, Query, Ranked, Request, Status
from pyserini_reasonrank.run.cost import estimate
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.settings import layers
from pyserini_reasonrank.settings.flags import lift

Shown = Sequence[int]


class Ranker:
    """An arm that puts what it is shown in the order of ``key(sample, candidate, place)``, but for the ``silent`` samples.

    ``most``: how many of its answers were awaited at the same time.
    """

    def __init__(self, key: Callable[[int, int, int], Any], silent: Container[int] = (), depth: int = 1000) -> None:
        self.key, self.silent, self.depth = key, silent, depth
        self.shown: dict[int, list[int]] = {}
        self.most, self._open = 0, 0

    async def __call__(
        self, indices: Shown, *, sample: int = 0, prior: Sequence[int] | None = None, passages: Any = None
    ) -> Ranked:
        self.shown[sample] = list(indices)
        self._open += 1
        self.most = max(self.most, self._open)
        await asyncio.sleep(0)
        self._open -= 1
        places = range(len(indices))
        if sample in self.silent:
            return Ranked(tuple(places), {Status.TRUNCATED: 2})
        order = sorted(places[: self.depth], key=lambda place: self.key(sample, indices[place], place))
        order += places[self.depth :]
        return Ranked(tuple(order), {Status.OK: 1, Status.EMPTY: 1}, reasoning=f"thought {sample}")

    async def grade(self, texts: Sequence[str]) -> list[float | None]:
        raise NotImplementedError


def request(n: int, qid: str = "q") -> Request:
    return Request(Query(qid, "query"), tuple(Candidate(f"d{i}", -float(i), "text") for i in range(n)))


def run(ranker: Ranker, n: int, qid: str = "q", **options: Any) -> Ranked:
    return asyncio.run(aggregate(request(n, qid), {"ranker": ranker}, **options))


def by_candidate(sample: int, candidate: int, place: int) -> int:
    """Best last, whatever is shown where."""
    return -candidate


# --- what a sample is shown


def test_all_samples_are_asked_for_at_once() -> None:
    ranker = Ranker(by_candidate)
    run(ranker, 7, samples=5)
    assert (sorted(ranker.shown), ranker.most) == ([0, 1, 2, 3, 4], 5)


def test_the_first_sample_sees_the_first_stage_and_the_others_neighbours_shuffled() -> None:
    ranker = Ranker(by_candidate)
    run(ranker, 50, samples=4, shuffle=20)
    assert ranker.shown[0] == list(range(50))
    others = [ranker.shown[sample] for sample in (1, 2, 3)]
    assert len({tuple(shown) for shown in others} | {tuple(range(50))}) == 4
    for shown in others:
        assert [sorted(shown[:20]), sorted(shown[20:40]), sorted(shown[40:])] == [
            list(range(20)),
            list(range(20, 40)),
            list(range(40, 50)),
        ]


def test_the_whole_list_is_shuffled_where_that_is_said() -> None:
    ranker = Ranker(by_candidate)
    run(ranker, 50, shuffle=100)
    assert all(set(ranker.shown[sample][:20]) != set(range(20)) for sample in (1, 2, 3))


@pytest.mark.parametrize("depth", [5, 20, 30])
def test_what_lies_below_an_arms_depth_is_not_shuffled(depth: int) -> None:
    ranker = Ranker(by_candidate, depth=depth)
    ranked = run(ranker, 50, shuffle=20)
    for sample in (1, 2, 3):
        assert sorted(ranker.shown[sample][:depth]) == list(range(depth)) != ranker.shown[sample][:depth]
        assert ranker.shown[sample][depth:] == list(range(depth, 50))
    assert ranked.order == (*range(depth)[::-1], *range(depth, 50))
    assert ranked.confidence == (1.0,) * 50


@pytest.mark.parametrize("shuffle", [0, 1])
def test_nothing_is_shuffled_where_that_is_said(shuffle: int) -> None:
    ranker = Ranker(by_candidate)
    run(ranker, 50, shuffle=shuffle)
    assert list(ranker.shown.values()) == [list(range(50))] * 4


def test_query_and_seed_decide_what_is_shown() -> None:
    def shown(qid: str, **options: Any) -> dict[int, list[int]]:
        ranker = Ranker(by_candidate)
        run(ranker, 20, qid, **options)
        return ranker.shown

    assert shown("a") == shown("a")
    assert shown("a")[1] != shown("b")[1]
    assert shown("a", seed=1)[1] != shown("a", seed=2)[1]


# --- the vote


@pytest.mark.parametrize("method", ["borda", "kemeny", "rrf", "medoid"])
def test_rankings_that_agree_are_the_result_however_they_were_shown(method: str) -> None:
    ranked = run(Ranker(by_candidate), 30, method=method)
    assert ranked.order == tuple(range(30))[::-1]
    assert ranked.confidence == (1.0,) * 30
    assert ranked.statuses == {Status.OK: 4, Status.EMPTY: 4}
    assert ranked.notes == {
        "samples": 4, "decided": 4, "agreement": 1.0, "method": method, "distances": [0.0, 0.0, 0.0, 0.0],
    }  # fmt: skip


def test_a_liking_for_places_is_voted_down() -> None:
    """A ranker that puts what it sees first on top: once it is fooled, in half of the samples it is not."""
    gains = [0, 0, 3, 0, 2, 0, 1, 0]

    def biased(sample: int, candidate: int, place: int) -> float:
        return -gains[candidate] - (3.5 if place == 0 else 0)

    assert run(Ranker(biased), 8, samples=2, shuffle=0).order[0] == 0
    assert run(Ranker(biased), 8, samples=7).order[:3] == (2, 4, 6)


@pytest.mark.parametrize(
    ("method", "vote"), [("borda", borda), ("rrf", lambda orders, before: rrf(orders, before, k=1)), ("medoid", medoid)]
)
def test_the_method_decides(method: str, vote: Callable[..., list[int]]) -> None:
    orders = [[0, 1, 2, 3, 4], [0, 3, 1, 4, 2], [4, 2, 0, 3, 1], [2, 0, 1, 4, 3]]

    def key(sample: int, candidate: int, place: int) -> int:
        return orders[sample].index(candidate)

    ranked = run(Ranker(key), 5, method=method, k=1)
    assert ranked.order == tuple(vote(orders, range(5)))
    assert ranked.notes["distances"] == [distance(order, ranked.order) for order in orders]
    assert 0 < ranked.notes["agreement"] < 1
    nearest = min(range(4), key=lambda sample: ranked.notes["distances"][sample])
    assert ranked.reasoning == f"thought {nearest}"


def test_a_sample_without_an_answer_has_no_vote_and_lowers_the_confidence() -> None:
    ranked = run(Ranker(by_candidate, silent=[0, 2]), 6, samples=4)
    assert ranked.order == (5, 4, 3, 2, 1, 0)
    assert ranked.confidence == (0.5,) * 6
    assert ranked.statuses == {Status.OK: 2, Status.EMPTY: 2, Status.TRUNCATED: 4}
    assert not ranked.undecided
    assert ranked.notes["decided"] == 2
    assert ranked.notes["distances"] == [None, 0.0, None, 0.0]


@pytest.mark.parametrize("method", ["borda", "kemeny", "rrf", "medoid"])
def test_without_any_answer_the_order_is_the_first_stages(method: str) -> None:
    ranked = run(Ranker(by_candidate, silent=range(4)), 6, method=method)
    assert ranked.order == (0, 1, 2, 3, 4, 5)
    assert ranked.undecided
    assert ranked.confidence == (0.0,) * 6
    assert (ranked.notes["decided"], ranked.notes["agreement"], ranked.reasoning) == (0, None, "")


@given(
    n=st.integers(0, 30),
    samples=st.integers(2, 6),
    method=st.sampled_from(["borda", "kemeny", "rrf", "medoid"]),
    shuffle=st.integers(0, 40),
    seed=st.integers(0, 99),
    silent=st.sets(st.integers(0, 5)),
)
def test_it_is_always_a_permutation(
    n: int, samples: int, method: str, shuffle: int, seed: int, silent: set[int]
) -> None:
    def key(sample: int, candidate: int, place: int) -> int:
        return (candidate * 7 + place * 3 + sample * 11) % 31

    ranked = run(Ranker(key, silent), n, samples=samples, method=method, shuffle=shuffle, seed=seed)
    assert sorted(ranked.order) == list(range(n))
    assert len(ranked.confidence) == n
    assert all(0 <= share <= 1 for share in ranked.confidence)
    json.dumps(dict(ranked.notes), allow_nan=False)


# --- whole runs


def oracle(collection: Collection, **flags: Any) -> dict[str, Any]:
    return {"engine": {"name": "oracle", "qrels": str(collection.qrels)}, **flags}


def test_a_run_of_the_oracle_is_the_best_order(run_reranker: RunReranker, collection: Collection) -> None:
    outcome = run_reranker("self-consistency", oracle(collection))
    for qid, hits in read_run(outcome.output).items():
        best = sorted(collection.grades[qid].values(), reverse=True)[:10]
        assert collection.gains(qid, [hit.docid for hit in hits[:10]]) == best


def test_the_trace_holds_a_confidence_for_every_rank(run_reranker: RunReranker, collection: Collection) -> None:
    outcome = run_reranker("self-consistency", oracle(collection))
    for record in rankings(outcome.journal):
        assert len(record["confidence"]) == len(record["ranking"])
        if record["qid"] in ("long", "7"):
            assert record["notes"]["samples"] == record["notes"]["decided"] == 4
            assert 0 < record["notes"]["agreement"] <= 1
    parts = {record["part"] for record in export(outcome.journal, "7")}
    assert parts == {"ranker", "ranker#2", "ranker#3", "ranker#4"}


@pytest.mark.parametrize("n", [0, 1, 2, 19, 20, 21, 100])
@pytest.mark.parametrize("flags", [{}, {"combine": {"samples": 7, "shuffle": 0}, "sampling": {"temperature": 0.5}}])
def test_the_prediction_holds_for_any_number_of_candidates(
    n: int, flags: dict[str, Any], run_reranker: RunReranker, collection: Collection
) -> None:
    flags = oracle(collection, **flags)
    predicted = estimate(plan(*layers.load("self-consistency", flags)), n)
    outcome = run_reranker("self-consistency", flags, requests=[request(n)])
    assert (outcome.tally.judgements, outcome.tally.calls) == (predicted.questions, predicted.calls)
    assert outcome.tally.from_journal == 0


def test_it_costs_as_many_rankings_as_samples_side_by_side(collection: Collection) -> None:
    one = estimate(plan(*layers.load("reasonrank", oracle(collection))), 100)
    for samples in (2, 4, 10):
        cost = estimate(plan(*layers.load("self-consistency", oracle(collection, combine={"samples": samples}))), 100)
        assert (cost.calls, cost.shown, cost.chain) == (samples * one.calls, samples * one.shown, one.chain)


def test_any_reranker_can_be_asked_several_times(run_reranker: RunReranker, collection: Collection) -> None:
    arms = {"ranker": {"reranker": "coranking", "combine": {"keep": 4}}}
    outcome = run_reranker("self-consistency", oracle(collection, arms=arms, combine={"samples": 3}))
    assert {name: tally.judgements for name, tally in outcome.tallies.items()} == {
        "ranker/small": 9, "ranker/large": 6,
    }  # fmt: skip
    [hits] = [hits for qid, hits in read_run(outcome.output).items() if qid == "7"]
    gains = collection.gains("7", [hit.docid for hit in hits])
    assert gains == sorted(gains, reverse=True)


@pytest.mark.parametrize(
    "arm",
    [
        {"reranker": "setwise", "strategy": {"children": 4, "k": 1}},
        {"reranker": "prp", "sampling": {"temperature": 0.5}},
        {"reranker": "rank1", "sampling": {"temperature": 0.5}},
        {"reranker": "grouprank"},
    ],
)
def test_what_an_arm_left_as_it_was_is_left_in_first_stage_order(
    arm: dict[str, Any], run_reranker: RunReranker, collection: Collection
) -> None:
    """An assessor who finds one candidate better than the others, which are all alike."""
    qrels = collection.folder / "one.txt"
    qrels.write_text("long 0 long-d4 3\n")
    flags = {"engine": {"name": "oracle", "qrels": str(qrels)}, "arms": {"ranker": arm}}
    outcome = run_reranker("self-consistency", flags, requests=collection.requests[:1])
    [hits] = read_run(outcome.output).values()
    others = [f"long-d{i}" for i in range(25) if i != 4]
    assert [hit.docid for hit in hits] == ["long-d4", *others]
    [record] = rankings(outcome.journal)
    assert set(record["confidence"]) == {1.0}


def test_a_finished_run_is_not_paid_for_again(
    run_reranker: RunReranker, collection: Collection, tmp_path: Path
) -> None:
    first = run_reranker("self-consistency", oracle(collection))
    written = first.output.read_bytes()
    again = run_reranker("self-consistency", oracle(collection))
    assert (again.tally.calls, again.tally.from_journal) == (0, first.tally.calls)
    assert again.output.read_bytes() == written


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("combine.samples 1", "--rerank.combine.samples 1: input should be greater than or equal to 2"),
        ("combine.method bordo", "--rerank.combine.method 'bordo'"),
        ("combine.shuffle -1", "--rerank.combine.shuffle -1: input should be greater than or equal to 0"),
        ("combine.sample 4", "--rerank.combine.sample is not known; did you mean 'samples'?"),
        ("arms.other.reranker rankgpt", "the aggregate combination has no arm 'other'"),
    ],
)
def test_errors_name_the_flag(flags: str, says: str) -> None:
    words = ["--rerank.engine.name", "oracle", *f"--rerank.{flags}".split(" ")]
    with pytest.raises(UsageError) as error:
        plan(*layers.load("self-consistency", lift(words)[1]))
    assert says in str(error.value)


def test_the_whole_command(command: Command, collection: Collection, tmp_path: Path) -> None:
    run = tmp_path / "run.txt"
    engine = ["--rerank.engine.name", "oracle", "--rerank.engine.qrels", collection.qrels]
    words = [*collection.inputs, "--output", run, "--rerank", "self-consistency", *engine]
    done = command("rerank", *words, "--rerank.combine.method", "borda")
    assert (done.returncode, done.stderr) == (0, "")
    assert command("validate", run, "--topics", collection.topics, "--first", collection.run).returncode == 0
    traced = command("trace", "rankings", f"{run}.journal.sqlite", "--qid", "7")
    [record] = [json.loads(line) for line in traced.stdout.splitlines()]
    assert len(record["confidence"]) == 7
    assert record["notes"]["method"] == "borda"
