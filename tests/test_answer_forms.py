"""The forms in which models write answers: each is read right, or the whole answer is empty."""

from __future__ import annotations

import pytest

from pyserini_reasonrank.parsing import read_grades, read_permutation
from pyserini_reasonrank.records import Completion, Status

ORDER, SHOWN = (2, 0, 4, 1, 3), (0, 1, 2, 3, 4)
GOOD = "[3] > [1] > [5] > [2] > [4]"


@pytest.mark.parametrize(
    "answer",
    [
        "[3, 1, 5, 2, 4]",
        "Ranking: [3, 1, 5, 2, 4]",
        "```json\n[3, 1, 5, 2, 4]\n```",
        '{"ranking": [3, 1, 5, 2, 4]}',
        '```json\n{"order": ["3", "[1]", "5", "2", "4"]}\n```',
        '[{"id": 3, "score": 9}, {"id": 1, "score": 8}, {"id": 5, "score": 8}, {"id": 2, "score": 1}, {"id": 4, "score": 0}]',
        "[3, 1, 5, 2, 4]\n\nMost relevant first.",
        "The order is [3 1 5 2 4], as [1] and [2] are close.",
        "Passages [1-5] in order: [3, 1, 5, 2, 4]",
        "【3】 > 【1】 > 【5】 > 【2】 > 【4】",
        "[3] ＞ [1] ＞ [5] ＞ [2] ＞ [4]",
        "[3]¹ > [1]² > [5] > [2] > [4]",
        "1. [3] because it beats [1]\n2. [1] is second\n3. Passage [5]\n4. **[2]**\n5. [4]",
        f"At first [1] > [2] > [3] > [4] > [5]. Now: {GOOD}",
        f"{GOOD}. I put [1] > [2] since it is more specific.",
    ],
)
def test_forms_of_a_whole_order(answer: str) -> None:
    assert read_permutation(Completion(answer), 5, tags=False).order == ORDER
    assert read_permutation(Completion(f"<think>[1] > [2]</think><answer>{answer}</answer>"), 5).order == ORDER


@pytest.mark.parametrize(
    "answer",
    [
        "[1] < [2] < [3] < [4] < [5]",
        "[1] 3\n[2] 1\n[3] 5\n[4] 2\n[5] 4",
        '[{"id": 1, "score": 2}, {"id": 2, "score": 9}]',
        '{"1": 3, "2": 1, "3": 2}',
        "Not relevant: [2, 4]. Relevant: [3, 1].",
        "³ > ¹ > ²",
    ],
)
def test_an_order_that_is_not_clear_is_empty(answer: str) -> None:
    judgement = read_permutation(Completion(answer), 5, tags=False)
    assert (judgement.order, judgement.status) == (SHOWN, Status.EMPTY)


HARMONY = "<|channel|>analysis<|message|>Given [1] > [2].<|end|><|start|>assistant<|channel|>final<|message|>"


@pytest.mark.parametrize(
    "text",
    [
        f"<think>The form is <answer>[1] > [2] > [3] > [4] > [5]</answer>.</think>\n{GOOD}",
        f"<think>I have to close with <answer> </answer>.</think>\n{GOOD}",
        f"<thinking>Like <answer>[2] > [1]</answer>.</thinking>\n<answer>{GOOD}</answer>",
        f"[THINK]Like <answer>[2] > [1]</answer>.[/THINK]{GOOD}",
        f"{HARMONY}{GOOD}<|return|>",
        f"<think>x</think><answer>[1] > [2]</answer> or rather <answer>{GOOD}</answer> in <answer></answer>",
        f"<think>x</think><answer>{GOOD}</answer></think>",
        f"<think>never closed <answer>{GOOD}</answer>",
    ],
)
def test_an_answer_is_looked_for_after_the_reasoning(text: str) -> None:
    for tags in (True, False):
        assert read_permutation(Completion(text), 5, tags=tags).order == ORDER


@pytest.mark.parametrize(
    "text",
    [
        "<think>The form is <answer>[2] > [1]</answer>, so [3]",
        "The form is <answer>[2] > [1]</answer>, so [3]",
        "I close with <answer> tags. Passage [3] is",
        HARMONY[: HARMONY.index("<|end|>")],
    ],
)
def test_a_cut_thought_that_quotes_an_answer_has_none(text: str) -> None:
    judgement = read_permutation(Completion(text, "length"), 5)
    assert (judgement.order, judgement.status) == (SHOWN, Status.TRUNCATED)


def test_a_cut_last_identifier_is_not_an_identifier() -> None:
    cut = Completion("[3] > [1", "length")
    assert read_permutation(cut, 20, tags=False).filled == 19
    assert read_permutation(cut, 9, tags=False).filled == 7
    assert read_permutation(Completion("[3] > [1]", "length"), 20, tags=False).filled == 18


@pytest.mark.parametrize(
    ("answer", "order"),
    [
        ("[1] 70%\n[2] 30%\n[3] 100%\n[4] 0%\n[5] 20%", (2, 0, 1, 4, 3)),
        ("[1] 70/100\n[2] 30/100\n[3] 100/100\n[4] 0/100\n[5] 20/100", (2, 0, 1, 4, 3)),
        ("[1] 7 (2 of 3 facts)\n[2] 2 of 3 facts, score: 3\n[3] 10\n[4] 0\n[5] 2", (2, 0, 1, 4, 3)),
        ("[1] 70\n[2] 30\n[3] 100\n[4] 0\n[5] 20", None),
        ("[1] 2\n[2] 1\n[3] 5\n[4] -3\n[5] 0", None),
        ("[1] 2 of 3 facts: 7\n[2] 1\n[3] 5\n[4] 3\n[5] 0", None),
    ],
)
def test_grades_on_other_scales_and_among_other_numbers(answer: str, order: tuple[int, ...] | None) -> None:
    judgement = read_grades(Completion(f"<think>x</think><answer>{answer}</answer>"), 5)
    assert judgement.order == (order or SHOWN)
    assert (judgement.status is Status.EMPTY) == (order is None)
