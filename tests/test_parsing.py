"""Parsing: the published rules on golden cases, and for any text at all a permutation and a status."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyserini_reasonrank.parsing import Untagged, parts, read_grades, read_label, read_permutation
from pyserini_reasonrank.parsing.answer_lists import order_of, permutation
from pyserini_reasonrank.parsing.identifiers import Identifiers, identifiers
from pyserini_reasonrank.parsing.parts import split
from pyserini_reasonrank.records import Completion, Status

TAGS = ["<think>", "</think>", "<answer>", "</answer>", "<THINK>", "</Answer>"]
FRAGMENTS = [*TAGS, "[1]", "[2]", " > ", "[20]", "3", "0", "²", "٣", "\n", "]", "["]
scribbles = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=8)), max_size=20).map("".join)
untagged_text = st.text(alphabet=st.characters(exclude_characters="<>"))


def published(text: str, n: int) -> list[int]:
    """The rules of ReasonRank's published code, written down once more: tags, else all numbers; positions from 0."""
    if found := re.search(r"<think>.*?</think>\s*<answer>(.*?)</answer>", text.lower(), re.DOTALL):
        answer = found[1]
    else:
        answer = text.rpartition("<answer>")[2]
    try:
        ids = [int(word) - 1 for word in "".join(c if c.isdigit() else " " for c in answer).split()]
    except ValueError:  # a superscript
        ids = []
    given = [i for i in dict.fromkeys(ids) if 0 <= i < n]
    return given + [i for i in range(n) if i not in given]


@pytest.mark.parametrize(
    ("text", "order", "status"),
    [
        ("<think>Of the 3, [1] is off.</think>\n<answer>[3] > [1] > [2]</answer>", (2, 0, 1), Status.OK),
        ("<THINK>Hm.</THINK> <Answer>\n[3] > [1] > [2]\n</ANSWER> Done in 2 steps.", (2, 0, 1), Status.OK),
        ("<think>Hm.</think><answer>[3] > [1] > [2", (2, 0, 1), Status.OK),
        ("<think>Form: <answer>[1] > [2]</answer>.</think><answer>[3] > [2] > [1]</answer>", (2, 1, 0), Status.OK),
        ("<think>Hm.</think><answer>[3] > [3] > [1] > [2]</answer>", (2, 0, 1), Status.REPAIRED),
        ("<think>Hm.</think><answer>[0] > [2020] > [3] > [1] > [2]</answer>", (2, 0, 1), Status.REPAIRED),
        ("<think>Hm.</think><answer>[3]</answer>", (2, 0, 1), Status.REPAIRED),
        ("<think>Hm.</think>\n[3] > [1] > [2]", (2, 0, 1), Status.REPAIRED),
        ("<think>Hm.</think><answer>none of them</answer>", (0, 1, 2), Status.EMPTY),
        ("<think>Hm.</think><answer></answer>", (0, 1, 2), Status.EMPTY),
    ],
)
def test_tagged_answers(text: str, order: tuple[int, ...], status: Status) -> None:
    judgement = read_permutation(Completion(text), 3)
    assert (judgement.order, judgement.status) == (order, status)


@pytest.mark.parametrize(
    ("untagged", "order", "status"),
    [("identity", (0, 1, 2, 3), Status.TRUNCATED), ("mention_order", (2, 3, 0, 1), Status.REPAIRED)],
)
def test_a_thought_cut_at_the_limit_is_worth_what_the_switch_says(
    untagged: Untagged, order: tuple[int, ...], status: Status
) -> None:
    cut = Completion("<think>In 1998, passage 3 beats [4] and then [3]", "length")
    judgement = read_permutation(cut, 4, untagged=untagged)
    assert (judgement.order, judgement.status) == (order, status)
    assert "passage 3 beats" in judgement.reasoning or untagged == "mention_order"


