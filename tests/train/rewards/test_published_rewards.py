"""The rewards of the releases against values that their code gave, and where our careful rewards differ from them."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from pyserini_reasonrank.train import rewards

GOLDEN = Path(__file__).parents[2] / "data" / "golden"
LIKE_THE_PROMPT = "Write <think> </think> and <answer> </answer> tags.\nWell.\n<think>"
"""A prompt with the tag words where IRanker's has them: each once, padded by blanks, and a thought opened at the end."""


def golden(name: str) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads((GOLDEN / name).read_text(encoding="utf-8"))
    return cases


def reasonrank(cases: list[dict[str, Any]], **switch: bool) -> list[float | None]:
    docids = [[f"d{i}" for i in range(1, case["n"] + 1)] for case in cases]
    return rewards.multiview(
        [],
        [case["completion"] for case in cases],
        docids=docids,
        gains=[[float(i in case["relevant"]) for i in range(1, case["n"] + 1)] for case in cases],
        gold=[[f"d{i}" for i in case["gold_order"]] for case in cases],
        **switch,
    )


def rank_r1(cases: list[dict[str, Any]], **switch: bool) -> list[float | None]:
    return rewards.exact_label(
        [],
        [case["completion"] for case in cases],
        docids=[[f"d{i}" for i in range(1, case["n"] + 1)] for case in cases],
        gains=[[float(i == case["label"]) for i in range(1, case["n"] + 1)] for case in cases],
        **switch,
    )


def iranker(cases: list[dict[str, Any]], prompt: str) -> list[float | None]:
    return rewards.exclusion(
        [prompt] * len(cases),
        [case["response_after_prefill_think"] for case in cases],
        docids=[case["candidates"] for case in cases],
        gains=[[float(name == case["target"]) for name in case["candidates"]] for case in cases],
        choices=[case["candidates"] for case in cases],
        published=True,
    )


def differences(cases: list[dict[str, Any]], careful: list[float | None]) -> dict[str, set[float | None]]:
    """The careful rewards of the forms of answers that the release rewards otherwise; all answers of a form differ."""
    same, other = set(), defaultdict(set)
    for case, reward in zip(cases, careful, strict=True):
        if reward == pytest.approx(case["published_reward"], abs=1e-12):
            same.add(case["case"])
        else:
            other[case["case"]].add(reward)
    assert not same & set(other)
    return dict(other)


def test_reasonranks_published_reward_in_all_golden_cases() -> None:
    cases = golden("reasonrank_reward.json")
    assert len(cases) == 110
    assert reasonrank(cases, published=True) == pytest.approx([case["published_reward"] for case in cases], abs=1e-12)


def test_the_careful_reward_differs_from_reasonranks_in_the_listed_forms_alone() -> None:
    cases = golden("reasonrank_reward.json")
    assert differences(cases, reasonrank(cases)) == {
        "out of range id": {0.0},  # the release counts the ids and does not look at their values
        "two answers": {-1.0},  # the release takes the first
        "tag words in thought": {-1.0},  # the release does not count the tags
    }


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        ("<think>t</think><answer>first [2], then [1] of 2</answer>", 0.0),  # three numbers
        ("<think>t</think><answer>the best is 2, then 1</answer>", 1.3),
        ("<think>t</think><answer>02 > 1</answer>", 1.2 + 0.1 * (0 + 1 / 2) / 2),  # 02 names passage 2, yet is not "2"
        ("<think>t</think><answer>0 > 1</answer>", 1.2 + 0.1 * (0 + 1 / 2) / 2),  # 0 is the last passage
        ("<think>t</think><answer>7 > 2</answer>", 1.2 + 0.1 * (0 + 1 / 2) / 2),  # 7 is not in the ranking
        ("<think>t</think><answer>8 > 9</answer>", 0.0),
        ("<think>t</think><answer>٢ > ١</answer>", 1.2),  # decimal digits of another script
        ("<think>t</think><answer>² > 1</answer>", 0.0),
        (f"<think>t</think><answer>{'1' * 5000} > 1</answer>", 0.0),
        ("<think>t</think> so <answer>[2] > [1]</answer>", -1.0),
        ("<answer>[1] > [2]</answer><think>t</think>\n<answer>[2] > [1]</answer>", 1.3),
        ("<think>" * 20_000 + "</think><answer>" * 20_000, -1.0),  # in linear time
    ],
)
def test_reasonranks_published_reward_of_odd_answers(text: str, reward: float) -> None:
    case = {"completion": text, "n": 2, "relevant": [2], "gold_order": [2, 1]}
    assert reasonrank([case], published=True) == [pytest.approx(reward)]


