"""Judges: what each question's answer is worth, and the ladder that repairs an answer before giving it up."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import exp, inf, log
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from pyserini_reasonrank.errors import UsageError, validated
from pyserini_reasonrank.judges.best import Best
from pyserini_reasonrank.judges.permutation import Permutation
from pyserini_reasonrank.judges.score import SCALES, RelevanceScore
from pyserini_reasonrank.judges.select import Select
from pyserini_reasonrank.judges.worst import Worst
from pyserini_reasonrank.parsing import read_permutation
from pyserini_reasonrank.prompts.tokens import EstimatedTokens, ModelTokens
from pyserini_reasonrank.records import Capability, Completion, Judgement, Message, Prompt, Sampling, Status

PROMPT = Prompt((Message("system", "Assess."), Message("user", "Order these.")), prefill="")
SAMPLING = Sampling(max_tokens=100, seed=5)
TRUE_FALSE = RelevanceScore.Options()
REMINDER = "Every identifier once."
CUT = Completion("<think>Passage [2] and", "length")
GOOD = Completion("<think>x</think><answer>[2] > [3] > [1]</answer>")
NONE = Completion("I would rather not.")
ERROR = Completion(finish_reason="error", error="Error code: 500 - 3 of 3 workers are down")
REFUSED = Completion("No.", "refusal")
PREFILL, REASK, CHOICES = Capability.PREFILL, Capability.REASK, Capability.CHOICES

Asked = list[tuple[Prompt, Sampling, int]]


def script(*answers: Completion) -> tuple[Asked, Callable[..., object]]:
    """An ``ask`` that gives these answers, one after the other, and what it was asked."""
    asked: Asked = []

    async def ask(prompt: Prompt, sampling: Sampling, *, attempt: int = 0) -> Completion:
        asked.append((prompt, sampling, attempt))
        return answers[len(asked) - 1]

    return asked, ask


def permute(*answers: Completion, can: Sequence[Capability] = (), tags: bool = True) -> tuple[Judgement, Asked]:
    judge = Permutation(Permutation.Options(tags=tags), SAMPLING, frozenset(can), REMINDER)
    asked, ask = script(*answers)
    return asyncio.run(judge.judge(ask, PROMPT, ["a", "b", "c"])), asked  # type: ignore[arg-type]


def score(
    *answers: Completion, options: RelevanceScore.Options = TRUE_FALSE, sampling: Sampling = SAMPLING
) -> tuple[Judgement, Asked]:
    judge = RelevanceScore(options, sampling, frozenset({PREFILL, CHOICES, REASK}), REMINDER)
    asked, ask = script(*answers)
    return asyncio.run(judge.judge(ask, PROMPT, ["a"])), asked  # type: ignore[arg-type]


def test_a_good_answer_is_asked_for_once() -> None:
    judgement, asked = permute(GOOD, can=[PREFILL, REASK])
    assert (judgement.order, judgement.status) == ((1, 2, 0), Status.OK)
    assert asked == [(PROMPT, SAMPLING, 0)]


def test_a_cut_thought_is_closed_and_only_the_answer_decoded() -> None:
    judgement, asked = permute(CUT, Completion("[3] > [1] > [2]"), can=[PREFILL, REASK])
    assert (judgement.order, judgement.status) == ((2, 0, 1), Status.REPAIRED)
    assert "thought closed" in judgement.detail
    assert judgement.reasoning == "Passage [2] and"
    [_, (prompt, sampling, sample)] = asked
    assert prompt == replace(PROMPT, prefill="<think>Passage [2] and\n</think>\n<answer>[")
    assert 3 * len("[3] > ") <= sampling.max_tokens < SAMPLING.max_tokens
    assert sample == 0


def test_where_no_tags_are_asked_for_a_cut_thought_is_closed_without_opening_one() -> None:
    judgement, asked = permute(CUT, Completion("[3] > [1] > [2]"), can=[PREFILL], tags=False)
    assert (judgement.order, judgement.status) == ((2, 0, 1), Status.REPAIRED)
    assert asked[1][0].prefill == "<think>Passage [2] and\n</think>\n"


@pytest.mark.parametrize("first", [CUT, NONE, Completion()])
def test_an_unreadable_answer_is_asked_for_once_more_with_a_reminder(first: Completion) -> None:
    judgement, asked = permute(first, GOOD, can=[REASK])
    assert (judgement.order, judgement.status) == ((1, 2, 0), Status.REPAIRED)
    assert "asked twice" in judgement.detail
    [_, (prompt, sampling, sample)] = asked
    assert prompt.messages == (PROMPT.messages[0], Message("user", f"Order these.\n\n{REMINDER}"))
    assert (sampling, sample) == (SAMPLING, 1)


@pytest.mark.parametrize(
    ("again", "order", "detail"),
    [
        (GOOD, (1, 2, 0), "asked twice"),
        (NONE, (2, 0, 1), "2 missing, asked twice: empty"),
        (Completion("<answer>[2]</answer>"), (1, 0, 2), "asked twice, 2 missing"),
    ],
)
def test_an_order_that_is_mostly_filled_in_is_asked_for_once_more(
    again: Completion, order: tuple[int, ...], detail: str
) -> None:
    judgement, asked = permute(Completion("<answer>[3]</answer>"), again, can=[REASK])
    assert (judgement.order, judgement.status, judgement.detail) == (order, Status.REPAIRED, detail)
    assert len(asked) == 2
    assert len(permute(Completion("<answer>[3] > [1]</answer>"), GOOD, can=[REASK])[1]) == 1


def test_the_rungs_come_one_after_the_other_and_then_the_order_is_kept() -> None:
    judgement, asked = permute(CUT, NONE, ERROR, can=[PREFILL, REASK])
    assert (judgement.order, judgement.status, judgement.filled) == ((0, 1, 2), Status.TRUNCATED, 3)
    assert "thought closed: empty" in judgement.detail
    assert "asked twice: error" in judgement.detail
    assert len(asked) == 3


@pytest.mark.parametrize(
    ("answer", "status"),
    [(CUT, Status.TRUNCATED), (NONE, Status.EMPTY), (ERROR, Status.ERROR), (REFUSED, Status.REFUSED)],
)
def test_without_the_means_to_repair_the_order_is_kept_with_its_status(answer: Completion, status: Status) -> None:
    judgement, asked = permute(answer)
    assert (judgement.order, judgement.status, len(asked)) == ((0, 1, 2), status, 1)


@pytest.mark.parametrize(("answer", "status"), [(ERROR, Status.ERROR), (REFUSED, Status.REFUSED)])
def test_errors_and_refusals_are_not_argued_with(answer: Completion, status: Status) -> None:
    judgement, asked = permute(answer, can=[PREFILL, REASK])
    assert (judgement.status, len(asked)) == (status, 1)


def test_an_error_while_the_thought_is_closed_leaves_the_next_rung() -> None:
    judgement, asked = permute(CUT, ERROR, GOOD, can=[PREFILL, REASK])
    assert (judgement.order, judgement.status, len(asked)) == ((1, 2, 0), Status.REPAIRED, 3)


@given(
    st.lists(
        st.sampled_from([CUT, GOOD, NONE, ERROR, REFUSED, Completion(), Completion("[9] > [2]", "length")]), min_size=3
    ),
    st.sets(st.sampled_from([PREFILL, REASK])),
    st.booleans(),
)
def test_whatever_comes_back_there_is_a_permutation_in_three_asks(
    answers: list[Completion], can: set[Capability], tags: bool
) -> None:
    judgement, asked = permute(*answers, can=list(can), tags=tags)
    assert sorted(judgement.order) == [0, 1, 2]
    assert len(asked) <= 1 + len(can)
    assert not judgement.status.bad or judgement.order == (0, 1, 2)


@given(st.lists(st.integers(0, 3), min_size=2, max_size=30), st.booleans(), st.sampled_from(["brackets", "digits"]))
def test_the_ideal_permutation_reads_back_as_the_order_by_gain(gains: list[int], tags: bool, identifiers: str) -> None:
    judge = Permutation(
        Permutation.Options.model_validate({"tags": tags, "identifiers": identifiers}), SAMPLING, frozenset(), ""
    )
    judgement = read_permutation(Completion(judge.ideal(gains)), len(gains), tags=tags, how=judge.options.identifiers)
    assert judgement.status is Status.OK
    assert list(judgement.order) == sorted(range(len(gains)), key=lambda i: -gains[i])
    assert Permutation.outcome(judgement, range(100, 100 + len(gains))) == [100 + i for i in judgement.order]


@pytest.mark.parametrize("n", [1, 20, 100])
def test_an_answer_about_n_passages_fits_the_tokens_set_aside_for_it(n: int) -> None:
    judge = Permutation(Permutation.Options(), SAMPLING, frozenset(), "")
    assert judge.answer_tokens(n) >= len(
        " > ".join(f"[{i}]" for i in range(1, n + 1))
    )  # a token has a character at least


def test_scores_are_read_from_the_probabilities_after_the_thought() -> None:
    judgement, asked = score(
        Completion("<think>It says so."), Completion("true", choices={"true": log(0.6), "false": log(0.2)})
    )
    assert (judgement.status, judgement.reasoning) == (Status.OK, "It says so.")
    assert judgement.score == pytest.approx(0.75)
    [(first, thinking, _), (second, answering, _)] = asked
    assert first == PROMPT
    assert thinking == replace(SAMPLING, stop=("</think>",))
    assert second.prefill == "<think>It says so.</think>\n<answer>"
    assert (answering.max_tokens, answering.choices) == (1, ("true", "false"))


def test_without_a_thought_there_is_one_question() -> None:
    judgement, asked = score(Completion(choices={"yes": log(0.1), "no": log(0.9)}),
                             options=RelevanceScore.Options(scale="yes-no", think=False, opening=""))  # fmt: skip
    assert judgement.score == pytest.approx(0.1)
    assert [prompt for prompt, _, _ in asked] == [PROMPT]


def test_a_thought_that_outgrows_its_budget_is_closed_and_scored() -> None:
    judgement, asked = score(CUT, Completion(choices={"true": 0.0, "false": -9.0}))
    assert judgement.status is Status.REPAIRED
    assert asked[1][0].prefill == "<think>Passage [2] and</think>\n<answer>"
    assert judgement.score is not None


RANK1 = RelevanceScore.Options(opening=" ", parser="rank1", repair="none")


def test_rank1_reads_true_and_false_with_a_blank_right_after_the_thought() -> None:
    thought = Completion("<think>It is about fleas.")
    judgement, asked = score(thought, Completion(choices={" true": log(0.6), " false": log(0.2)}), options=RANK1)
    assert judgement.score == pytest.approx(0.75)
    assert asked[1][0].prefill == "<think>It is about fleas.</think>"
    assert asked[1][1].choices == (" true", " false")


def test_rank1s_release_ends_a_cut_thought_at_a_sentence_and_scores_a_half_without_probabilities() -> None:
    judgement, asked = score(Completion("<think>So. It", "length"), Completion(), options=RANK1)
    assert asked[1][0].prefill == "<think>So.\n</think>"
    assert (judgement.status, RelevanceScore.outcome(judgement, [7])) == (Status.EMPTY, 0.5)
    judgement, _ = score(Completion("<think>So."), ERROR, options=RANK1)
    assert (judgement.status, judgement.score) == (Status.ERROR, None)


@pytest.mark.parametrize(
    ("answers", "status"),
    [
        ([ERROR], Status.ERROR),
        ([REFUSED], Status.REFUSED),
        ([Completion()], Status.EMPTY),
        ([GOOD, ERROR], Status.ERROR),
        ([GOOD, Completion()], Status.EMPTY),
    ],
)
def test_a_score_that_was_not_given_is_none(answers: list[Completion], status: Status) -> None:
    judgement, _ = score(*answers)
    assert (judgement.status, judgement.score, judgement.order) == (status, None, (0,))
    assert RelevanceScore.outcome(judgement, [7]) is None


def test_a_grade_counts_by_its_probability() -> None:
    judge = RelevanceScore(RelevanceScore.Options(scale="0-10"), SAMPLING, frozenset(), "")
    choices = {str(grade): log(0.01) for grade in range(11)} | {"8": log(0.9)}
    assert judge.value(choices) == pytest.approx(8 * 0.9)
    assert judge.value({choice: logprob - 1000 for choice, logprob in choices.items()}) == pytest.approx(8 * 0.9)


AT_ONCE: dict[str, Any] = {"think": False, "opening": ""}
LOGIT = AT_ONCE | {"answers": ["Yes"], "value": "logit"}


def scorer(**options: Any) -> RelevanceScore:
    return RelevanceScore(RelevanceScore.Options.model_validate(AT_ONCE | options), SAMPLING, frozenset(), "")


@pytest.mark.parametrize(
    ("options", "values", "expected"),
    [
        ({"answers": ["1", "0"]}, {"1": -0.2, "0": -2.2}, 1 / (1 + exp(-2.0))),  # mxbai-rerank: softmax of two
        ({"answers": [1, 0]}, {"1": -0.2, "0": -2.2}, 1 / (1 + exp(-2.0))),
        ({"scale": "yes-no"}, {"yes": -3.0, "no": -1.0}, 1 / (1 + exp(2.0))),  # Qwen3-Reranker
        ({"answers": ["Yes", "No"], "value": "difference"}, {"Yes": -0.5, "No": -4.25}, 3.75),  # LightOn-rerank PW
        ({"answers": ["Yes", "No"], "value": "difference"}, {"Yes": 9.5, "No": 5.75}, 3.75),  # the same from logits
        ({"answers": ["1", "0"], "value": "difference", "sigmoid": 1}, {"1": -0.2, "0": -2.2}, 1 / (1 + exp(-2.0))),
        ({"answers": ["Yes"], "value": "logit"}, {"Yes": 5.4062}, 5.4062),
        ({"answers": ["Yes"], "value": "logit", "sigmoid": 5}, {"Yes": 5.4062}, 1 / (1 + exp(-5.4062 / 5))),  # zerank
        ({"answers": ["Yes"], "value": "logit", "sigmoid": 5}, {"Yes": -4.5}, 1 / (1 + exp(4.5 / 5))),
        ({"answers": ["Yes"], "value": "logit", "sigmoid": 1}, {"Yes": -2000.0}, 0.0),
        ({"answers": ["0", "5", "20"]}, {"0": log(0.1), "5": log(0.3), "20": log(0.6)}, 20 * 0.6),
    ],
)
def test_what_a_score_is_made_of(options: dict[str, Any], values: dict[str, float], expected: float) -> None:
    assert scorer(**options).value(values) == pytest.approx(expected)


def test_a_logit_is_asked_for_as_such_and_a_probability_is_not() -> None:
    judgement, [(_, sampling, _)] = score(
        Completion(choices={"Yes": 5.5}), options=RelevanceScore.Options.model_validate(LOGIT)
    )
    assert (judgement.score, judgement.status) == (5.5, Status.OK)
    assert (sampling.choices, sampling.logits, sampling.one_token) == (("Yes",), True, True)
    _, [(_, sampling, _)] = score(
        Completion(choices={"yes": -0.5}), options=RelevanceScore.Options.model_validate(AT_ONCE)
    )
    assert (sampling.logits, sampling.one_token) == (False, False)


@pytest.mark.parametrize("choices", [{"Yes": -0.1}, {"Yes": -0.1, "No": -inf}])
def test_a_difference_needs_both_answers(choices: dict[str, float]) -> None:
    options = RelevanceScore.Options.model_validate(AT_ONCE | {"answers": ["Yes", "No"], "value": "difference"})
    judgement, _ = score(Completion(choices=choices), options=options)
    assert (judgement.status, judgement.score) == (Status.EMPTY, None)


def test_only_a_logit_needs_an_engine_that_reports_logits() -> None:
    needs = RelevanceScore.needs_of
    assert needs(RelevanceScore.Options.model_validate(LOGIT)) == {Capability.LOGITS}
    assert needs(RelevanceScore.Options(answers=("1", "0"), value="difference")) == {CHOICES}


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"answers": [True, False]}, 'in quotes: ["Yes", "No"]'),
        ({"answers": ["Yes", " Yes"]}, "the answers have to differ"),
        ({"answers": ["Yes", ""]}, "none may be empty"),
        ({"answers": ["Yes"]}, "the value share is of two or more answers, not of 1"),
        ({"value": "logit"}, "the value logit is of one answer, not of 2"),
        ({"value": "difference", "scale": "0-10"}, "the value difference is of two answers, not of 11"),
        ({"answers": ["a", "b", "c"]}, "more than two answers have to be whole numbers"),
        ({"sigmoid": 5}, "sigmoid is for the values difference and logit"),
    ],
)
def test_answers_that_can_not_be_scored(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(UsageError, match=re.escape(problem)) as error:
        validated(RelevanceScore.Options, options, "--rerank.judge")
    assert str(error.value).startswith(("--rerank.judge {", "--rerank.judge.answers ["))


@pytest.mark.parametrize("value", ["difference", "logit"])
def test_a_logit_is_that_of_one_token(value: str, tmp_path: Path) -> None:
    tokens = word_tokens(tmp_path, ["Yes", "No", "\n"])
    answers = ["Yes", "No"][: 1 if value == "logit" else 2]
    scorer(answers=answers, value=value).check(1, tokens, "")
    with pytest.raises(
        UsageError, match=f"'Yesno' as one token at the start of an answer, which .*value {value} needs"
    ):
        scorer(answers=["Yesno", *answers[1:]], value=value).check(1, tokens, "")
    scorer(answers=["Yesno", "No"]).check(1, tokens, "")
    scorer(answers=["Yesno", *answers[1:]], value=value).check(1, EstimatedTokens(), "")


def word_tokens(folder: Path, words: Sequence[str]) -> ModelTokens:
    """A tokenizer of these words, and of single characters for anything else."""
    letters = sorted({letter for word in (*words, "Yesno") for letter in word})
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys([*words, *letters]))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="Y"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("Yes(?!no)|No|."), "isolated")
    tokenizer.save(str(folder / "tokenizer.json"))
    return ModelTokens(folder / "tokenizer.json")


@pytest.mark.parametrize(
    "options",
    [
        {"answers": ["1", "0"]},
        {"answers": ["Yes", "No"], "value": "difference"},
        {"answers": ["Yes"], "value": "logit", "sigmoid": 5},
        {"answers": ["0", "1", "2", "3"]},
    ],
)
def test_the_ideal_score_of_given_answers_rises_with_the_grade(options: dict[str, Any]) -> None:
    judge = scorer(**options)
    scores = [judge.value(judge.ideal_choices([grade], judge.choices)) for grade in (0, 1, 2, 3)]
    assert scores == sorted(set(scores))


@pytest.mark.parametrize("scale", list(SCALES))
def test_the_ideal_score_rises_with_the_grade(scale: str) -> None:
    judge = RelevanceScore(RelevanceScore.Options.model_validate({"scale": scale}), SAMPLING, frozenset(), "")
    scores = [judge.value(judge.ideal_choices([grade], judge.choices)) for grade in (0, 1, 2, 3)]
    assert scores == sorted(set(scores))


# --- the best or the worst of a set


def select(
    judge: type[Best], *answers: Completion, can: Sequence[Capability] = (), tags: bool = True
) -> tuple[Judgement, Asked]:
    made = judge(judge.Options(tags=tags), SAMPLING, frozenset(can), REMINDER)
    asked, ask = script(*answers)
    return asyncio.run(made.judge(ask, PROMPT, ["a", "b", "c"])), asked  # type: ignore[arg-type]


PICK = Completion("<think>x</think><answer>[2]</answer>")


def test_a_choice_comes_first() -> None:
    judgement, asked = select(Best, PICK)
    assert (judgement.order, judgement.status, len(asked)) == ((1, 0, 2), Status.OK, 1)
    assert "abc"[Best.outcome(judgement, range(3))] == "b"


@pytest.mark.parametrize("answer", [CUT, NONE, ERROR, REFUSED, Completion(), Completion("<answer>[1] or [2]</answer>")])
def test_a_choice_that_cannot_be_read_changes_nothing(answer: Completion) -> None:
    judgement, _ = select(Best, answer)
    assert judgement.status.bad
    assert Best.outcome(judgement, [7, 8, 9]) == 7


@pytest.mark.parametrize("tags", [True, False])
def test_a_cut_choice_is_repaired_like_a_cut_order(tags: bool) -> None:
    judgement, asked = select(Best, CUT, Completion("3]" if tags else "[3]"), can=[PREFILL], tags=tags)
    assert (judgement.order[0], judgement.status) == (2, Status.REPAIRED)
    assert asked[1][0].prefill == "<think>Passage [2] and\n</think>\n" + "<answer>[" * tags
    judgement, asked = select(Best, NONE, PICK, can=[REASK], tags=tags)
    assert (judgement.order[0], judgement.status, len(asked)) == (1, Status.REPAIRED, 2)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=20), st.booleans())
def test_the_ideal_choice_reads_back(gains: list[int], tags: bool) -> None:
    made = Best(Best.Options(tags=tags), SAMPLING, frozenset(), "")
    judgement = made.read(Completion(made.ideal(gains)), len(gains))
    assert judgement.status is Status.OK
    assert gains[Best.outcome(judgement, range(len(gains)))] == max(gains)


@pytest.mark.parametrize(
    ("repair", "kept"),
    [("ask", {Capability.PREFILL, Capability.REASK}), ("close", {Capability.PREFILL}), ("none", set())],
)
def test_repair_limits_the_ladder(repair: str, kept: set[Capability]) -> None:
    engine = frozenset({Capability.PREFILL, Capability.REASK})
    judge = Permutation(Permutation.Options.model_validate({"repair": repair}), Sampling(), engine, "")
    assert judge.can == kept


# --- labels by place, and a selection


PLACED = replace(PROMPT, places=(7, 0, 12), keep=2)


def placed(answer: str, **options: object) -> list[int]:
    judge = Worst(Worst.Options.model_validate({"labels": "places", **options}), SAMPLING, frozenset(), REMINDER)
    _, ask = script(Completion(answer))
    judgement = asyncio.run(judge.judge(ask, PLACED, ["a", "b", "c"]))  # type: ignore[arg-type]
    return Worst.outcome(judgement, PLACED.places)


def test_a_label_by_place_names_the_same_candidate_in_every_call() -> None:
    assert placed("<think>x</think><answer>passage 0</answer>") == [0]
    assert placed("<think>x</think><answer>[Passage 12]</answer>") == [12]
    assert placed("<think>x</think><answer>passage 1</answer>") == [12]  # not shown: the last one is dropped
    assert placed("<think>x</think><answer>passage 7\npassage 0</answer>", drop=2) == [7, 0]
    assert placed("<answer>passage 12</answer>", parser="iranker") == [12]
    assert placed("<answer>[2]</answer>", parser="iranker", labels="numbers") == [0]
    assert placed("<answer>b</answer>", match="name") == placed("<answer>passage 0</answer>", match="name") == [0]
    made = Worst(Worst.Options(labels="places"), SAMPLING, frozenset(), REMINDER)
    assert placed(made.ideal_for(PLACED.places, None)([1, 0, 2])) == [0]


@pytest.mark.parametrize(
    ("text", "order", "status", "filled", "detail"),
    [
        ("[3], [1]", (2, 0, 1), Status.OK, 0, ""),
        ("[3]", (2, 0, 1), Status.REPAIRED, 1, "1 selected instead of 2"),
        ("[3], [2], [1]", (2, 1, 0), Status.REPAIRED, 0, "3 selected instead of 2"),
        ("[3], [3], [1]", (2, 0, 1), Status.REPAIRED, 0, "1 repeated"),
        ("I can't.", (0, 1, 2), Status.EMPTY, 3, "no id of a shown passage in the answer"),
    ],
)
def test_a_selection_comes_first(text: str, order: tuple[int, ...], status: Status, filled: int, detail: str) -> None:
    judge = Select(Select.Options(tags=False, repair="none"), SAMPLING, frozenset(), REMINDER)
    _, ask = script(Completion(text))
    judgement = asyncio.run(judge.judge(ask, PLACED, ["a", "b", "c"]))  # type: ignore[arg-type]
    assert (judgement.order, judgement.status, judgement.filled, judgement.detail) == (order, status, filled, detail)


@given(st.lists(st.integers(0, 3), min_size=2, max_size=20), st.data())
def test_the_ideal_selection_reads_back(gains: list[int], data: st.DataObject) -> None:
    keep = data.draw(st.integers(1, len(gains)))
    judge = Select(Select.Options(), SAMPLING, frozenset(), REMINDER)
    judgement = judge.read(Completion(judge.ideal_for((), keep)(gains)), len(gains), keep)
    assert judgement.status is Status.OK
    assert sorted((gains[i] for i in judgement.order[:keep]), reverse=True) == sorted(gains, reverse=True)[:keep]