@pytest.mark.parametrize(("finish_reason", "status"), [("length", Status.TRUNCATED), ("stop", Status.REPAIRED)])
def test_bare_text_where_tags_were_asked_for_is_a_thought_only_if_it_was_cut(
    finish_reason: str, status: Status
) -> None:
    assert read_permutation(Completion("[2] > [1]", finish_reason), 2).status is status


@pytest.mark.parametrize("lead", ["", "1. ", "Ranking: ", "Here is the ranking:\n\n", "\nPassage "])
def test_a_list_cut_at_the_limit_is_read_as_far_as_it_goes(lead: str) -> None:
    judgement = read_permutation(Completion(f"{lead}[3] > [1", "length"), 4, tags=False)
    assert (judgement.order, judgement.status, judgement.filled) == ((2, 0, 1, 3), Status.REPAIRED, 2)


@pytest.mark.parametrize(
    "thought", ["Okay, so [3] says more than [1], and", "Let me see. Passage [3] is", "In 2019, [2]"]
)
def test_a_cut_thought_that_the_chat_template_opened_is_no_answer(thought: str) -> None:
    cut = Completion(thought, "length")
    assert read_permutation(cut, 4, tags=False).status is Status.TRUNCATED
    assert read_label(cut, 4, tags=False)[1].status is Status.TRUNCATED
    assert read_grades(cut, 4, tags=False).status is Status.TRUNCATED
    closed = Completion(f"{thought} done.</think>\n[3] > [1", "length")
    assert read_permutation(closed, 4, tags=False).order == (2, 0, 1, 3)
    assert read_permutation(Completion(thought), 4, tags=False).status is Status.REPAIRED


def test_a_superscript_voids_the_answer_as_in_the_published_code() -> None:
    judgement = read_permutation(Completion("[2] > [1]²"), 2, tags=False, how="digits")
    assert (judgement.order, judgement.status) == ((0, 1), Status.EMPTY)


@pytest.mark.parametrize(
    ("completion", "status"),
    [
        (Completion(), Status.EMPTY),
        (Completion(" \n"), Status.EMPTY),
        (Completion("I would rather not rank [2] over [1].", "refusal"), Status.REFUSED),
        (Completion(finish_reason="error", error="Error code: 500 - 2 of 3 workers died"), Status.ERROR),
        (Completion("[2] > [1]", "error", error="lost"), Status.ERROR),
    ],
)
def test_what_is_no_answer_is_never_read_as_one(completion: Completion, status: Status) -> None:
    for untagged in ("identity", "mention_order"):
        judgement = read_permutation(completion, 3, tags=False, how="digits", untagged=untagged)
        assert (judgement.order, judgement.status, judgement.filled) == ((0, 1, 2), status, 3)


@given(think=untagged_text, blank=st.sampled_from(["", " ", "\n", " \n\t"]), answer=untagged_text, n=st.integers(2, 20))
def test_tagged_answers_are_read_as_the_published_code_reads_them(think: str, blank: str, answer: str, n: int) -> None:
    closed = f"<think>{think}</think>{blank}<answer>{answer}</answer>"
    for text in (closed, closed.removesuffix("</answer>")):
        order = read_permutation(Completion(text), n, how="digits", untagged="mention_order").order
        assert list(order) == published(text, n)


@given(thought=untagged_text, n=st.integers(2, 20))
def test_a_cut_thought_is_read_as_the_published_code_reads_it(thought: str, n: int) -> None:
    text = f"<think>{thought}"
    order = read_permutation(Completion(text, "length"), n, untagged="mention_order").order
    assert list(order) == published(text, n)


