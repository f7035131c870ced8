"""The forms in which models write answers: each is read right, or the whole answer is empty."""

from __future__ import annotations

import pytest

from pyserini_reasonrank.parsing import read_grades, read_label, read_permutation
from pyserini_reasonrank.parsing.ratings import read_rating
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
        # names of identifiers, and other characters
        "[Passage 3] > [Passage 1] > [Passage 5] > [Passage 2] > [Passage 4]",
        "Passage 3 > Passage 1 > Passage 5 > Passage 2 > Passage 4",
        "[P3] > [#1] > [doc5] > [D2] > [4.]",
        "③ > ① > ⑤ > ② > ④",
        "「3」>「1」>「5」>「2」>「4」",
        "（3）＞（1）＞（5）＞（2）＞（4）",
        "\u200b[3]\u200b > [1] > [5] > [2] > [4]",
        "$[3] \\succ [1] \\succ [5] > [2] \\geq [4]$",
        "[3] ~ [1] > [5] > [2] ≈ [4]",
        # remarks within a chain
        "[3] (most relevant) > [1] > [5] > [2] > [4] (least relevant)",
        "[3] (gives the cause) > [1] (names it) > [5] > Passage [2] > [4]",
        "[3]: 9 > [1]: 8 > [5]: 7 > [2]: 2 > [4]: 1",
        "[3] gives the cause > [1] > [5] > [2] > [4]",
        # numbered and bulleted lines
        "1. Passage 3\n2. Passage 1\n3. Passage 5\n4. Passage 2\n5. Passage 4",
        "1. **Passage 3**: the cause, as in passage 1\n2. **Passage 1**\n3. Passage 5\n4. Passage 2\n5. Passage 4",
        "Rank 1: [3]\nRank 2: [1], unlike [4]\nRank 3: [5]\nRank 4: [2]\nRank 5: [4]",
        "1st: [3], not [4]\n2nd: [1]\n3rd: [5]\n4th: [2]\n5th: [4]",
        "#1: [3], not [4]\n#2: [1]\n#3: [5]\n#4: [2]\n#5: [4]",
        "[Rank 1] 3\n[Rank 2] 1\n[Rank 3] 5\n[Rank 4] 2\n[Rank 5] 4",
        "| Rank | Passage | Why |\n|---|---|---|\n| 1 | [3] | the cause |\n| 2 | [1] | unlike [4] |\n| 3 | [5] | |\n"
        "| 4 | [2] | |\n| 5 | [4] | |",
        "- [3]: better than [4]\n- [1]: as [2]\n- [5]: some\n- [2]: little, not relevant\n- [4]: none",
        # lists without brackets
        "The ranking is 3, 1, 5, 2, and 4.",
        "1. [1]: on rain.\n2. [2]: on snow.\n3. [3]: on both.\n4. [4]: no.\n5. [5]: no.\n\nFinal ranking: 3, 1, 5, 2, 4",
        # remarks on the passages in the order shown, after the answer
        f"{GOOD}\n\nWhy:\n1. [1] is on rain.\n2. [2] is on snow.\n3. [3] is on both.\n4. [4] is off.\n5. [5] is short.",
        f"{GOOD}\n\nWhy:\n- [1] is on rain.\n- [2] is on snow.\n- [3] is on both.\n- [4] is off.\n- [5] is short.",
        "[3] > [1], [1] > [5], [5] > [2], [2] > [4]",
        # JSON
        '{"ranking": "[3] > [1] > [5] > [2] > [4]", "why": "because [1] > [2]"}',
        '{"why": "[1] is off", "ranking": [3, 1, 5, 2, 4]}',
        '{"ranking": [3, 1, 5, 2, 4], "scores": [9, 8, 7, 6, 5]}',
        '{"result": ["Passage 3", "Passage 1", "Passage 5", "Passage 2", "Passage 4"]}',
        "Highly relevant: [3], [1]\nPartly relevant: [5]\nNot relevant: [2], [4]",
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
        # the worst first
        "Ranking from least to most relevant: [4] > [2] > [5] > [1] > [3]",
        "Least relevant first: [4], [2], [5], [1], [3]",
        "In ascending order of relevance: [4] > [2] > [5] > [1] > [3]",
        # a rank and a passage in one line, in brackets both
        "[1] Passage 3\n[2] Passage 1\n[3] Passage 5\n[4] Passage 2\n[5] Passage 4",
        "[1] [3]\n[2] [1]\n[3] [5]\n[4] [2]\n[5] [4]",
        "[1] > [3]\n[2] > [1]\n[3] > [5]\n[4] > [2]\n[5] > [4]",
        # grades, or remarks on the passages in the order shown
        "[1] = 7, [2] = 3, [3] = 10, [4] = 0, [5] = 5",
        "[1] (score: 2)\n[2] (score: 1)\n[3] (score: 9)\n[4] (score: 0)\n[5] (score: 1.5)",
        "| Passage | Score |\n|---|---|\n| [1] | 7 |\n| [2] | 3 |\n| [3] | 10 |\n| [4] | 0 |\n| [5] | 5 |",
        "[1]: irrelevant\n[2]: somewhat relevant\n[3]: highly relevant\n[4]: irrelevant\n[5]: relevant",
        "[1] is on rain. [2] is on snow. [3] is on both. [4] is off topic. [5] is short. I think [3] is best.",
        "Passages [1] and [2] are about rain. Passages [3], [4] and [5] are about snow.",
        # prose whose order of mention is not the order
        "[3] is the most relevant, [4] the least. The rest: [1], [5], [2].",
        "Not relevant: [2], [4]\nRelevant: [3], [1], [5]",
        "Not relevant: [2] > [4]. Relevant: [3] > [1] > [5]",
        "I leave out passages [1], [2] and [4], which are not relevant. The remaining ones are [3] and [5].",
        "[2] is off topic.",
        f"{GOOD}? No: [1] > [2] > [3] > [4]",
    ],
)
def test_an_order_that_is_not_clear_is_empty(answer: str) -> None:
    judgement = read_permutation(Completion(answer), 5, tags=False)
    assert (judgement.order, judgement.status) == (SHOWN, Status.EMPTY)


