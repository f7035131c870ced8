"""The judge that rewrites: which text of an answer is the query, and how an answer without one ends."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from pyserini_reasonrank.judges.rewrite import Rewrite, cleaned
from pyserini_reasonrank.records import Capability, Completion, Judgement, Message, Prompt, Sampling, Status

PROMPT = Prompt((Message("user", "Somebody asks: why?"),))
ALL = frozenset(Capability)


def judge(can: frozenset[Capability] = frozenset(), **options: Any) -> Rewrite:
    return Rewrite(Rewrite.Options(**options), Sampling(max_tokens=50), can, "Again.")


def judged(answers: Sequence[Completion], can: frozenset[Capability] = ALL, **options: Any) -> tuple[Judgement, int]:
    """The judgement after these answers, and how many were asked for."""
    asked = list[Prompt]()

    async def ask(prompt: Prompt, sampling: Sampling, *, attempt: int = 0) -> Completion:
        asked.append(prompt)
        return answers[len(asked) - 1]

    return asyncio.run(judge(can, **options).judge(ask, PROMPT, [])), len(asked)


@pytest.mark.parametrize(
    ("text", "query", "status"),
    [
        ("<think>Moths steer.</think>\n<answer>moth  dorsal\nlight</answer>", "moth dorsal light", Status.OK),
        ("<answer>Query: moth light</answer>", "moth light", Status.OK),
        ('<answer>"moth light"</answer>', "moth light", Status.OK),
        ("<answer>```text\nmoth light\n```</answer>", "moth light", Status.OK),
        ("<think>Hm.</think> moth light", "moth light", Status.REPAIRED),
        ("moth light", "moth light", Status.REPAIRED),
        ("<answer>moth light", "moth light", Status.REPAIRED),
        ("<answer> </answer>", "", Status.EMPTY),
        ("<answer>...</answer>", "", Status.EMPTY),
        ("<think>Only a thought.</think>", "", Status.EMPTY),
        ("", "", Status.EMPTY),
    ],
)
def test_what_is_read(text: str, query: str, status: Status) -> None:
    reason = "length" if text == "<answer>moth light" else "stop"
    found = judge().read(Completion(text, reason), 2)
    assert (found.text, found.status) == (query, status)
    assert found.order == (0, 1)


def test_a_cut_thought_is_no_query() -> None:
    found = judge().read(Completion("<think>What could they mean, perhaps moths", "length"), 0)
    assert (found.text, found.status) == ("", Status.TRUNCATED)


def test_a_cut_text_without_a_tag_is_a_thought_where_tags_are_asked_for_and_a_query_elsewhere() -> None:
    cut = Completion("moths fly to lamps since they", "length")
    assert judge().read(cut, 0).status is Status.TRUNCATED
    found = judge(tags=False).read(cut, 0)
    assert (found.text, found.status) == (cut.text, Status.REPAIRED)
    assert found.detail == "the answer was cut at the token limit"
    assert judge(tags=False).read(Completion("moth light"), 0).status is Status.OK


def test_errors_and_refusals_have_their_status() -> None:
    assert judge().read(Completion(error="gone", finish_reason="error"), 0).status is Status.ERROR
    assert judge().read(Completion("I can't.", "refusal"), 0).status is Status.REFUSED


def test_a_cut_thought_is_closed_and_the_query_decoded() -> None:
    found, calls = judged([Completion("<think>moths ste", "length"), Completion("moth light")])
    assert (found.text, found.status, found.detail, calls) == ("moth light", Status.REPAIRED, "thought closed", 2)


def test_an_empty_answer_is_asked_for_again_once() -> None:
    found, calls = judged([Completion("<answer></answer>"), Completion("<answer>moth light</answer>")])
    assert (found.text, found.status, calls) == ("moth light", Status.REPAIRED, 2)
    found, calls = judged([Completion("<answer></answer>")], frozenset())
    assert (found.text, found.status, calls) == ("", Status.EMPTY, 1)


@pytest.mark.parametrize(
    ("answer", "query"),
    [
        ("**Rewritten query:** moths", "moths"),
        ("The search query: moths", "moths"),
        ("what is a query: a definition", "what is a query: a definition"),
        ('"moths" and "lamps"', '"moths" and "lamps"'),
        ("it's", "it's"),
        ('"', '"'),
    ],
)
def test_labels_and_quotes_go_and_words_stay(answer: str, query: str) -> None:
    assert cleaned(answer) == query


def test_the_answer_of_an_engine_without_a_model_keeps_the_query() -> None:
    for tags in (True, False):
        one = judge(tags=tags)
        assert one.read(Completion(one.unchanged("why moths?")), 0).text == "why moths?"