@given(
    text=scribbles,
    finish_reason=st.sampled_from(["stop", "length", "refusal"]),
    n=st.integers(1, 25),
    tags=st.booleans(),
    how=st.sampled_from(["brackets", "digits"]),
    untagged=st.sampled_from(["identity", "mention_order"]),
)
def test_any_text_gives_a_permutation_and_a_status(
    text: str, finish_reason: str, n: int, tags: bool, how: Identifiers, untagged: Untagged
) -> None:
    judgement = read_permutation(Completion(text, finish_reason), n, tags=tags, how=how, untagged=untagged)
    assert sorted(judgement.order) == list(range(n))
    filled = judgement.order[n - judgement.filled :]
    assert list(filled) == sorted(filled)
    assert judgement.status.bad == (judgement.filled == n)
    assert (judgement.status is Status.OK) == (not judgement.status.bad and not judgement.detail)
    if judgement.status.bad:
        assert judgement.order == tuple(range(n))


@pytest.mark.parametrize("how", ["brackets", "digits"])
@pytest.mark.parametrize(
    "endless", ["1" * 8000, "[" + "1" * 8000, "a" + "1" * 8000, "1 " * 4000, "1" + " " * 8000, "a1 " * 3000]
)
def test_a_model_stuck_on_a_digit_costs_neither_the_run_nor_much_time(how: Identifiers, endless: str) -> None:
    began = time.perf_counter()
    judgement = read_permutation(Completion(f"<think>x</think><answer>[2] > [1] > [{endless}"), 3, how=how)
    assert sorted(judgement.order) == [0, 1, 2]
    assert time.perf_counter() - began < 2


@pytest.mark.parametrize(
    ("answer", "brackets", "digits"),
    [
        ("[3] > [1] > [2]", [3, 1, 2], [3, 1, 2]),
        ("3 > 1 > 2", [3, 1, 2], [3, 1, 2]),
        ("12] > [13] > [6", [12, 13, 6], [12, 13, 6]),
        ("[ 3 ] >[1]> 2", [3, 1, 2], [3, 1, 2]),
        ("3, 1, 2.", [3, 1, 2], [3, 1, 2]),
        ("[3, 1, 2]", [3, 1, 2], [3, 1, 2]),
        ("1. [3]\n2. [1]\n3. [2]", [3, 1, 2], [1, 3, 2, 1, 3, 2]),
        ("1) [3]\n2) [1]", [3, 1], [1, 3, 2, 1]),
        ("(1) [3]\n(2) [1]", [3, 1], [1, 3, 2, 1]),
        ("1. [3] > 2. [1]", [3, 1], [1, 3, 2, 1]),
        ("1. [3] > [1]", [3, 1], [1, 3, 1]),
        ("[3] = 9.5, [1] = 8", [3, 1], [3, 9, 5, 1, 8]),
        ("1. 3\n2. 1\n\n3. 2", [3, 1, 2], [1, 3, 2, 1, 3, 2]),
        ("3.\n1.\n2.", [3, 1, 2], [3, 1, 2]),
        ("2. 3\n1. 1", [2, 3, 1, 1], [2, 3, 1, 1]),
        ("Here are the top 10 of 20 passages: [3] > [1]", [3, 1], [10, 20, 3, 1]),
        ("By the 2020 rules (v1.5), 3 > 1", [3, 1], [2020, 1, 5, 3, 1]),
        ("I can't rank these 20 passages.", [], [20]),
        ("[3] > [1]²", [3, 1], []),
        ("[٣] > [1]", [3, 1], [3, 1]),
        ("", [], []),
    ],
)
def test_identifiers(answer: str, brackets: list[int], digits: list[int]) -> None:
    assert identifiers(answer, "brackets") == brackets
    assert identifiers(answer, "digits") == digits


@pytest.mark.parametrize("numbered", ["{}. [{}]", "{}) [{}]", "({}) [{}]", "{}: [{}]", "{}. {}"])
def test_a_numbered_list_is_a_whole_answer(numbered: str) -> None:
    listed = "\n".join(numbered.format(rank, i) for rank, i in enumerate([3, 1, 2], 1))
    for text in (listed, f"<think>Hm.</think>\n<answer>{listed}</answer>"):
        judgement = read_permutation(Completion(text), 3, tags=text != listed)
        assert (judgement.order, judgement.status) == ((2, 0, 1), Status.OK)