def test_identifiers_after_an_omission_are_not_the_next_ones() -> None:
    judgement = read_permutation(Completion("[3] > [1] > ... > [5]"), 5, tags=False)
    assert (judgement.order, judgement.filled) == ((2, 0, 1, 3, 4), 3)


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
        f"<reasoning>[2] > [1]</reasoning>{GOOD}",
        f"<thought>Form: <answer>[2] > [1]</answer></thought><answer>{GOOD}</answer>",
        f"<|begin_of_thought|>[2] > [1]<|end_of_thought|>{GOOD}",
        f"<|START_THINKING|>[2] > [1]<|END_THINKING|>{GOOD}",
        f"analysisWe have [2] > [1].assistantfinal{GOOD}",
        f"<answer>{GOOD}<answer>",
        f"<answer>{GOOD}</answer>\n<reasoning>[2] > [1]</reasoning>",
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
        ("[1] 0.7\n[2] 0.3\n[3] 1.0\n[4] 0\n[5] 0.2", None),
        ("[1] 7-8\n[2] 1\n[3] 5\n[4] 3\n[5] 0", None),
        ("[1] names 2 studies\n[2] 1\n[3] 5\n[4] 3\n[5] 0", None),
        ("[1] is better than [2]: 8\n[3] 5\n[4] 3\n[5] 0", None),
        ("[1] 7 because 3 facts are in it\n[2] 1\n[3] 9, unlike [4]\n[4] 0\n[5] 2", (2, 0, 4, 1, 3)),
        ('{"1": 7, "2": 1, "3": 9, "4": 0, "5": 2}', (2, 0, 4, 1, 3)),
        (
            '```json\n{"scores": [{"id": 1, "score": 7}, {"id": 2, "score": 1}, {"id": 3, "score": 9}, '
            '{"id": 4, "score": 0}, {"id": 5, "score": 2}]}\n```',
            (2, 0, 4, 1, 3),
        ),
        ('{"1": 70, "2": 10, "3": 90, "4": 0, "5": 20}', None),
        ("Passage 1: 7\nPassage 2: 1\nPassage 3: 9\nPassage 4: 0\nPassage 5: 2", (2, 0, 4, 1, 3)),
    ],
)
def test_grades_on_other_scales_and_among_other_numbers(answer: str, order: tuple[int, ...] | None) -> None:
    judgement = read_grades(Completion(f"<think>x</think><answer>{answer}</answer>"), 5)
    assert judgement.order == (order or SHOWN)
    assert (judgement.status is Status.EMPTY) == (order is None)


