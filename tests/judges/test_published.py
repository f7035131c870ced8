"""The parsers of the releases against values that their code gave; and that no completion breaks them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyserini_reasonrank.judges.published import (
    ended_thought,
    read_grouprank,
    read_iranker,
    read_label,
    read_reasonrank,
    read_retro_star,
)
from pyserini_reasonrank.judges.registry import JUDGES
from pyserini_reasonrank.parsing import read_label as read_own_label
from pyserini_reasonrank.parsing import read_permutation
from pyserini_reasonrank.records import Completion, Sampling, Status

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
TAGS = ("<think>", "</think>", "<answer>", "</answer>", "<ANSWER>")
PIECES = (*TAGS, "[3]", "[1] > [2]", "4", "²", "٣", " ", "\n", "so", "0", "99999999999")


def golden(name: str) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads((GOLDEN / name).read_text(encoding="utf-8"))
    return cases


def completion(text: str, finish_reason: str = "stop") -> Completion:
    return Completion(text, finish_reason)


def test_reasonranks_parser_gives_the_published_order_in_all_golden_cases() -> None:
    cases = golden("reasonrank_parsing.json")
    wrong = [
        case["case"]
        for case in cases
        if [i + 1 for i in read_reasonrank(completion(case["completion"], case["finish_reason"]), case["n"]).order]
        != case["published_order"]
    ]
    assert (len(cases), wrong) == (156, [])


@pytest.mark.parametrize(
    ("parser", "key"), [("rank-r1", "published_choice"), ("setwise-sft", "published_choice_setwise_sft")]
)
def test_the_label_parsers_give_the_published_choice_in_all_golden_cases(
    parser: Literal["rank-r1", "setwise-sft"], key: str
) -> None:
    cases = golden("rank_r1_parsing.json")
    found = [read_label(completion(c["completion"], c["finish_reason"]), c["n"], parser)[0] for c in cases]
    assert len(cases) == 10
    assert [None if i is None else i + 1 for i in found] == [case[key] for case in cases]


@pytest.mark.parametrize(
    ("text", "published", "careful"),
    [
        ("<think>t</think><answer>[2] > [1]</answer> no <answer>[1] > [2]</answer>", (1, 0), (0, 1)),
        ("<think>3 of 5, [1] first</think> [2] > [1]", (0, 1), (1, 0)),
    ],
)
def test_the_two_parsers_differ_where_the_page_says_so(
    text: str, published: tuple[int, ...], careful: tuple[int, ...]
) -> None:
    assert read_reasonrank(completion(text), 2).order == published
    assert read_permutation(completion(text), 2).order == careful


DIFFERENT = {
    "cut thought": Status.TRUNCATED,  # published: every number that the thought mentions
    "cut thought closes not": Status.TRUNCATED,
    "closed thought, bare list": Status.REPAIRED,  # published: the numbers of the thought count too
    "numbered lines": Status.OK,  # published: the numbers of the lines count too
    "prose in answer": Status.OK,  # published: every number of the answer counts
    "two answers": Status.OK,  # published: the first
    "superscript": Status.OK,  # published: first-stage order, since the digit is not an integer
}
"""The forms of answers that our own parser reads otherwise than ReasonRank's, with its status for them."""

OWN_LABELS = {"no think": 3, "trailing dot": 3, "unclosed answer": 3, "text between": 3, "padded": 3}
"""Answers with one label that Rank-R1's parser rejects, with our reading of them."""


def test_our_parser_differs_from_reasonranks_in_the_listed_forms_alone() -> None:
    found: dict[str, set[tuple[bool, Status]]] = {}
    for case in golden("reasonrank_parsing.json"):
        judgement = read_permutation(completion(case["completion"], case["finish_reason"]), case["n"])
        same = [i + 1 for i in judgement.order] == case["published_order"]
        found.setdefault(case["case"], set()).add((same, judgement.status))
    assert {form: seen for form, seen in found.items() if seen & {(False, status) for status in Status}} == {
        form: {(False, status)} for form, status in DIFFERENT.items()
    }


def test_our_parser_reads_labels_that_rank_r1s_rejects() -> None:
    differing = {}
    for case in golden("rank_r1_parsing.json"):
        position, _ = read_own_label(completion(case["completion"], case["finish_reason"]), case["n"])
        if position != (None if case["published_choice"] is None else case["published_choice"] - 1):
            differing[case["case"]] = None if position is None else position + 1
    assert differing == OWN_LABELS