@pytest.mark.parametrize(
    ("answer", "order", "filled"),
    [
        ("[1] is about rain, [2] about snow and [3] about both, so: [2] > [3] > [1]", (1, 2, 0), 0),
        ("The ranking is **[2]** > **[3]** >\n**[1]**. Passage [1] is off topic.", (1, 2, 0), 0),
        ("[1] > [2] > [3]? No: [3] > [1] > [2]", (2, 0, 1), 0),
        ("As [1] > [2]: [2] is off topic. Ranking: [3] > [1] > [2]", (2, 0, 1), 0),
        ("Relevant: [3] > [1]. Not relevant: [2] > [4]", (2, 0, 1, 3), 0),
        ("[2] is off topic, so [3] > [1]", (2, 0, 1), 1),
        ("Best is [3], then come [1] and [2]", (2, 0, 1), 0),
    ],
)
def test_a_chain_says_the_order_where_prose_goes_with_it(answer: str, order: tuple[int, ...], filled: int) -> None:
    judgement = read_permutation(Completion(answer), len(order), tags=False)
    assert (judgement.order, judgement.filled) == (order, filled)
    assert judgement.status is (Status.REPAIRED if filled else Status.OK)


def test_the_digits_of_published_code_know_no_chain() -> None:
    assert read_permutation(Completion("[1], [2]: [2] > [1]"), 2, tags=False, how="digits").order == (0, 1)


@given(st.permutations(range(1, 31)))
def test_both_ways_read_a_plain_list_alike(order: list[int]) -> None:
    answer = " > ".join(f"[{i}]" for i in order)
    assert identifiers(answer, "brackets") == identifiers(answer, "digits") == order


@given(st.lists(st.integers(-1, 40)), st.integers(1, 20))
def test_permutation_repairs_any_list_and_counts_what_it_did(ids: list[int], n: int) -> None:
    order, filled, faults = permutation(ids, n)
    assert sorted(order) == list(range(n))
    given = [i - 1 for i in dict.fromkeys(ids) if 1 <= i <= n]
    assert list(order[: n - filled]) == given
    assert (not faults) == (sorted(ids) == list(range(1, n + 1)))


def test_split_keeps_reasoning_and_answer_apart() -> None:
    parts = split("<think>\nBecause [2].\n</think>\n\n<answer>[2] > [1]</answer> bye")
    assert (parts.reasoning, parts.answer, parts.tagged) == ("Because [2].", "[2] > [1]", True)
    assert split("[2] > [1]").answer == "[2] > [1]"
    assert split("<think>never done").answer is None
    assert split("the thought was opened by the template</think>[2]").answer == "[2]"


@pytest.mark.parametrize(
    ("text", "chosen", "status"),
    [
        ("<think>Not [1].</think>\n<answer>[3]</answer>", 2, Status.OK),
        ("<think>Not [1].</think><answer> [3] </answer>", 2, Status.OK),
        ("<think>Not [1].</think><answer>[3]. It says so, unlike the other 2.</answer>", 2, Status.REPAIRED),
        ("<think>Not [1].</think><answer>3</answer>", 2, Status.REPAIRED),
        ("<think>Not [1].</think>\n[3]", 2, Status.REPAIRED),
        ("[3]", 2, Status.REPAIRED),
        ("<answer>[3] [3]</answer>", 2, Status.REPAIRED),
        ("<answer>1. [3]</answer>", 2, Status.REPAIRED),
        ("<answer>[1] or [3]</answer>", None, Status.EMPTY),
        ("<answer>[4]</answer>", None, Status.EMPTY),
        ("<answer>none of the 3</answer>", None, Status.EMPTY),
        ("<think>It is [3]", None, Status.TRUNCATED),
    ],
)
def test_the_label_of_a_choice(text: str, chosen: int | None, status: Status) -> None:
    found, judgement = read_label(Completion(text), 3)
    assert (found, judgement.status) == (chosen, status)


