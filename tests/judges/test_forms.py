"""How freely a model may write: thinking budgets, and answers that can be nothing but well-formed."""

from __future__ import annotations

import asyncio
import re
from importlib.util import find_spec
from typing import Any

import pytest

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.judges import Judge
from pyserini_reasonrank.judges.registry import JUDGES
from pyserini_reasonrank.records import Capability, Completion, Judgement, Message, Prompt, Sampling, Status

PROMPT = Prompt((Message("user", "Which of these?"),))
SAMPLING = Sampling(max_tokens=100, seed=3)
ALL = frozenset(Capability)
ANSWERS = {
    "permutation": "[3] > [1] > [2]",
    "select": "[3]",
    "best": "[3]",
    "worst": "[3]",
    "grades": "[1] 5\n[2] 0\n[3] 10",
}
WRITTEN = list(ANSWERS)

Asked = list[tuple[Prompt, Sampling, int]]


def made(kind: str, can: frozenset[Capability] = ALL, **options: Any) -> Judge:
    return JUDGES[kind](JUDGES[kind].Options.model_validate(options), SAMPLING, can, "Again.")


def judged(judge: Judge, *answers: Completion, n: int = 3) -> tuple[Judgement, Asked]:
    asked: Asked = []

    async def ask(prompt: Prompt, sampling: Sampling, *, attempt: int = 0) -> Completion:
        asked.append((prompt, sampling, attempt))
        return answers[len(asked) - 1]

    async def run() -> Judgement:
        return await judge.judge(ask, PROMPT, ["a", "b", "c"][:n])

    return asyncio.run(run()), asked


def tagged(kind: str) -> str:
    return f"<think>[1] is off.</think>\n<answer>{ANSWERS[kind]}</answer>"


# --- thinking budgets


@pytest.mark.parametrize("kind", WRITTEN)
def test_a_thought_within_its_budget_costs_nothing_more(kind: str) -> None:
    judgement, asked = judged(made(kind, thought_tokens=40), Completion(tagged(kind)))
    assert (judgement.status, judgement.reasoning) == (Status.OK, "[1] is off.")
    assert [(sampling.max_tokens, sampling.stop) for _, sampling, _ in asked] == [(40, ())]


@pytest.mark.parametrize("kind", WRITTEN)
@pytest.mark.parametrize("repair", ["none", "close", "ask"])
def test_a_thought_is_closed_at_its_budget_whatever_else_is_repaired(kind: str, repair: str) -> None:
    answers = Completion("<think>[1] is off, and", "length"), Completion(f"{ANSWERS[kind].removeprefix('[')}")
    judgement, asked = judged(made(kind, thought_tokens=40, repair=repair), *answers)
    assert (judgement.status, judgement.detail) == (Status.REPAIRED, "thought closed")
    [(_, first, _), (second, rest, _)] = asked
    assert first.max_tokens == 40
    assert second.prefill == "<think>[1] is off, and\n</think>\n<answer>["
    assert (rest.max_tokens, rest.stop) == (made(kind).answer_tokens(3), ("</",))


@pytest.mark.parametrize("kind", WRITTEN)
@pytest.mark.parametrize("cut", ["", "\n<answer>", "\n<answer>[3", "\nSo it is"])
def test_a_thought_that_ends_by_itself_is_no_repair_though_the_budget_ends_before_the_answer(
    kind: str, cut: str
) -> None:
    answers = Completion(f"<think>[1] is off.</think>{cut}", "length"), Completion(ANSWERS[kind].removeprefix("["))
    judgement, asked = judged(made(kind, thought_tokens=40), *answers)
    assert (judgement.status, judgement.detail, judgement.reasoning) == (Status.OK, "", "[1] is off.")
    assert [prompt.prefill for prompt, _, _ in asked] == ["", "<think>[1] is off.\n</think>\n<answer>["]


@pytest.mark.parametrize("kind", WRITTEN)
def test_an_answer_that_is_whole_at_the_budget_is_not_asked_for_again(kind: str) -> None:
    judgement, asked = judged(made(kind, thought_tokens=40), Completion(tagged(kind), "length"))
    assert (judgement.status, len(asked)) == (Status.OK, 1)


