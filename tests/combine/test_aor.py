"""Rankings whose reasonings are judged: what the critic reads, who votes, when it is settled, what it costs."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from conftest import Collection, Command, RunReranker
from hypothesis import given
from hypothesis import strategies as st

from pyserini_reasonrank.combine.aor import aor
from pyserini_reasonrank.combine.arms import Arm
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.runs import read_run
from pyserini_reasonrank.journal_reader import export, rankings
from pyserini_reasonrank.records import Candidate, Query, Ranked, Request, Status
from pyserini_reasonrank.run.cost import estimate
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.settings import layers
from pyserini_reasonrank.settings.flags import lift

Order = Sequence[int]


class Ranker:
    """An arm that finds ``orders`` one after another (the last one again and again), however it is shown the candidates."""

    depth = 1000

    def __init__(self, *orders: Order, silent: Container[int] = ()) -> None:
        self.orders, self.silent = orders, silent
        self.samples: list[int] = []

    async def __call__(
        self, indices: Order, *, sample: int = 0, prior: Sequence[int] | None = None, passages: Any = None
    ) -> Ranked:
        self.samples.append(sample)
        if sample in self.silent:
            return Ranked(tuple(range(len(indices))), {Status.EMPTY: 1})
        order = self.orders[min(sample, len(self.orders) - 1)]
        positions = tuple(list(indices).index(candidate) for candidate in order)
        return Ranked(positions, {Status.OK: 1}, reasoning=f"Thought {sample}.")

    async def grade(self, texts: Sequence[str]) -> list[float | None]:
        raise NotImplementedError


Reads = list[list[int]]


class Critic:
    """An arm that grades chains alone by ``local``, and where it reads several of them by ``together`` if that is given.

    ``read`` holds the samples of each question, ``texts`` its words.
    """

    def __init__(
        self,
        local: Mapping[int, float | None] | float,
        together: Callable[[Sequence[int]], Sequence[float | None]] | None = None,
        compares: Callable[[Sequence[int]], bool] = lambda samples: len(samples) > 1,
    ) -> None:
        self.local, self.together, self.compares = local, together, compares
        self.read: Reads = []
        self.texts: list[Sequence[str]] = []

    async def __call__(
        self, indices: Order, *, sample: int = 0, prior: Sequence[int] | None = None, passages: Any = None
    ) -> Ranked:
        raise NotImplementedError

    async def grade(self, texts: Sequence[str]) -> list[float | None]:
        samples = [int(re.findall(r"Thought (\d+)", text)[0]) for text in texts]
        self.read.append(samples)
        self.texts.append(texts)
        if self.together and self.compares(samples):
            return list(self.together(samples))
        return [self.local.get(s) if isinstance(self.local, Mapping) else self.local for s in samples]


def request(n: int) -> Request:
    return Request(Query("q", "query"), tuple(Candidate(f"d{i}", -float(i), "text") for i in range(n)))


def run(ranker: Ranker, critic: Critic, n: int = 6, **options: Any) -> Ranked:
    return asyncio.run(aor(request(n), {"ranker": ranker, "critic": cast(Arm, critic)}, **options))


def told(ranked: Ranked) -> list[tuple[list[int], list[float | None], float | None]]:
    return [(bucket["samples"], bucket["grades"], bucket["score"]) for bucket in ranked.notes["buckets"]]


A, B, C = [5, 4, 3, 2, 1, 0], [0, 1, 2, 3, 4, 5], [1, 3, 5, 0, 2, 4]
"""Three orders with three different sets on top."""


# --- buckets


def test_rankings_with_one_top_are_graded_side_by_side_and_settled() -> None:
    ranker, critic = Ranker(A, [3, 5, 4, 0, 1, 2], A, A), Critic({0: 8, 1: 6, 2: 7, 3: 7})
    ranked = run(ranker, critic)
    assert critic.read == [[0, 1, 2, 3]]
    assert ranked.order == (5, 4, 3, 2, 1, 0)
    assert told(ranked) == [([0, 1, 2, 3], [8, 6, 7, 7], 7)]
    assert (ranked.notes["settled"], ranked.notes["lead"], ranked.notes["confidence"]) == (True, 7, 0.7)
    assert ranked.confidence == (0.75, 0.75, 1, 0.75, 1, 1)
    assert ranked.statuses == {Status.OK: 4}
    assert ranked.reasoning == "Thought 0."


def test_buckets_by_distance() -> None:
    near = [5, 4, 3, 2, 0, 1]  # one of fifteen pairs
    far = [4, 5, 3, 0, 2, 1]  # four
    orders = (A, near, far, A)
    assert [samples for samples, *_ in told(run(Ranker(*orders), Critic(7)))] == [[0, 1, 2, 3]]
    by_distance = run(Ranker(*orders), Critic(7), bucket="distance", margin=0)
    assert [samples for samples, *_ in told(by_distance)] == [[0, 1, 3], [2]]
    wide = run(Ranker(*orders), Critic(7), bucket="distance", threshold=4 / 15)
    assert [samples for samples, *_ in told(wide)] == [[0, 1, 2, 3]]


def test_the_critic_reads_five_at_once_at_most() -> None:
    critic = Critic(7)
    run(Ranker(A), critic, samples=12, limit=12)
    assert critic.read == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11]]


def test_the_critic_reads_order_and_reasoning_by_the_labels_of_what_was_shown() -> None:
    critic = Critic(7)
    run(Ranker([2, 0, 1]), critic, n=3, samples=2, limit=2, shuffle=0)
    assert critic.texts == [[f"Order: [3] > [1] > [2]. Reasoning: Thought {i}." for i in (0, 1)]]


def test_the_critic_reads_a_note_if_there_is_no_reasoning() -> None:
    class Silent(Ranker):
        async def __call__(
            self, indices: Order, *, sample: int = 0, prior: Sequence[int] | None = None, passages: Any = None
        ) -> Ranked:
            return Ranked(tuple(range(len(indices)))[::-1], {Status.OK: 1})

    class Deaf(Critic):
        async def grade(self, texts: Sequence[str]) -> list[float | None]:
            self.texts.append(texts)
            return [3] * len(texts)

    critic = Deaf(0)
    ranked = run(Silent(), critic, n=3, samples=2, limit=2, shuffle=0)
    assert critic.texts == [["Order: [3] > [2] > [1]. Reasoning: none was written down."] * 2]
    assert ranked.order == (2, 1, 0)


# --- who votes


def test_only_rankings_with_a_good_grade_vote() -> None:
    same_top = [3, 4, 5, 0, 1, 2]
    ranked = run(Ranker(A, same_top, same_top, same_top), Critic({0: 9, 1: 5, 2: 5, 3: 5}))
    assert ranked.order == tuple(A)
    ranked = run(Ranker(A, same_top, same_top, same_top), Critic({0: 9, 1: 5, 2: 5, 3: 5}), enough=5)
    assert ranked.order == tuple(same_top)


def test_a_bucket_without_a_good_grade_is_out() -> None:
    critic = Critic({0: 5, 1: 5, 2: 5, 3: 6})
    ranked = run(Ranker(A, A, A, B), critic)
    assert critic.read == [[0, 1, 2], [3]]
    assert ranked.order == tuple(B)
    assert told(ranked) == [([0, 1, 2], [5, 5, 5], None), ([3], [6], 6)]
    assert ranked.notes["settled"]


def test_where_no_grade_is_good_all_vote() -> None:
    ranked = run(Ranker(A, B, A, A), Critic(2, together=lambda samples: [5 if s == 1 else 2 for s in samples]))
    assert ranked.order == tuple(B)
    assert ranked.notes["lead"] == 3


def test_a_grade_that_cannot_be_read_is_no_vote_and_is_counted() -> None:
    same_top = [3, 4, 5, 0, 1, 2]
    ranked = run(Ranker(A, same_top, same_top, A), Critic({0: 8, 1: None, 2: None, 3: 8}))
    assert ranked.order == tuple(A)
    assert (ranked.notes["unreadable"], ranked.notes["lead"]) == (2, 8)


def test_where_no_grade_can_be_read_the_largest_bucket_votes() -> None:
    critic = Critic({}, together=lambda samples: [None] * len(samples))
    ranked = run(Ranker(B, A, A, C, A, B, A, C), critic)
    assert ranked.order == tuple(A)
    assert (ranked.notes["settled"], ranked.notes["confidence"]) == (False, 0)
    assert ranked.notes["unreadable"] == sum(map(len, critic.read))


# --- comparisons


def test_buckets_are_compared_by_their_best_one_round_after_another() -> None:
    critic = Critic(
        {0: 7, 1: 9, 2: 8, 3: 8, 4: 6, 5: 6},
        together=lambda samples: [8 if s in (1, 3, 0) else 5 for s in samples],
        compares=lambda samples: {s % 2 for s in samples} == {0, 1},
    )
    ranked = run(Ranker(B, A, B, A, B, A), critic, samples=6, limit=6)
    assert critic.read[:2] == [[0, 2, 4], [1, 3, 5]]
    assert critic.read[2:] == [[2, 1], [3, 0], [4, 5]]
    assert [score for *_, score in told(ranked)] == [6, 7]


def test_scores_are_means_over_the_rounds_and_a_clear_lead_settles_it() -> None:
    def together(samples: Sequence[int]) -> list[float | None]:
        return [{0: 9, 1: 4, 2: 3}[s] if s != samples[0] else None for s in samples]

    critic = Critic(7, together)
    ranked = run(Ranker(A, B, C), critic, samples=3)
    assert critic.read[3:] == [[0, 1, 2], [1, 2, 0], [2, 0, 1]]
    assert [score for *_, score in told(ranked)] == [9, 4, 3]
    assert (ranked.order, ranked.notes["lead"], ranked.notes["unreadable"]) == (tuple(A), 5, 3)
    assert ranked.notes["samples"] == 3


def test_the_same_comparison_is_not_asked_twice() -> None:
    critic = Critic(7, lambda samples: [6] * len(samples))
    ranked = run(Ranker(A, B, A, A, A), critic, samples=2, limit=2)
    assert critic.read == [[0], [1], [0, 1], [1, 0]]
    critic = Critic({0: 9, 1: 9, 2: 7, 3: 7}, lambda s: [6, 6], lambda s: sorted(s) == [0, 1])
    ranked = run(Ranker(A, B, A, B), critic, samples=2, limit=4, rounds=1)
    assert critic.read == [[0], [1], [0, 1], [0, 2], [1, 3]]
    assert ranked.notes["lead"] == 0


@pytest.mark.parametrize(("margin", "asked"), [(1, 4), (2, 6), (3, 8)])
def test_more_is_sampled_until_the_lead_is_clear(margin: float, asked: int) -> None:
    def together(samples: Sequence[int]) -> list[float | None]:
        return [5 + (len(samples) - 2) / 2 * (s == 0) for s in samples]

    tops = [{1, 2, 5}, {1, 4, 5}, {2, 3, 5}, {0, 2, 4}, {0, 1, 5}]
    ranker = Ranker(A, B, C, *([*top, *sorted({*range(6)} - top)] for top in tops))
    ranked = run(ranker, Critic(7, together), margin=margin)
    assert ranker.samples == list(range(asked))
    assert ranked.notes["samples"] == asked
    assert ranked.order == tuple(A)
    assert ranked.notes["settled"] is True


def test_new_rankings_are_graded_beside_the_best_and_the_worst_of_before() -> None:
    critic = Critic(
        {0: 6, 1: 9, 2: 7, 3: 8, 4: 7, 5: 8, 6: 7, 7: 2},
        together=lambda samples: [6] * len(samples),
        compares=lambda samples: 3 in samples and len(samples) == 2,
    )
    ranked = run(Ranker(A, A, A, B, A), critic, step=4)
    asked = dict(zip(map(tuple, critic.read), critic.texts, strict=True))
    assert {(0, 1, 2), (3,), (1, 0, 4, 5, 6), (1, 0, 7)} <= asked.keys()  # never more than five at once
    earlier = [text.split("Order")[0] for text in asked[1, 0, 4, 5, 6]]
    assert earlier == ["Earlier grade: 9. ", "Earlier grade: 6. ", "", "", ""]
    assert told(ranked)[0][:2] == ([0, 1, 2, 4, 5, 6, 7], [6, 9, 7, 7, 8, 7, 2])


def test_the_limit_is_kept() -> None:
    ranker = Ranker(A, B, A, B, A)
    ranked = run(ranker, Critic(7), limit=5, step=3)
    assert ranker.samples == [0, 1, 2, 3, 4]
    assert ranked.notes["settled"] is False


# --- at the edges


def test_samples_without_an_answer_are_replaced_up_to_the_limit() -> None:
    ranker, critic = Ranker(A, silent=range(8)), Critic(7)
    ranked = run(ranker, critic)
    assert (len(ranker.samples), critic.read) == (8, [])
    assert ranked.order == (0, 1, 2, 3, 4, 5)
    assert ranked.undecided
    assert ranked.confidence == (0,) * 6
    ranker = Ranker(A, silent=range(4))
    assert run(ranker, critic).order == tuple(A)
    assert (len(ranker.samples), critic.read) == (6, [[4, 5]])


@pytest.mark.parametrize("n", [0, 1])
def test_where_there_is_nothing_to_order_nobody_is_asked(n: int) -> None:
    ranker, critic = Ranker(range(n)), Critic(7)
    ranked = run(ranker, critic, n=n)
    assert (ranked.order, ranked.confidence, ranker.samples, critic.read) == (tuple(range(n)), (1.0,) * n, [], [])


@given(
    n=st.integers(2, 12),
    orders=st.lists(st.randoms(use_true_random=False), min_size=8, max_size=8),
    grades=st.lists(st.one_of(st.none(), st.integers(0, 10)), min_size=8, max_size=8),
    shift=st.integers(0, 9),
    bucket=st.sampled_from(["top", "distance"]),
    silent=st.sets(st.integers(0, 7)),
)
def test_it_is_always_a_permutation_at_no_more_than_the_predicted_cost(
    n: int, orders: list[Any], grades: list[float | None], shift: int, bucket: str, silent: set[int]
) -> None:
    ranker = Ranker(*(shuffler.sample(range(n), n) for shuffler in orders), silent=silent)
    critic = Critic(dict(enumerate(grades)), lambda samples: [grades[(s + shift) % 8] for s in samples])
    ranked = run(ranker, critic, n=n, bucket=bucket)
    assert sorted(ranked.order) == list(range(n))
    assert all(0 <= share <= 1 for share in ranked.confidence)
    assert len(ranker.samples) <= 8
    assert len(critic.read) <= 17
    assert all(len(samples) <= 8 for samples in critic.read)
    json.dumps(dict(ranked.notes), allow_nan=False)


# --- whole runs


def oracle(collection: Collection, **flags: Any) -> dict[str, Any]:
    return {"engine": {"name": "oracle", "qrels": str(collection.qrels)}, **flags}


def test_what_it_costs_at_most(collection: Collection) -> None:
    for depth in (20, 100):
        cost = estimate(plan(*layers.load("aor", oracle(collection, depth=depth))), depth)
        assert {name: part.calls for name, part in cost.parts.items()} == {"ranker": 8, "critic": 17}
        assert cost.chain == 9
        assert (cost.parts["ranker"].shown, cost.parts["ranker"].widest) == (8 * depth, depth)
        assert cost.parts["critic"].widest == 8


def test_a_run_of_the_oracle_costs_no_more_than_that(run_reranker: RunReranker, collection: Collection) -> None:
    outcome = run_reranker("aor", oracle(collection))
    cost = estimate(plan(*layers.load("aor", oracle(collection))), 20)
    for record in rankings(outcome.journal):
        asked = [call["part"].split("#")[0] for call in export(outcome.journal, record["qid"])]
        assert asked.count("ranker") == record["notes"].get("samples", 0) <= cost.parts["ranker"].calls
        assert asked.count("critic") <= cost.parts["critic"].calls
        assert len(record["confidence"]) == min(20, len(record["ranking"]))
    assert outcome.tally.from_journal == 0
    hits = read_run(outcome.output)["7"]
    gains = collection.gains("7", [hit.docid for hit in hits])
    assert gains == sorted(gains, reverse=True)


def test_a_replay_of_its_journal_is_the_same_run(
    run_reranker: RunReranker, collection: Collection, tmp_path: Path
) -> None:
    first = run_reranker("aor", oracle(collection))
    recorded = {"engine": {"name": "recorded", "path": str(first.journal)}, "tag": "aor-oracle"}
    again = run_reranker("aor", recorded, output=tmp_path / "again.txt")
    assert again.output.read_bytes() == first.output.read_bytes()
    assert again.tally.calls == first.tally.calls


def test_the_critics_grades_decide(run_reranker: RunReranker, collection: Collection, tmp_path: Path) -> None:
    """Four rankings that agree on nothing; the critic, in its own words, finds the third convincing."""
    tops = ["[1] > [2] > [3] > [4]", "[5] > [6] > [7] > [1]", "[4] > [5] > [6]", "[7] > [1] > [4]"]
    named = ["", "#2", "#3", "#4"]
    rows = [
        {"qid": "7", "part": f"ranker{name}", "call": 0, "response": f"<think>So.</think><answer>{top}</answer>"}
        for name, top in zip(named, tops, strict=True)
    ] + [
        {"qid": "7", "part": f"critic{name}", "call": 0, "response": f"<think>Hm.</think><answer>[1] {grade}</answer>"}
        for name, grade in zip(named, (3, 2, 9, 5), strict=True)
    ]
    answers = tmp_path / "answers.jsonl"
    answers.write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = {"engine": {"name": "recorded", "path": str(answers)}, "combine": {"shuffle": 0}}
    flags |= {"sampling": {"temperature": 0.5}}
    outcome = run_reranker("aor", flags, requests=collection.requests[1:2])
    docids = [hit.docid for hit in read_run(outcome.output)["7"]]
    assert docids == [f"7-d{i}" for i in (3, 4, 5, 0, 1, 2, 6)]
    [record] = rankings(outcome.journal, "7")
    assert [bucket["grades"] for bucket in record["notes"]["buckets"]] == [[3], [2], [9], [5]]
    assert (record["notes"]["lead"], record["notes"]["confidence"]) == (9, 0.9)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("combine.limit 3", "--rerank.combine.limit 3 is less than --rerank.combine.samples 4"),
        ("combine.bucket tops", "--rerank.combine.bucket 'tops'"),
        ("combine.enough 11", "--rerank.combine.enough 11: input should be less than or equal to 10"),
        ("combine.threshhold 0.1", "--rerank.combine.threshhold is not known; did you mean 'threshold'?"),
        ("arms.critics.reranker grouprank", "the aor combination has no arm 'critics'; did you mean 'critic'?"),
    ],
)
def test_errors_name_the_flag(flags: str, says: str) -> None:
    words = ["--rerank.engine.name", "oracle", *f"--rerank.{flags}".split(" ")]
    with pytest.raises(UsageError) as error:
        plan(*layers.load("aor", lift(words)[1]))
    assert says in str(error.value)


def test_the_whole_command(command: Command, collection: Collection, tmp_path: Path) -> None:
    run = tmp_path / "run.txt"
    engine = ["--rerank.engine.name", "oracle", "--rerank.engine.qrels", collection.qrels]
    done = command("rerank", *collection.inputs, "--output", run, "--rerank", "aor", *engine)
    assert (done.returncode, done.stderr) == (0, "")
    assert command("validate", run, "--topics", collection.topics, "--first", collection.run).returncode == 0
    traced = command("trace", "rankings", f"{run}.journal.sqlite", "--qid", "long")
    [record] = [json.loads(line) for line in traced.stdout.splitlines()]
    assert len(record["ranking"]) == 25
    assert len(record["confidence"]) == 20
    assert set(record["notes"]) >= {"buckets", "settled", "lead", "confidence", "unreadable"}