def test_without_tags_a_bare_label_is_the_form_asked_for() -> None:
    assert read_label(Completion("[3]"), 3, tags=False)[1].status is Status.OK
    assert read_label(Completion("Document [3]"), 3, tags=False)[1].status is Status.REPAIRED


@given(
    text=scribbles,
    finish_reason=st.sampled_from(["stop", "length", "refusal"]),
    n=st.integers(1, 25),
    tags=st.booleans(),
)
def test_any_text_gives_a_choice_or_none_and_a_status(text: str, finish_reason: str, n: int, tags: bool) -> None:
    chosen, judgement = read_label(Completion(text, finish_reason), n, tags=tags)
    assert (chosen is None) == judgement.status.bad
    assert chosen is None or 0 <= chosen < n
    assert judgement.order == tuple(range(n))


# --- grades


@pytest.mark.parametrize(
    ("answer", "order", "scores", "status"),
    [
        ("[1] 7\n[2] 10\n[3] 0", (1, 0, 2), (10, 7, 0), Status.OK),
        ("[3] 5\n[2] 5\n[1] 5", (0, 1, 2), (5, 5, 5), Status.OK),
        ("[1]: 7\n[2] - 10\n[3] = 2.5", (1, 0, 2), (10, 7, 2.5), Status.OK),
        ("[1] 7/10\n[2] 8/10\n[3] 9/10", (2, 1, 0), (9, 8, 7), Status.OK),
        ("[1] Total score: 7\n[2] 8\n[3] 9", (2, 1, 0), (9, 8, 7), Status.REPAIRED),
        ("[1] 7\n[2] 8\n[2] 1\n[3] 9", (2, 1, 0), (9, 8, 7), Status.REPAIRED),
        ("[1] 7\n[2] ?\n[3] 9\n[4] 3\n[0] 3", (2, 0, 1), (9, 7, None), Status.REPAIRED),
        ("[1] 7\n[2] 11\n[3] 9\n[4] 3\n[0] 3", (0, 1, 2), (), Status.EMPTY),
        ("[3] 4", (2, 0, 1), (4, None, None), Status.REPAIRED),
        ("[1]\n7\n[2] 3", (1, 0, 2), (3, None, None), Status.REPAIRED),
        ("the best of all 3 is worth 9", (0, 1, 2), (), Status.EMPTY),
        ("[1] > [2] > [3]", (0, 1, 2), (), Status.EMPTY),
    ],
)
def test_grades(answer: str, order: tuple[int, ...], scores: tuple[float | None, ...], status: Status) -> None:
    judgement = read_grades(Completion(f"<think>[1] 3, or 4?</think>\n<answer>\n{answer}\n</answer>"), 3)
    assert (judgement.order, judgement.scores, judgement.status) == (order, scores, status)
    assert judgement.reasoning == "[1] 3, or 4?"
    assert judgement.filled == 3 - sum(score is not None for score in scores)


def test_what_was_wrong_with_grades_is_counted() -> None:
    judgement = read_grades(Completion("[1] 7\n[1] 8\n[2] it is worth 3\n[9] 9\n[8] 12"), 4)
    assert judgement.detail == "no answer tag, 2 out of range, 1 repeated, 1 in another form, 2 missing"


def test_a_cut_thought_holds_no_grades() -> None:
    judgement = read_grades(Completion("<think>[1] 7 and [2] 3", "length"), 2)
    assert (judgement.status, judgement.order, judgement.scores) == (Status.TRUNCATED, (0, 1), ())