def test_without_tags_the_thought_of_a_model_that_thinks_anyway_has_a_budget_too() -> None:
    answers = Completion("<think>[1] is off.</think>\n[3] >", "length"), Completion("[3] > [1] > [2]")
    judgement, asked = judged(made("permutation", tags=False, thought_tokens=40), *answers)
    assert (judgement.order, judgement.status, len(asked)) == ((2, 0, 1), Status.OK, 2)
    judgement, asked = judged(made("permutation", tags=False, thought_tokens=40), Completion("[3] > [1] >", "length"))
    assert (judgement.order, judgement.status, len(asked)) == ((2, 0, 1), Status.REPAIRED, 1)


def test_what_can_not_be_decoded_after_the_budget_leaves_the_rest_of_the_ladder() -> None:
    lost = Completion(finish_reason="error", error="Error code: 500")
    cut, good = Completion("<think>so", "length"), Completion(tagged("permutation"))
    judgement, asked = judged(made("permutation", thought_tokens=40), cut, lost, good)
    assert (judgement.order, judgement.detail) == ((2, 0, 1), "asked twice")
    assert [(sampling.max_tokens, sample) for _, sampling, sample in asked] == [(40, 0), (40, 0), (40, 1)]
    ended = Completion("<think>so</think><answer>[3] > [1] >", "length")
    judgement, asked = judged(made("permutation", thought_tokens=40), ended, lost)
    assert (judgement.order, judgement.status, len(asked)) == ((2, 0, 1), Status.REPAIRED, 2)


@pytest.mark.parametrize(("kind", "asks"), [("score", 2), ("bisection", 8)])
def test_judges_of_one_passage_have_the_same_budget(kind: str, asks: int) -> None:
    told = dict.fromkeys("ABCDEFGHIJKLMNOPQ", -1.0) | {"true": -1.0, "false": -1.0}
    answers = [Completion("<think>so", "length"), *[Completion(choices=told)] * (asks - 1)]
    judgement, asked = judged(made(kind, thought_tokens=40), *answers, n=1)
    assert (judgement.status, judgement.detail) == (Status.REPAIRED, "thought closed at its budget")
    assert [sampling.max_tokens for _, sampling, _ in asked] == [40] + [1] * (asks - 1)
    assert all(prompt.prefill.startswith("<think>so</think>\n") for prompt, _, _ in asked[1:])


@pytest.mark.parametrize("kind", [*WRITTEN, "score", "bisection"])
def test_a_budget_beyond_the_tokens_there_are_is_refused(kind: str) -> None:
    with pytest.raises(UsageError, match=r"judge\.thought_tokens 101 is more than --rerank\.sampling\.max_tokens 100"):
        made(kind, thought_tokens=101)
    made(kind, thought_tokens=100)


# --- constrained answers


def patterns(kind: str) -> tuple[str, str]:
    """The pattern of a whole completion, and of the answer after a thought that had to be closed."""
    answers = Completion("<think>so", "length"), Completion(ANSWERS[kind].removeprefix("["))
    _, [(_, first, _), (_, second, _)] = judged(made(kind, constrain=True), *answers)
    return first.pattern, second.pattern


@pytest.mark.parametrize("kind", WRITTEN)
def test_a_constrained_answer_is_the_well_formed_one_after_any_thought(kind: str) -> None:
    whole, rest = patterns(kind)
    for text in (tagged(kind), tagged(kind).removeprefix("<think>"), tagged(kind).replace("off", "off <b>\n1 < 2")):
        assert re.fullmatch(whole, text)
    for text in (ANSWERS[kind], tagged(kind) + " Done.", tagged(kind).replace("</think>", ""), "<think>so</think>"):
        assert not re.fullmatch(whole, text)
    assert re.fullmatch(rest, ANSWERS[kind].removeprefix("["))
    assert not re.fullmatch(rest, ANSWERS[kind])