def test_rank_r1s_published_reward_in_all_golden_cases() -> None:
    cases = golden("rank_r1_reward.json")
    assert len(cases) == 100
    assert rank_r1(cases, published=True) == [case["published_reward"] for case in cases]


def test_the_careful_reward_differs_from_rank_r1s_in_the_listed_forms_alone() -> None:
    cases = golden("rank_r1_reward.json")
    assert differences(cases, rank_r1(cases)) == {
        "two answers right first": {0.0},  # the release takes the first
        "example quoted": {0.0},  # the release does not count the tags
    }


def test_irankers_published_reward_in_all_golden_cases() -> None:
    cases = golden("r1_ranker_exclusion_reward.json")
    assert len(cases) == 4
    assert iranker(cases, "<think>") == [case["published_reward_on_think_plus_response"] for case in cases]
    assert iranker(cases, LIKE_THE_PROMPT) == [case["published_reward_on_prompt_plus_response"] for case in cases]


def test_the_careful_reward_differs_from_irankers_in_the_listed_forms_alone() -> None:
    cases = golden("r1_ranker_exclusion_reward.json")
    published = dict(zip([case["case"] for case in cases], iranker(cases, "<think>"), strict=True))
    careful = {case["case"]: case["product_reward"] for case in cases}
    assert {name: (published[name], careful[name]) for name in careful if published[name] != careful[name]} == {
        "non-target, tight": (-1.0, 1.0),  # the release wants white space within the tags
        "with <|im_end|>": (0.0, 1.0),  # the release wants the answer at the end of a line
    }
    for case in cases:
        number = {name: f"[{place}]" for place, name in enumerate(case["candidates"], 1)}
        answer = case["response_after_prefill_think"].removesuffix("<|im_end|>")
        for name, label in number.items():
            answer = answer.replace(name, label)
        found = rewards.exclusion(
            [],
            [answer],
            docids=[case["candidates"]],
            gains=[[float(name == case["target"]) for name in case["candidates"]]],
            prefill=["<think>"],
        )
        assert found == [case["product_reward"]]


@pytest.mark.parametrize(
    ("response", "reward"),
    [
        ("\nt\n</think>\n<answer>\n[1]\n</answer>", 0.0),
        ("\nt\n</think>\n<answer>\n[2]\nor another\n</answer>", 1.0),  # its first line counts
        ("\nt\n</think>\n<answer>\n[2]\n</answer>\n", 1.0),
        ("\nt\n</think>\n<answer> [2] </answer>", 1.0),
        ("\nt\n</think>\n<answer>[1]</answer>\n<answer>\n[2]\n</answer>", 1.0 - 1.0),  # its last answer counts
        ("\nt\n</think>\n", -1.0 - 1.0 - 0.5),
    ],
)
def test_irankers_published_reward_of_numbered_labels(response: str, reward: float) -> None:
    row: dict[str, Any] = {"docids": [["a", "b"]], "gains": [[1.0, 0.0]], "published": True}
    assert rewards.exclusion(["<think>"], [response], **row) == [reward]


def test_a_prompt_before_the_thought_costs_the_form() -> None:
    turns = [{"role": "user", "content": "Which is the worst?"}]
    row: dict[str, Any] = {"docids": [["a", "b"]], "gains": [[1.0, 0.0]], "prefill": ["<think>"]}
    right = "\nt\n</think>\n<answer>\n[2]\n</answer>"
    assert rewards.exclusion([turns], [right], published=True, **row) == [0.0]
    assert rewards.exclusion([turns], [right], **row) == [1.0]


def test_a_prompt_with_tag_words_turns_the_tag_term_around() -> None:
    row: dict[str, Any] = {"docids": [["a", "b"]], "gains": [[1.0, 0.0]], "published": True}
    padded, tight = "\nt\n</think>\n<answer>\n[2]\n</answer>", "t</think>\n<answer>\n[2]</answer>"
    assert rewards.exclusion([LIKE_THE_PROMPT], [padded], **row) == [-0.5]
    assert rewards.exclusion([LIKE_THE_PROMPT], [tight], **row) == [-0.25]