@given(
    text=st.one_of(scribbles, st.lists(st.sampled_from(["[1] 7", "[2]", " 3.5", "\n", "[3] 11", "٧"])).map("".join)),
    finish_reason=st.sampled_from(["stop", "length", "refusal"]),
    n=st.integers(1, 25),
    tags=st.booleans(),
)
def test_any_text_gives_grades_or_none_and_a_status(text: str, finish_reason: str, n: int, tags: bool) -> None:
    judgement = read_grades(Completion(text, finish_reason), n, tags=tags)
    assert sorted(judgement.order) == list(range(n))
    assert judgement.status.bad == (judgement.filled == n) == (not judgement.scores)
    if judgement.scores:
        graded = [score for score in judgement.scores if score is not None]
        assert graded == sorted(graded, reverse=True)
        assert all(0 <= grade <= 10 for grade in graded)
        assert judgement.scores[len(graded) :] == (None,) * judgement.filled


@pytest.mark.parametrize(
    "endless", ["[" + "1" * 8000, "[1]" + " " * 8000, "[1] " * 3000, "[1] " + "9" * 8000, "[" * 8000]
)
def test_a_model_stuck_in_a_grade_costs_neither_the_run_nor_much_time(endless: str) -> None:
    began = time.perf_counter()
    judgement = read_grades(Completion(f"<think>x</think><answer>[2] 5\n{endless}"), 3)
    assert judgement.order[0] == 1
    assert time.perf_counter() - began < 2


_PIECES = [
    *["<think>", "</THINK>", "[THINK]", "[/think]", "◁think▷", "analysis", "assistantfinal", "aſſistantfinal"],
    *["assıstantfİnal", "<answer>", "</answer>", "<|channel|>analysis<|message|>"],
    *["<|channel|> final <|constrain|>json<|message|>", "<", "[", "[3]", "a", "As", "class ", "A", "\n", "[t", "[/"],
]


@given(st.lists(st.sampled_from(_PIECES), max_size=12).map("".join))
def test_tags_are_found_where_they_may_start(text: str) -> None:
    assert [m.span() for m in parts._tags(text)] == [m.span() for m in parts._TAG.finditer(text)]
    assert parts._with_tags(text, lambda tag: "") == parts._TAG.sub("", text)


tagged_texts = st.lists(st.sampled_from([
    *("<think>", "</think>", "<answer>", "</answer>", "[THINK]", "[/THINK]", "analysis", "assistantfinal", "Analysis", "A"),
    *("<|channel|>analysis<|message|>", "<|channel|>final<|message|>", "<|channel|>", "<|message|>", "<|end|>", "<", ">"),
    *("[2] > [1]", "because", " ", "\n", "ſ"),
]), max_size=14).map("".join)  # fmt: skip


@settings(max_examples=1000)
@given(tagged_texts, st.booleans())
def test_the_parts_of_a_text_are_cleared_of_the_tags_that_are_in_them(text: str, cut: bool) -> None:
    def searched_again(text: str, tags: parts.Tags, begin: int, end: int) -> str:
        return parts._uncontrolled(parts._TAG.sub("", text[begin:end])).strip()

    found = split(text, cut=cut)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "_untag", searched_again)
        assert split(text, cut=cut) == found


@given(st.lists(st.integers(-1, 7), max_size=8), st.integers(0, 6))
def test_a_permutation_is_taken_as_it_is_and_anything_else_is_completed(ids: list[int], n: int) -> None:
    order, filled, faults = permutation(ids, n)
    given_ids = list(dict.fromkeys(i - 1 for i in ids if 1 <= i <= n))
    assert order == (*given_ids, *(i for i in range(n) if i not in given_ids))
    assert filled == n - len(given_ids)
    assert bool(faults) == (sorted(ids) != list(range(1, n + 1)))


@given(st.lists(st.integers(0, 30), min_size=3, max_size=30), st.integers(1, 25), st.sampled_from(["", " ", "\n"]))
def test_a_plain_chain_is_read_as_any_other_answer(ids: list[int], n: int, space: str) -> None:
    chain = f"{space}{' > '.join(f'[{i}]' for i in ids)}{space}"
    assert order_of(chain, n) == order_of(chain.replace(" > ", " >  "), n) == ids  # the second takes the general way