@pytest.mark.parametrize(
    ("kind", "answer", "allowed"),
    [
        ("permutation", "[1] > [2] > [3]", True),
        ("permutation", "[3]\n[2]\n[1]", False),  # is read, but is not what this prompt asks for
        ("permutation", "[3] > [3] > [1]", True),  # a repeat can't be forbidden, and is repaired
        ("permutation", "[1] > [2] > [4]", False),
        ("permutation", "[1] > [2]", False),
        ("permutation", "[1] > [2] > [3] > [1]", False),
        ("permutation", "[1], [2], [3]", False),
        ("best", "[3]", True),
        ("best", "[4]", False),
        ("best", "[1] [2]", False),
        ("best", "3", False),
        ("worst", "[1]", True),
        ("worst", "[0]", False),
        ("grades", "[1] 10\n[2] 0\n[3] 7", True),
        ("grades", "[1] 11\n[2] 0\n[3] 7", False),
        ("grades", "[2] 1\n[1] 0\n[3] 7", False),
        ("grades", "[1] 10\n[2] 0", False),
    ],
)
def test_what_may_be_written_without_tags(kind: str, answer: str, allowed: bool) -> None:
    judge = made(kind, frozenset({Capability.PATTERN}), constrain=True, tags=False)
    judgement, [(_, sampling, _)] = judged(judge, Completion(answer))
    assert bool(re.fullmatch(sampling.pattern, answer)) == allowed
    assert not allowed or not judgement.status.bad


@pytest.mark.parametrize(
    ("form", "answer"), [("lines", "[3]\n[1]\n[2]"), ("blanks", "[3] [1] [2]"), ("arrows", "[3] > [1] > [2]")]
)
def test_the_form_of_an_order_is_taught_constrained_and_read(form: str, answer: str) -> None:
    judge = made("permutation", frozenset({Capability.PATTERN}), constrain=True, tags=False, form=form)
    assert judge.ideal([1.0, 0.0, 2.0]) == answer
    judgement, [(_, sampling, _)] = judged(judge, Completion(answer))
    assert re.fullmatch(sampling.pattern, answer)
    assert judgement.status is Status.OK
    assert judgement.order == (2, 0, 1)


GRADES = '{"[1]": 5, "[2]": 0, "[3]": 10}'
JSON = f"```json\n{GRADES}\n```"


def test_grades_in_json_come_after_a_reason_that_is_closed_in_its_own_tag() -> None:
    judge = made("grades", constrain=True, form="json")
    whole = f"<reason>[1] is off.</reason>\n<answer>\n{JSON}\n</answer>"
    judgement, asked = judged(judge, Completion(whole))
    assert (judgement.status, judgement.reasoning, judgement.scores) == (Status.OK, "[1] is off.", (10, 5, 0))
    assert re.fullmatch(asked[0][1].pattern, whole)
    cut = Completion("<reason>[1] is off, and", "length")
    judgement, asked = judged(judge, cut, Completion(GRADES.removeprefix("{") + "\n```\n"))
    assert (judgement.status, judgement.detail, judgement.scores) == (Status.REPAIRED, "thought closed", (10, 5, 0))
    assert asked[1][0].prefill == "<reason>[1] is off, and\n</reason>\n<answer>\n```json\n{"
    assert re.fullmatch(asked[1][1].pattern, GRADES.removeprefix("{") + "\n```\n")
    assert judge.ideal([1.5, 0, 3]) == f"<reason>The gains are 1.5, 0, 3.</reason>\n<answer>\n{JSON}\n</answer>"


@pytest.mark.parametrize(
    ("answer", "allowed"),
    [(JSON, True), (JSON.replace("10", "11"), False), (JSON.replace('"[2]": 0, ', ""), False), (GRADES, False)],
)
def test_grades_in_json_without_tags_are_one_block(answer: str, allowed: bool) -> None:
    judge = made("grades", frozenset({Capability.PATTERN}), constrain=True, form="json", tags=False)
    judgement, [(_, sampling, _)] = judged(judge, Completion(answer))
    assert bool(re.fullmatch(sampling.pattern, answer)) == allowed
    assert not allowed or judgement.status is Status.OK