@given(st.lists(st.sampled_from(PIECES)).map("".join), st.integers(1, 20), st.sampled_from(["stop", "length"]))
def test_every_completion_gives_a_permutation_and_a_status(text: str, n: int, finish_reason: str) -> None:
    judgement = read_reasonrank(completion(text, finish_reason), n)
    assert sorted(judgement.order) == list(range(n))
    assert judgement.status is not Status.OK or judgement.filled == 0
    for parser in ("rank-r1", "setwise-sft"):
        position, label = read_label(completion(text, finish_reason), n, parser)
        assert (position is None) == label.status.bad
        assert position is None or 0 <= position < n


def test_a_completion_of_more_digits_than_int_reads_is_unreadable() -> None:
    assert read_reasonrank(completion("<answer>" + "1" * 5000), 3).status is Status.EMPTY


def test_judges_read_by_the_parser_of_their_options() -> None:
    def read(kind: str, parser: str, text: str, n: int) -> tuple[int, ...]:
        judge_class = JUDGES[kind]
        judge: Any = judge_class(judge_class.Options(parser=parser), Sampling(), frozenset(), "")  # type: ignore[call-arg]
        order: tuple[int, ...] = judge.read(completion(text), n).order
        return order

    twice = "<think>t</think><answer>[2] > [1]</answer><answer>[1] > [2]</answer>"
    assert read("permutation", "reasonrank", twice, 2) == (1, 0)
    assert read("permutation", "careful", twice, 2) == (0, 1)
    dotted = "<think>t</think><answer>[2].</answer>"
    assert read("best", "rank-r1", dotted, 2) == (0, 1)
    assert read("best", "careful", dotted, 2) == (1, 0)
    assert read("best", "setwise-sft", "so <answer>[2]</answer>", 2) == (1, 0)


# --- IRanker


@pytest.mark.parametrize(
    ("text", "dropped", "exact"),
    [
        ("<think>t</think><answer>passage 3</answer>", "passage 3", True),
        ("t</think>\n<answer>\npassage 3\n</answer>", "passage 3", True),
        ("<answer>passage 0</answer> no: <answer> passage 3 </answer>", "passage 3", True),
        ("<answer>passage 12 is of no use</answer>", "passage 1", False),  # the first label within it
        ("<answer>3. passage 0</answer>", "passage 0", False),
        ("<answer>Passage 12!</answer>", "passage 12", False),  # by its words
        ("<answer>none of them</answer>", "passage 1", False),  # nothing in common: the first one shown
        ("<answer></answer>", "passage 1", False),
        (
            "so I drop passage 0, since it is about dogs, not fleas, and passage 3",
            "passage 3",
            False,
        ),  # its last 40 letters
        ("", "passage 1", False),
    ],
)
def test_irankers_parser_always_drops_a_candidate(text: str, dropped: str, exact: bool) -> None:
    labels = ["passage 1", "passage 0", "passage 3", "passage 12"]
    position, judgement = read_iranker(completion(text), labels)
    if not text:
        assert (position, judgement.status) == (None, Status.EMPTY)
    else:
        assert position is not None
        assert (labels[position], judgement.status) == (dropped, Status.OK if exact else Status.REPAIRED)


@given(st.lists(st.sampled_from([*PIECES, "passage ", "Passage 1"])).map("".join), st.integers(1, 20))
def test_irankers_parser_reads_any_text(text: str, n: int) -> None:
    position, judgement = read_iranker(completion(text), [f"passage {i}" for i in range(n)])
    assert (position is None) == judgement.status.bad
    assert position is None or 0 <= position < n


# --- Rank1


@pytest.mark.parametrize(
    ("thought", "ended"),
    [
        ("<think>It is about fleas. Their life", "<think>It is about fleas.\n</think>"),
        ("<think>Is it? Yes! \n", "<think>Is it? Yes!\n</think>"),
        ("<think>It is about", "<think>It is about\n</think>"),
    ],
)
def test_a_cut_thought_ends_as_in_rank1s_code(thought: str, ended: str) -> None:
    assert ended_thought(thought + "</think>") == ended


# --- GroupRank