GRADES = '{"[1]": 7, "[2]": 1, "[3]": 9, "[4]": 0, "[5]": 2}'
REASON = "<reason>\n[3] has it, like {[1]: 3}.\n</reason>\n"


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        (f"{REASON}<answer>\n```json\n{GRADES}\n```\n</answer>", ""),
        (f"{REASON}<answer>{GRADES}</answer>", ""),
        (f"{REASON}<answer>\n```\n{GRADES}\n```</answer>", ""),
        (f"{REASON}<answer>Here:\n```json\n{GRADES.replace(' ', chr(10))}\n```\n</answer>", ""),
        (f"<think>So.</think>\n<answer>{GRADES}</answer>", ""),
        (f"<answer>{GRADES.replace('[', '').replace(']', '')}</answer>", ""),
        (f"{REASON}```json\n{GRADES}\n```", "no answer tag"),
        (f"<reason>[3] has it. <answer>{GRADES}</answer>", "the thought was not closed"),
        (f'<answer>{GRADES[:-1]}, "[2]": 8}}</answer>', "1 repeated"),
        (f'<answer>{GRADES[:-1]}, "[6]": 8}}</answer>', "1 out of range"),
        (f"<answer>{GRADES.replace('[1]', '[1]]')}</answer>", ""),
        (f"<answer>{GRADES.replace('7', '7.0')}</answer>", ""),
        (f"<answer>{GRADES[:-1]}</answer>", "not JSON, 5 in another form"),
        (f"<answer>{GRADES.replace(chr(34), chr(39))}</answer>", "not JSON, 5 in another form"),
        (f"<answer>{GRADES[:-1]},}}</answer>", "not JSON, 5 in another form"),
        ("<answer>[1] 7\n[2] 1\n[3] 9\n[4] 0\n[5] 2</answer>", "not JSON"),
    ],
)
def test_grades_in_json_and_what_is_nearly_json(text: str, detail: str) -> None:
    judgement = read_grades(Completion(text), 5, form="json")
    assert judgement.order == ORDER
    assert judgement.scores == (9, 7, 2, 1, 0)
    assert (judgement.status, judgement.detail) == (Status.REPAIRED if detail else Status.OK, detail)


@pytest.mark.parametrize("value", ['"7"', '"7.0"', '{"score": 7, "why": "names it"}', '{"grade": "7"}'])
def test_a_grade_in_json_may_be_text_or_have_a_name(value: str) -> None:
    judgement = read_grades(Completion(f"<answer>{GRADES.replace('7', value)}</answer>"), 5, form="json")
    assert (judgement.scores, judgement.status) == ((9, 7, 2, 1, 0), Status.OK)


@pytest.mark.parametrize("value", ["70", "-7", "null", "true", '"high"', '{"a": 7}', "[7]", "NaN", "1e999", '"7-8"'])
def test_one_grade_that_is_not_clear_makes_json_unreadable(value: str) -> None:
    judgement = read_grades(Completion(f"<answer>{GRADES.replace('7', value)}</answer>"), 5, form="json")
    assert (judgement.order, judgement.status, judgement.scores) == (SHOWN, Status.EMPTY, ())


def test_the_grades_of_json_that_was_cut_count_without_the_last_number() -> None:
    text = f"{REASON}<answer>\n```json\n{GRADES[: GRADES.index('2}') + 1]}"
    whole, cut = (read_grades(Completion(text, reason), 5, form="json") for reason in ("stop", "length"))
    assert (whole.scores, whole.filled) == ((9, 7, 2, 1, 0), 0)
    assert (cut.order, cut.scores, cut.filled) == ((2, 0, 1, 3, 4), (9, 7, 1, 0, None), 1)
    thought = read_grades(Completion("<reason>[3] has", "length"), 5, form="json")
    assert (thought.status, thought.reasoning) == (Status.TRUNCATED, "[3] has")


@pytest.mark.parametrize(
    ("text", "score", "detail"),
    [
        ("It names the cause.\n<score>\n85\n</score>", 85, ""),
        ("<score>0</score>", 0, ""),
        ("<think>Well, <score>3</score>.</think>It does.\n<score>85</score>\n", 85, ""),
        ("So: <SCORE>85</SCORE>", 85, ""),
        ("<answer><score>85</score></answer>", 85, ""),
        ("It does.\n<score>85", 85, ""),
        ("I add <score> tags. <score>85</score>", 85, ""),
        ("At first <score>20</score>, then <score>85</score>", 85, "several scores"),
        ("<score>85</score> as said: <score>85</score>", 85, ""),
        ("<score>85/100</score>", 85, "a score in another form"),
        ("<score>[85]</score>", 85, "a score in another form"),
        ("<score>**85**</score>", 85, "a score in another form"),
        ("<score>85%</score>", 85, "a score in another form"),
        ("<score>8.5/10</score>", 85, "a score in another form"),
        ("<score>85.5</score>", 85.5, "a score in another form"),
        ("<score>Final score: 85 (2 of 3 steps)</score>", 85, "a score in another form"),
        ("It does.\n\nScore: 85", 85, "no score tag, a score in another form"),
        ("It does.\n85", 85, "no score tag"),
        ("<think>It does. <score>85</score>", 85, "the thought was not closed"),
    ],
)
def test_a_written_score(text: str, score: float, detail: str) -> None:
    judgement = read_rating(Completion(text), 100)
    assert (judgement.score, judgement.detail) == (score, detail)
    assert judgement.status is (Status.REPAIRED if detail else Status.OK)