def test_a_score_that_was_cut_off_is_decoded_alone_after_the_analysis() -> None:
    judge = made("rating", constrain=True)
    cut = Completion("It gives a < b,", "length")
    judgement, asked = judged(judge, cut, Completion("85\n"), n=1)
    assert (judgement.score, judgement.status, judgement.detail) == (85, Status.REPAIRED, "thought closed")
    [(_, first, _), (second, rest, _)] = asked
    assert second.prefill == "It gives a < b,\n<score>"
    assert (rest.max_tokens, rest.stop) == (judge.answer_tokens(1), ("</",))
    for text in ("It gives a < b,\n<score>\n100\n</score>", "<score>7</score>"):
        assert re.fullmatch(first.pattern, text)
    for text in ("It gives\n<score>101</score>", "<score>07</score>", "<score>7</score>.", "7"):
        assert not re.fullmatch(first.pattern, text)
    thinking = Completion("<think>It gives", "length")
    _, asked = judged(judge, thinking, Completion("85"), n=1)
    assert asked[1][0].prefill == "<think>It gives\n</think>\n<score>"


@pytest.mark.parametrize("top", [1, 5, 9, 10, 47, 99, 100, 123, 1000])
def test_the_pattern_of_a_score_ends_at_the_highest(top: int) -> None:
    pattern = made("rating", top=top, tags=False).pattern(1)  # type: ignore[attr-defined]
    allowed = [number for number in range(2 * top + 20) if re.fullmatch(pattern, str(number))]
    assert allowed == list(range(top + 1))
    assert not re.fullmatch(pattern, "00")


@pytest.mark.parametrize("kind", list(JUDGES))
@pytest.mark.parametrize("constrain", [True, False])
def test_only_text_is_constrained_and_only_if_asked_for(kind: str, constrain: bool) -> None:
    answers = [
        Completion("<think>so</think><answer>[1]</answer>", choices=dict.fromkeys(("true", "false", "A"), -1.0))
    ] * 9
    _, asked = judged(made(kind, constrain=constrain), *answers, n=1)
    assert [bool(sampling.pattern) for _, sampling, _ in asked] == [constrain and kind in (*WRITTEN, "rating")] * len(
        asked
    )


@pytest.mark.skipif(find_spec("xgrammar") is None, reason="xgrammar, by which vLLM constrains texts, is not installed")
@pytest.mark.parametrize(
    ("kind", "options"), [*((kind, {}) for kind in WRITTEN), ("grades", {"form": "json"}), ("rating", {})]
)
@pytest.mark.parametrize("n", [1, 20, 100])
def test_patterns_mean_the_same_to_the_library_that_engines_constrain_with(
    kind: str, options: dict[str, Any], n: int
) -> None:
    import xgrammar

    vocabulary = [chr(c) for c in range(1, 128)]
    compiler = xgrammar.GrammarCompiler(xgrammar.TokenizerInfo(vocabulary, stop_token_ids=[0]), max_threads=1)
    gains = [i % 4 for i in range(n)]
    for tags in (True, False):
        judge = made(kind, constrain=True, tags=tags, **options)
        _, [(_, sampling, _), *_] = judged_about(judge, n)
        grammar = compiler.compile_regex(sampling.pattern)
        for text, allowed in ((judge.ideal(gains), True), (judge.ideal(gains)[:-2], False), ("[1] is best", False)):
            matcher = xgrammar.GrammarMatcher(grammar, terminate_without_stop_token=True)
            assert (matcher.accept_string(text) and matcher.is_terminated()) == allowed


def judged_about(judge: Judge, n: int) -> tuple[Judgement, Asked]:
    asked: Asked = []

    async def ask(prompt: Prompt, sampling: Sampling, *, attempt: int = 0) -> Completion:
        asked.append((prompt, sampling, attempt))
        return Completion(judge.ideal([1.0] * n))

    async def run() -> Judgement:
        return await judge.judge(ask, PROMPT, [""] * n)

    return asyncio.run(run()), asked
