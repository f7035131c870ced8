"""Generated answers and server messages: any of them ends in a permutation and a counted status, soon."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import fuzz_examples, more
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyserini_reasonrank.engines.replies import read_reply
from pyserini_reasonrank.judges import Judge, published
from pyserini_reasonrank.judges.registry import JUDGES
from pyserini_reasonrank.parsing import read_grades, read_label, read_permutation
from pyserini_reasonrank.parsing.ratings import read_rating
from pyserini_reasonrank.records import Capability, Completion, Judgement, Message, Prompt, Sampling, Status

pytestmark = pytest.mark.fuzz

PROMPT = Prompt((Message("user", "Which of these?"), Message("assistant", "why is the sky blue")))
SAMPLING = Sampling(max_tokens=100)
ALONE = ("score", "rating", "bisection", "likelihood")  # judges of one passage

PIECES = [
    "<think>", "</think>", "<answer>", "</answer>", "<thinking>", "[THINK]", "[/THINK]", "◁think▷", "<reasoning>",
    "</reasoning>", "<|channel|>analysis<|message|>", "<|channel|>final<|message|>", "<|end|>", "<|start|>assistant",
    "assistantfinal", "[1]", "[2]", "[3]", "[12]", "[20]", "[0]", "[1, 2, 3]", "[3 1 2]", "[1-5]", "[", "]", "【2】",
    "「3」", "②", "²", "٣", "３", " > ", " < ", " = ", "＞", " ≻ ", " -> ", ", ", "; ", " | ", "\n", "\n\n", "- ", "* ",
    "# ", "**", "1. ", "2) ", "(3) ", "Rank 1: ", "1st: ", "...", "…", "```json\n", "```", '{"ranking": [',
    '{"1": 7, "2": 3}', '[{"id": 1, "score": 2}]', "]}", '"', "'3'", "passage 2", "Passage [3]", "document 1",
    "<reason>", "</reason>", "<score>", "</score>", '{"[1]": 7, "[2]": ', '"[1]": ',
    "most relevant", "least relevant", "not", "Relevant:", "Not relevant:", "from least to most", "7", "10", "-3",
    "7/10", "70%", "0.5", "7-8", "score: 8", "2 of 3", "99999999999", "\\succ", "&gt;", "\u200b", "\x00", "None",
    "true",
]  # fmt: skip
texts = st.one_of(
    st.text(max_size=60),
    st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=4)), max_size=30).map("".join),
    st.lists(st.sampled_from(PIECES), max_size=30).map(" ".join),
)
completions = st.builds(
    Completion,
    text=texts,
    finish_reason=st.sampled_from(["stop", "length", "refusal"]),
    choices=st.dictionaries(st.sampled_from(["true", "false", "yes", "no", "A", "B", "7", "10"]), st.floats(-700, 0)),
)
OPTIONS: dict[str, Any] = {
    "tags": st.booleans(),
    "think": st.booleans(),
    "thought_tokens": st.sampled_from([None, 7]),
    "scale": st.sampled_from(["true-false", "yes-no", "0-10"]),
    "identifiers": st.sampled_from(["brackets", "digits"]),
    "untagged": st.sampled_from(["identity", "mention_order"]),
    "drop": st.integers(1, 3),
    "match": st.sampled_from(["label", "name", "model"]),
}


def fuzz(share: int) -> settings:
    """The settings of a target that has ``share`` percent of the inputs."""
    return settings(max_examples=fuzz_examples(share), suppress_health_check=[HealthCheck.too_slow])


def check(judgement: Judgement, n: int) -> None:
    assert sorted(judgement.order) == list(range(n))
    assert isinstance(judgement.status, Status)
    assert 0 <= judgement.filled <= n
    if judgement.status.bad:
        assert judgement.order == tuple(range(n))
    judgement.detail.encode()


@given(completion=completions, n=st.integers(1, 25), tags=st.booleans())
@fuzz(18)
def test_any_answer_is_read_as_an_order(completion: Completion, n: int, tags: bool) -> None:
    judgement = read_permutation(completion, n, tags=tags)
    check(judgement, n)
    assert (judgement.status is Status.OK) <= (not judgement.filled and not judgement.detail)


@given(completion=completions, n=st.integers(1, 25), tags=st.booleans())
@fuzz(12)
def test_any_answer_is_read_as_a_label_or_grades(completion: Completion, n: int, tags: bool) -> None:
    position, judgement = read_label(completion, n, tags=tags)
    check(judgement, n)
    assert (position is None) == judgement.status.bad
    judgement = read_grades(completion, n, tags=tags)
    check(judgement, n)
    assert all(grade is None or 0 <= grade <= 10 for grade in judgement.scores)
    judgement = read_grades(completion, n, tags=tags, form="json")
    check(judgement, n)
    assert all(grade is None or 0 <= grade <= 10 for grade in judgement.scores)
    rating = read_rating(completion, 100, tags=tags)
    check(rating, 1)
    assert (rating.score is None) == rating.status.bad
    assert rating.score is None or 0 <= rating.score <= 100


@given(data=st.data())
@fuzz(18)
def test_any_answer_ends_in_a_judgement_of_every_judge(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(sorted(JUDGES)))
    options = {name: data.draw(OPTIONS[name]) for name in JUDGES[kind].Options.model_fields if name in OPTIONS}
    can = frozenset(data.draw(st.sets(st.sampled_from(list(Capability)))))
    judge = JUDGES[kind](JUDGES[kind].Options.model_validate(options), SAMPLING, can, "Again.")
    n = 1 if kind in ALONE else data.draw(st.integers(1, 20))
    check(judged(judge, lambda: data.draw(completions), n), n)


def judged(judge: Judge, answer: Callable[[], Completion], n: int) -> Judgement:
    async def ask(prompt: Prompt, sampling: Sampling, *, attempt: int = 0) -> Completion:
        return answer()

    return asyncio.run(judge.judge(ask, PROMPT, [f"passage {i}: Title {i}. Text." for i in range(n)]))


KEYS = [
    "choices", "message", "content", "finish_reason", "usage", "prompt_tokens", "completion_tokens", "logprobs", "top_logprobs",
    "token", "logprob", "reasoning", "reasoning_content", "thinking", "text", "type", "refusal", "error", "summary",
]  # fmt: skip
values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), texts,
        st.sampled_from(["stop", "length", "text", "thinking", "reasoning", "content_filter", 10**30, 1e308, {}, []]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYS), inner, max_size=5)),
    max_leaves=12,
)  # fmt: skip
messages = st.builds(
    lambda message, choice, more: {**more, "choices": [{**choice, "message": message}]},
    st.one_of(values, st.dictionaries(st.sampled_from(KEYS), values, max_size=5)),
    st.dictionaries(st.sampled_from(["finish_reason", "logprobs"]), values),
    st.dictionaries(st.sampled_from(["usage", "error", "choices"]), values),
)
bodies = st.one_of(
    values.map(lambda value: json.dumps(value).encode()),
    messages.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=40),
    texts.map(lambda text: text.encode(errors="surrogatepass")),
)


@given(body=bodies, n=st.integers(1, 20))
@fuzz(12)
def test_any_body_of_a_response_is_a_completion_or_an_error(body: bytes, n: int) -> None:
    completion = read_reply(body, 0.5)
    assert (completion.finish_reason == "error") == (completion.error is not None)
    assert completion.error is None or (completion.text == "" and "\n" not in completion.error)
    (completion.text + (completion.error or "")).encode()
    assert 0 <= completion.prompt_tokens < 2**63
    assert 0 <= completion.output_tokens < 2**63
    assert all(isinstance(p, float) for p in completion.choices.values())
    check(read_permutation(completion, n), n)
    check(read_grades(completion, n), n)


SIZE = 40_000
LONG = [
    " ", "\n", "\t\n", "1", "1 ", "1 > ", "1. ", "[", "]", "[1", "[1]", "[1] ", "[1] > ", "[1], ", "[1]\n",
    "1. [1]\n", "> 1 ] ", ">", "> ", "=\n", "<think>", "</think>", "<answer>", "</answer>", "<think></think>",
    "<answer>[1]", "<|channel|>final", "<|channel|>final<|constrain|>", "```", "```a", "```a ", "{", '{"a":', '["1",',
    '"', "'1' ", "(", "(a) > ", "a > ", "[1] a > ", "a", "A", "A ", "least ", "least to ", "not ", "[1] 5 5 5 ",
    "[1] 5 ", "5 ", "5/", "7 of ", "- ", "* ", "| ", "# ", "...", "[1] > ... > ", "\\succ", "&gt;", "passage 1 ",
    "passage ", "Relevant:\n", "1.1", "1x1", "1b ", "score: ", "[1 ", "[1,", "[1,1],", '["1",', "-", "1-", "[-",
    "2 [1] ", "analysis", "assistantfinal", "<score>", "</score>", "<score>1", "<score> ", "```json", "```json{", '"[1]": 5, ',
    "[1]]", "<reason>", "{}",
]  # fmt: skip


@pytest.fixture
def no_collections() -> Iterator[None]:
    """Other tests have left millions of objects, which take seconds to search for cycles."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collections")