@pytest.mark.parametrize(
    "answer",
    [
        "<score>101</score>",
        "<score>-5</score>",
        "<score>0.85</score>",
        "<score>80-100</score>",
        "<score>80 to 100</score>",
        "<score>high</score>",
        "<score></score>",
        "<score>names 2 of 3 causes and 4 effects</score>",
        "<score>99999999999</score>",
        "It names 2 causes.",
        "It does.",
        "80-100 (Highly Relevant)",
        "</score>",
    ],
)
def test_a_written_score_that_is_not_clear_is_empty(answer: str) -> None:
    judgement = read_rating(Completion(answer), 100)
    assert (judgement.score, judgement.status, judgement.filled) == (None, Status.EMPTY, 1)


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("It names the", None),
        ("It does.\n<score>", None),
        ("It does.\n<score>\n8", None),
        ("It does. Score: 8", None),
        ("<think>It does. <score>85</score> or", None),
        ("It does.\n<score>\n85\n", 85),
        ("It does.\n<score>85</score>\nSo it", 85),
    ],
)
def test_a_written_score_of_a_cut_answer(text: str, score: float | None) -> None:
    judgement = read_rating(Completion(text, "length"), 100)
    assert (judgement.score, judgement.status) == (score, Status.TRUNCATED if score is None else Status.OK)


def test_the_analysis_before_a_score_is_its_reasoning() -> None:
    assert read_rating(Completion("<think>Hm.</think>It does.\n<score>85</score>"), 100).reasoning == "Hm.\nIt does."
    assert read_rating(Completion("It does.\n85"), 100, tags=False).reasoning == "It does."
    assert read_rating(Completion("85"), 100, tags=False).status is Status.OK


@pytest.mark.parametrize(
    ("answer", "chosen"),
    [
        ('{"answer": 3}', 2),
        ('["3"]', 2),
        ("Passage 3", 2),
        ("\\boxed{[3]}", 2),
        ("③", 2),
        ("[3] > [1]", None),
        ("[1-3]", None),
        ("not [3]", None),
        ("better than [3]", None),
    ],
)
def test_labels_in_other_forms(answer: str, chosen: int | None) -> None:
    found, judgement = read_label(Completion(f"<answer>{answer}</answer>"), 5)
    assert (found, judgement.status) == (chosen, Status.EMPTY if chosen is None else Status.REPAIRED)


@pytest.mark.parametrize(
    "last", [GOOD, f"Ranking: {GOOD}", f"<answer>{GOOD}</answer>", "[3]\n[1]\n[5]\n[2]\n[4]", "[3] > [1] > [5]"]
)
def test_a_list_that_ends_the_reasoning_is_the_answer_where_there_is_no_other(last: str) -> None:
    judgement = read_permutation(Completion(f"<think>Is [1] > [2]? No.\n{last}</think>\n"), 5, tags=False)
    assert (judgement.order, judgement.status) == (ORDER, Status.REPAIRED)
    assert judgement.detail.startswith("the answer is at the end of the reasoning")


@pytest.mark.parametrize(
    "last", ["So I say [3] > [1] > [5] > [2] > [4] or so.", "[3] > [1]", "5", "[1] < [2] < [3] < [4] < [5]", "Hm."]
)
def test_reasoning_without_an_answer_names_the_likely_cause(last: str) -> None:
    judgement = read_permutation(Completion(f"<think>Is [1] > [2]? No.\n{last}</think>\n"), 5, tags=False)
    assert (judgement.order, judgement.status) == (SHOWN, Status.EMPTY)
    assert "reasoning parser" in judgement.detail


def test_labels_and_grades_at_the_end_of_the_reasoning() -> None:
    assert read_label(Completion("<think>Not [1].\n[3]</think>"), 5)[0] == 2
    assert read_label(Completion("<think>Not [1].\nSo it is [3]</think>"), 5)[0] is None
    grades = "[1] 7\n[2] 1\n[3] 9\n[4] 0\n[5] 2"
    assert read_grades(Completion(f"<think>Well.\n{grades}</think>"), 5).order == ORDER
    assert read_grades(Completion(f"<think>Well.\n{grades}</think>"), 6).status is Status.EMPTY