@pytest.mark.parametrize(
    ("text", "grades", "status"),
    [
        ('<reason>r</reason>\n<answer>\n```json\n{"[1]": 5, "[2]": 3, "[3]": 8}\n```\n</answer>', [5, 3, 8], Status.OK),
        ('<answer>{"1": 5, " [2] ": 3.5, "[3]": 80}</answer>', [5, 3.5, 80], Status.OK),
        ('so {"[1]": 5, "[2]": 3, "[3]": 8}', [5, 3, 8], Status.REPAIRED),  # no answer tag
        ('<answer>{"[1]": 1}</answer> no <answer>{"[2]": 2}</answer>', [1, None, None], Status.REPAIRED),  # the first
        ('```json\n{"[1]": 1}\n``` or ```json\n{"[2]": 2}\n```', [None, 2, None], Status.REPAIRED),  # the last
        ('<answer>{"[1]": 1} {"[2]": 2}</answer>', [None, 2, None], Status.REPAIRED),
        ('<answer>{"[1]]": 5, "[2]": 3, "[3]": 8}</answer>', [5, 3, 8], Status.OK),
        ('<answer>```json\n{"[1]": 5, "[2]": 3, "[3]": 8\n```</answer>', [5, 3, 8], Status.OK),
        ('<answer>```json\n[["[1]", 5], ["[3]", 8]]\n```</answer>', [5, None, 8], Status.REPAIRED),
        ('<answer>{"[0]": 5}</answer>', [None, None, 5], Status.REPAIRED),  # counted from the end
        ('<answer>{"[1]": 5, "1": 7}</answer>', [6, None, None], Status.REPAIRED),
        ('<answer>{"[1]": true}</answer>', [1, None, None], Status.REPAIRED),
        ('<answer>{"[4]": 5}</answer>', [0, 0, 0], Status.EMPTY),
        ('<answer>{"[1]": "5"}</answer>', [0, 0, 0], Status.EMPTY),
        ('<answer>{"[1]": {"score": 5}}</answer>', [0, 0, 0], Status.EMPTY),
        ('<answer>{"[1]": NaN}</answer>', [0, 0, 0], Status.EMPTY),
        ('<answer>{"passage 1": 5}</answer>', [0, 0, 0], Status.EMPTY),
        ("<answer>[1] 5\n[2] 3\n[3] 8</answer>", [0, 0, 0], Status.EMPTY),
        ("<answer>```json\n```</answer>", [0, 0, 0], Status.EMPTY),
        ("<answer>{}</answer>", [None] * 3, Status.EMPTY),
        ("", [0, 0, 0], Status.EMPTY),
    ],
)
def test_grouprank_gives_every_passage_of_an_unreadable_answer_a_grade_of_zero(
    text: str, grades: list[float | None], status: Status
) -> None:
    judgement = read_grouprank(completion(text), 3)
    assert JUDGES["grades"].outcome(judgement, range(3)) == grades
    assert judgement.status is status
    assert sorted(judgement.order) == [0, 1, 2]
    assert read_grouprank(Completion(finish_reason="error", error="500"), 3).scores == ()


JSON_PIECES = (
    "<answer>",
    "</answer>",
    "```json",
    "```",
    "{",
    "}",
    '"[1]"',
    '"2"',
    ": ",
    "5",
    "true",
    ",",
    "]",
    "[",
    "\n",
)


@given(st.lists(st.sampled_from([*PIECES, *JSON_PIECES])).map("".join), st.integers(1, 20))
def test_grouprank_and_retro_star_read_any_text(text: str, n: int) -> None:
    judgement = read_grouprank(completion(text), n)
    assert sorted(judgement.order) == list(range(n))
    assert judgement.status is not Status.OK or (judgement.filled, judgement.detail) == (0, "")
    assert (read_retro_star(completion(text)).score is None) is False


@pytest.mark.parametrize(
    ("text", "score", "status"),
    [
        ("It does.\n<score>\n85\n</score>", 85, Status.OK),
        ("<score>20</score> or rather <score>85</score>", 20, Status.OK),  # the first
        ("<score>850</score>", 850, Status.OK),
        ("<think>so <score>85</score>", 85, Status.OK),
        ("<score>85/100</score>", 0, Status.EMPTY),
        ("<score>85", 0, Status.EMPTY),
        ("Score: 85", 0, Status.EMPTY),
        ("", 0, Status.EMPTY),
    ],
)
def test_retro_star_counts_an_unreadable_answer_as_zero(text: str, score: float, status: Status) -> None:
    judgement = read_retro_star(completion(text))
    assert (judgement.score, judgement.status) == (score, status)
    assert read_retro_star(Completion(finish_reason="error", error="500")).score is None