@pytest.mark.parametrize("how", ["repeated", *more("after a letter", "in an answer", "in a list")])
@pytest.mark.parametrize("piece", LONG)
def test_a_long_answer_takes_little_time(piece: str, how: str) -> None:
    text = (piece * (SIZE // len(piece) + 1))[:SIZE]
    text = {
        "after a letter": f"a{text}b",
        "in an answer": f"<think>x</think><answer>{text}",
        "in a list": f"[2] > {text} > [1]",
    }.get(how, text)
    completion = Completion(text, "length" if how == "in a list" else "stop")
    began = time.process_time()
    check(read_permutation(completion, 20, tags=how == "in an answer"), 20)
    check(read_label(completion, 20, tags=False)[1], 20)
    check(read_grades(completion, 20, tags=False), 20)
    check(judged(JUDGES["worst"](JUDGES["worst"].Options.model_validate({"match": "model"}), SAMPLING, frozenset(), ""),
                 lambda: completion, 5), 5)  # fmt: skip
    check(read_rating(completion, 100), 1)
    check(published.read_grouprank(completion, 20), 20)
    check(published.read_retro_star(completion), 1)
    check(published.read_reasonrank(completion, 20), 20)
    check(published.read_label(completion, 20, "rank-r1")[1], 20)
    read_reply(text.encode(), 0.0)
    assert time.process_time() - began < 4
