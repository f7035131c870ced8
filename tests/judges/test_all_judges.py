"""What holds for every judge there is: any answer ends in a judgement, the ideal answer reads back, calls are as foretold."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyserini_reasonrank.judges import Ask, Judge
from pyserini_reasonrank.judges.registry import JUDGES
from pyserini_reasonrank.judges.written import Written
from pyserini_reasonrank.records import Capability, Completion, Judgement, Message, Prompt, Sampling, Status
from pyserini_reasonrank.strategies import STRATEGIES

PROMPT = Prompt((Message("user", "Which of these?"), Message("assistant", "why is the sky blue")))
SAMPLING = Sampling(max_tokens=100)
SCORES = STRATEGIES["pointwise"].judges
ORDERS = STRATEGIES["sliding"].judges
TOURNAMENTS = STRATEGIES["tournament"].judges
BESTS = STRATEGIES["heapsort"].judges

FRAGMENTS = [
    "<think>",
    "</think>",
    "<answer>",
    "</answer>",
    "[1]",
    "[2] 7",
    '{"[1]": 7}',
    "```json",
    "<reason>",
    "</reason>",
    "<score>",
    "</score>",
    " > ",
    "[20]",
    "\n",
    "²",
    "true",
    "A",
    "10",
]
texts = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=6)), max_size=15).map("".join)
completions = st.one_of(
    st.builds(
        Completion,
        text=texts,
        finish_reason=st.sampled_from(["stop", "length", "refusal"]),
        choices=st.dictionaries(st.sampled_from("ABCDEXYZ"), st.floats(-700, 0)),
    ),
    st.just(Completion(finish_reason="error", error="Error code: 500 - 3 of 3 workers are down")),
)
OPTIONS: dict[str, Any] = {
    "tags": st.booleans(),
    "think": st.booleans(),
    "constrain": st.booleans(),
    "thought_tokens": st.sampled_from([None, 7]),
    "repair": st.sampled_from(["none", "close", "ask"]),
    "scale": st.sampled_from(["true-false", "yes-no", "0-10"]),
    "identifiers": st.sampled_from(["brackets", "digits"]),
    "untagged": st.sampled_from(["identity", "mention_order"]),
    "drop": st.integers(1, 3),
    "match": st.sampled_from(["label", "name", "model"]),
    "top": st.sampled_from([7, 10, 100]),
}


@st.composite
def judges(draw: st.DrawFn, kind: str, capabilities: frozenset[Capability] | None = None) -> Judge:
    """A judge of a kind with any options, for an engine that can do anything or nothing."""
    judge = JUDGES[kind]
    options = {name: draw(OPTIONS[name]) for name in judge.Options.model_fields if name in OPTIONS}
    if kind == "grades":
        options["form"] = draw(st.sampled_from(["lines", "json"]))
    can = capabilities if capabilities is not None else frozenset(draw(st.sets(st.sampled_from(list(Capability)))))
    return judge(judge.Options.model_validate(options), SAMPLING, can, "Again.")


def sizes(kind: str, least: int = 1) -> st.SearchStrategy[int]:
    return st.just(1) if kind in SCORES else st.integers(least, 26)


def judged(judge: Judge, ask: Ask, n: int) -> Judgement:
    async def run() -> Judgement:
        return await judge.judge(ask, PROMPT, [f"passage {i}" for i in range(n)])

    return asyncio.run(run())


@pytest.mark.parametrize("kind", list(JUDGES))
@given(data=st.data())
def test_any_answer_ends_in_a_judgement(kind: str, data: st.DataObject) -> None:
    judge, n = data.draw(judges(kind)), data.draw(sizes(kind))

    async def ask(prompt: Prompt, sampling: Sampling, *, attempt: int = 0) -> Completion:
        told = data.draw(st.sets(st.sampled_from(sampling.choices))) if sampling.choices else set()
        completion = data.draw(completions)
        if told and completion.error is None and data.draw(st.booleans()):
            return Completion(choices={choice: data.draw(st.floats(-700, 0)) for choice in told})
        return completion

    judgement = judged(judge, ask, n)
    assert sorted(judgement.order) == list(range(n))
    assert isinstance(judgement.status, Status)
    indices = list(range(100, 100 + n))
    found = judge.outcome(judgement, indices)
    if judgement.status.bad:
        assert judgement.order == tuple(range(n))
        unmoved = indices[-1:] if kind == "worst" else judge.unmoved(indices)
        assert found == (None if kind in SCORES else [None] * n if kind == "grades" else unmoved)
    if kind in ORDERS:
        assert sorted(found) == indices
    elif kind == "grades":
        assert len(found) == n
        assert all(grade is None or 0 <= grade <= 10 for grade in found)
    elif kind in BESTS:
        assert found in indices
    elif kind == "worst":
        assert set(found) <= set(indices)


@pytest.mark.parametrize("kind", list(JUDGES))
@given(data=st.data())
@settings(max_examples=50)
def test_the_ideal_answer_reads_back_in_as_many_calls_as_foretold(kind: str, data: st.DataObject) -> None:
    judge, n = data.draw(judges(kind, frozenset(Capability))), data.draw(sizes(kind, least=2))
    gains = data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
    calls, found = assessed(judge, gains)
    assert calls == judge.calls
    if kind in ORDERS:
        assert found == sorted(range(n), key=lambda i: -gains[i])
    elif kind == "grades":
        assert [round(grade * 3 / 10) for grade in found] == gains
    elif kind in BESTS:
        assert found == gains.index(max(gains))
    elif kind == "worst":
        dropped = [gains[i] for i in found]
        assert dropped == sorted(gains)[: len(dropped)]
    else:
        assert found is not None


@pytest.mark.parametrize("kind", sorted(SCORES))
@given(data=st.data())
def test_the_ideal_score_rises_with_the_gain(kind: str, data: st.DataObject) -> None:
    judge = data.draw(judges(kind, frozenset(Capability)))
    scores = [assessed(judge, [gain])[1] for gain in range(4)]
    assert all(lower < higher for lower, higher in pairwise(scores))


def assessed(judge: Judge, gains: Sequence[int]) -> tuple[int, Any]:
    """How often a perfect assessor is asked, and what the judge finds. Its answers have the form that is asked for."""
    calls = 0

    async def ask(prompt: Prompt, sampling: Sampling, *, attempt: int = 0) -> Completion:
        nonlocal calls
        calls += 1
        if sampling.choices:
            return Completion(choices=judge.ideal_choices(gains, sampling.choices))
        answer = judge.ideal(gains)
        assert re.fullmatch(sampling.pattern or ".*", answer, re.DOTALL)
        return Completion(answer)

    judgement = judged(judge, ask, len(gains))
    assert (judgement.status, judgement.detail) == (Status.OK, "")
    return calls, judge.outcome(judgement, range(len(gains)))


@pytest.mark.parametrize("kind", list(JUDGES))
@given(data=st.data(), votes=st.integers(1, 4))
def test_votes_come_to_an_outcome_like_one_of_theirs(kind: str, data: st.DataObject, votes: int) -> None:
    judge, n = data.draw(judges(kind, frozenset(Capability))), data.draw(sizes(kind, least=2))
    each = [assessed(judge, data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)))[1] for _ in range(votes)]
    found = judge.agreed(each, range(n))
    if kind in ORDERS:
        assert sorted(found) == list(range(n))
    elif kind in SCORES:
        assert min(each) <= found <= max(each) or found == pytest.approx(each[0])
    elif kind == "grades":
        assert all(
            min(g) - 1e-9 <= mean <= max(g) + 1e-9 for mean, g in zip(found, zip(*each, strict=True), strict=True)
        )
    elif kind in BESTS:
        assert found in each
    if kind == "worst":
        assert set(found) <= {index for dropped in each for index in dropped}
    elif len(set(map(repr, each))) == 1:
        assert found == pytest.approx(each[0])


@pytest.mark.parametrize("kind", list(JUDGES))
def test_the_unmoved_judge_changes_nothing(kind: str) -> None:
    judge = JUDGES[kind](JUDGES[kind].Options(), SAMPLING, frozenset(), "")
    found = judge.unmoved([4, 2, 9])
    expected = (
        [4, 2, 9]
        if kind in TOURNAMENTS
        else {"best": 4, "best_token": 4, "worst": [9], "grades": [0.0] * 3}.get(kind, 0.0)
    )
    assert found == expected


@pytest.mark.parametrize("kind", list(JUDGES))
def test_what_a_judge_needs_depends_on_what_it_is_to_do(kind: str) -> None:
    judge = JUDGES[kind]
    assert judge.needs_of(judge.Options()) == judge.needs
    writes = issubclass(judge, Written)
    constrained = judge.needs_of(judge.Options.model_validate({"constrain": True}))
    assert constrained == judge.needs | ({Capability.PATTERN} if writes else set())
    if "thought_tokens" in judge.Options.model_fields:
        budgeted = judge.needs_of(judge.Options.model_validate({"thought_tokens": 5}))
        assert budgeted == judge.needs | ({Capability.PREFILL} if writes else set())
