"""Judges that read probabilities: the first letter of an order (FIRST), and a grade found by halving (OrderChain)."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import log
from pathlib import Path

import pytest

from pyserini_reasonrank.engines.chat import Chat
from pyserini_reasonrank.errors import UsageError, first_of
from pyserini_reasonrank.judges.bisection import DECISIONS, Bisection, decisions
from pyserini_reasonrank.judges.first_token import FirstToken, single_tokens
from pyserini_reasonrank.models.catalogue import Model
from pyserini_reasonrank.prompts import sources
from pyserini_reasonrank.prompts.tokens import EstimatedTokens, ModelTokens
from pyserini_reasonrank.records import Capability, Completion, Judgement, Message, Prompt, Sampling, Status

PROMPT = Prompt((Message("user", "Order these."),), "[")
SAMPLING = Sampling(temperature=0.5, max_tokens=100, seed=3)
ERROR = Completion(finish_reason="error", error="Error code: 500")

Asked = list[tuple[Prompt, Sampling, int]]


def first(answer: Completion, n: int = 3) -> tuple[Judgement, Asked]:
    asked: Asked = []

    async def ask(prompt: Prompt, sampling: Sampling, *, attempt: int = 0) -> Completion:
        asked.append((prompt, sampling, attempt))
        return answer

    async def run() -> Judgement:
        return await judge().judge(ask, PROMPT, [""] * n)

    return asyncio.run(run()), asked


# --- the first letter


def test_the_order_is_that_of_the_letters_probabilities_in_one_call() -> None:
    judgement, asked = first(Completion(choices={"A": log(0.2), "B": log(0.7), "C": log(0.1)}))
    assert (judgement.order, judgement.status, judgement.filled) == ((1, 0, 2), Status.OK, 0)
    assert asked == [(PROMPT, replace(SAMPLING, max_tokens=1, choices=("A", "B", "C"), one_token=True), 0)]


def test_equally_likely_letters_keep_the_order_shown() -> None:
    judgement, _ = first(Completion(choices={"A": -1.0, "B": -0.5, "C": -1.0}))
    assert judgement.order == (1, 0, 2)


def test_the_oracle_has_probabilities_for_gains_of_any_size() -> None:
    judge = FirstToken(FirstToken.Options(), SAMPLING, frozenset(), "")
    found = judge.ideal_choices([0, 1000, 999], ("A", "B", "C"))
    assert found == pytest.approx({"A": -1000 * log(10) - log(1.1), "B": -log(1.1), "C": -log(11)})


def test_letters_whose_probability_is_not_told_are_filled_in() -> None:
    judgement, _ = first(Completion(choices={"C": -1.0}))
    assert (judgement.order, judgement.status, judgement.filled) == ((2, 0, 1), Status.REPAIRED, 2)
    assert judgement.detail == "2 not among the likeliest tokens"


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (ERROR, Status.ERROR),
        (Completion(), Status.EMPTY),
        (Completion("B] > [A]"), Status.EMPTY),
        (Completion(choices={"X": -1.0}), Status.EMPTY),
        (Completion("No.", "refusal"), Status.REFUSED),
    ],
)
def test_an_answer_without_probabilities_keeps_the_order(answer: Completion, status: Status) -> None:
    judgement, asked = first(answer)
    assert (judgement.order, judgement.status, judgement.filled, len(asked)) == ((0, 1, 2), status, 3, 1)


def test_the_prompt_shows_letters_and_begins_the_answer() -> None:
    template = sources.load("listwise-letters")
    prompt = template.render("why is the sky blue", ["FIRST", "SECOND"])
    assert "[A] FIRST\n[B] SECOND" in prompt.messages[-1].content
    assert prompt.prefill == "["
    assert prompt.prefill + judge().ideal([1, 3, 2]) == "[B] > [C] > [A]"


# --- identifiers that are one token each


def tokenizer_file(folder: Path, tokens: Sequence[str], merges: Sequence[tuple[str, str]] = ()) -> Path:
    """A tokenizer of single characters and of what ``merges`` makes of them. Q is written as two of them."""
    from tokenizers import Tokenizer, decoders, models, normalizers

    vocabulary = {token: i for i, token in enumerate([*tokens, *(a + b for a, b in merges), "q", "^", "\n", "<s>"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, list(merges), fuse_unk=False, unk_token="<s>"))
    tokenizer.normalizer = normalizers.Replace("Q", "^q")
    tokenizer.decoder = decoders.Fuse()
    path = folder / "tokenizer.json"
    tokenizer.save(str(path))
    return path


LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@pytest.mark.parametrize(
    ("merges", "prefill", "bad"),
    [
        ([], "[", ["Q"]),
        ([("[", "C")], "[", ["C", "Q"]),
        ([("[", "C")], "x[", ["C", "Q"]),
        ([("[", "C")], "[ ", ["Q"]),
        ([("\n", "D")], "", ["D", "Q"]),
        ([("A", "B")], "[", ["Q"]),
    ],
)
def test_identifiers_of_several_tokens_are_found_where_they_stand(
    tmp_path: Path, merges: list[tuple[str, str]], prefill: str, bad: list[str]
) -> None:
    tokens = ModelTokens(tokenizer_file(tmp_path, [*LETTERS, "[", "x", " "], merges))
    assert single_tokens(tokens, prefill, LETTERS) == bad


def judge() -> FirstToken:
    return FirstToken(FirstToken.Options(), SAMPLING, frozenset(Capability), "")


def test_a_tokenizer_that_does_not_fit_is_refused_with_one_that_would_do(tmp_path: Path) -> None:
    tokens = ModelTokens(tokenizer_file(tmp_path, [*LETTERS, "["]))
    judge().check(16, tokens, "[")  # A to P
    with pytest.raises(UsageError, match=r"does not write Q as one token after '\['.*such as rankgpt"):
        judge().check(20, tokens, "[")


def test_letters_apart_need_not_fit_what_is_before_them(tmp_path: Path) -> None:
    tokens = ModelTokens(tokenizer_file(tmp_path, [*LETTERS, "["], [("[", "C")]))
    apart = FirstToken(FirstToken.Options(apart=True), SAMPLING, frozenset(Capability), "")
    apart.check(16, tokens, "[")  # A to P
    with pytest.raises(UsageError, match=r"does not write C as one token"):
        judge().check(16, tokens, "[")
    with pytest.raises(UsageError, match=r"does not write Q as one token"):
        apart.check(20, tokens, "[")


def test_more_passages_than_letters_are_refused() -> None:
    judge().check(26, EstimatedTokens(), "[")
    with pytest.raises(UsageError, match=r"26 one-letter identifiers, too few for the 27 passages .*such as rankgpt"):
        judge().check(27, EstimatedTokens(), "[")


def test_an_estimate_of_tokens_refuses_nothing() -> None:
    assert single_tokens(EstimatedTokens(), "[", LETTERS) == []


@pytest.mark.parametrize(("merges", "choice"), [([], "Q"), ([("[", "C")], "C")])
def test_the_engine_refuses_an_identifier_that_is_no_token_where_it_stands(
    tmp_path: Path, merges: list[tuple[str, str]], choice: str
) -> None:
    pytest.importorskip("transformers")
    from transformers import PreTrainedTokenizerFast

    path = tokenizer_file(tmp_path, [*LETTERS, "[", "x"], merges)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(path))
    tokenizer.chat_template = "{% for m in messages %}x{% endfor %}"
    chat = Chat(tokenizer, Model("m", "m"))
    head, spelled = chat.alternatives(PROMPT, ("A", "B"), one_token=True)
    assert (len(head), [len(s) for s in spelled]) == (2, [1, 1])
    with pytest.raises(UsageError, match=rf"the tokenizer of m does not write '{choice}' as one token after 'x\['"):
        chat.alternatives(PROMPT, ("A", choice), one_token=True)
    assert len(chat.alternatives(PROMPT, ("A", choice))[1]) == 2  # other judges take it as it is
    if merges:
        head, spelled = chat.alternatives(PROMPT, ("A", choice), one_token=True, apart=True)
        assert (len(head), [len(s) for s in spelled]) == (2, [1, 1])


@pytest.mark.parametrize(
    ("template", "bos", "ids"),
    [
        ("{% for m in messages %}x{% endfor %}", False, [1, 2]),
        ("{% for m in messages %}x{% endfor %}", True, [0, 1, 2]),
        ("{{ bos_token }}{% for m in messages %}x{% endfor %}", True, [0, 1, 2]),
        ("{{ bos_token }}{% for m in messages %}x{% endfor %}", False, [0, 1, 2]),
    ],
)
@pytest.mark.parametrize("adds", [False, True])
def test_a_prompt_begins_with_one_bos_token(
    tmp_path: Path, template: str, bos: bool, ids: list[int], adds: bool
) -> None:
    """Whether the chat template writes it or not, and whether or not the tokenizer would add one to plain text."""
    pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    small = Tokenizer(models.WordLevel({"<s>": 0, "x": 1, "[": 2, "?": 3}, unk_token="?"))
    small.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    if adds:
        small.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=small, bos_token="<s>", unk_token="?")
    tokenizer.chat_template = template
    chat = Chat(tokenizer, Model("m", "m", bos=bos))
    assert chat.tokens(PROMPT) == ids
    assert chat.alternatives(PROMPT, ["x"]) == (ids, ((1,),))


def test_a_tokenizer_without_a_bos_token_is_refused() -> None:
    class Tokens:
        bos_token = None

    Chat(Tokens(), Model("m", "m"))
    with pytest.raises(UsageError, match=r"the tokenizer of m has no BOS token, which --rerank\.bos true needs"):
        Chat(Tokens(), Model("m", "m", bos=True))


@pytest.mark.model
def test_the_embedded_models_letters_are_tokens() -> None:
    from pyserini_reasonrank.models.embedded import ensure_embedded

    try:
        folder = ensure_embedded(None, progress=False)
    except UsageError as error:
        pytest.skip(str(error))
    assert single_tokens(ModelTokens(folder / "tokenizer.json"), "[", LETTERS) == []


# --- coarse to fine


def bisect(answers: Mapping[str, float], thought: Completion | None = None) -> tuple[Judgement, Asked]:
    """A judgement where each letter of ``answers`` has its probability, before those of a decision are made to sum to 1."""
    judge = Bisection(Bisection.Options(think=thought is not None), SAMPLING, frozenset(Capability), "")
    asked: Asked = []

    async def ask(prompt: Prompt, sampling: Sampling, *, attempt: int = 0) -> Completion:
        asked.append((prompt, sampling, attempt))
        if not sampling.choices:
            assert thought is not None
            return thought
        return Completion(choices={c: log(answers[c]) for c in sampling.choices if c in answers})

    async def run() -> Judgement:
        return await judge.judge(ask, PROMPT, ["passage"])

    judgement = asyncio.run(run())
    thoughts = len(asked) - len(DECISIONS)
    assert thoughts == (thought is not None)
    return judgement, asked


def test_decisions_halve_the_grades_until_three_are_left() -> None:
    assert [(list(d.grades), [list(part) for part in d.parts.values()]) for d in DECISIONS[:3]] == [
        (list(range(11)), [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10]]),
        ([0, 1, 2, 3, 4, 5], [[0, 1, 2], [3, 4, 5]]),
        ([6, 7, 8, 9, 10], [[6, 7, 8], [9, 10]]),
    ]
    assert [[list(part) for part in d.parts.values()] for d in DECISIONS[3:]] == [
        [[0], [1], [2]], [[3], [4], [5]], [[6], [7], [8]], [[9], [10]]]  # fmt: skip
    letters = [letter for d in DECISIONS for letter in d.parts]
    assert letters == list("ABCDEFGHIJKLMNOPQ")


@pytest.mark.parametrize("last", range(14))
def test_any_grade_is_reached_once_and_by_four_decisions_at_most(last: int) -> None:
    found = decisions(range(last + 1))
    ends = [part[0] for d in found for part in d.parts.values() if len(part) == 1]
    assert sorted(ends) == list(range(last + 1))
    assert max(d.asked.count("Choice: [") for d in found) <= 4


def test_each_question_says_how_it_came_about_and_what_can_be_answered() -> None:
    *_, last = DECISIONS
    assert last.asked == (
        "\nGrades left: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10. Choices: [A] 0 to 5, [B] 6 to 10. Choice: [B]"
        "\nGrades left: 6, 7, 8, 9, 10. Choices: [E] 6 to 8, [F] 9 to 10. Choice: [F]"
        "\nGrades left: 9, 10. Choices: [P] 9, [Q] 10. Choice: ["
    )
    judge = Bisection(Bisection.Options(), SAMPLING, frozenset(), "")
    assert all(len(d.asked) <= judge.answer_tokens(1) for d in DECISIONS)
    assert judge.carried_tokens == 7 * SAMPLING.max_tokens + sum(len(d.asked) for d in DECISIONS)


def test_the_score_is_the_expected_grade_over_all_decisions() -> None:
    chance = random.Random(7)
    answers = {letter: chance.uniform(0.1, 1) for letter in "ABCDEFGHIJKLMNOPQ"}
    judgement, asked = bisect(answers)

    def probability(grade: int) -> float:
        """Of all decisions on the way to a grade."""
        product = 1.0
        for d in DECISIONS:
            for letter, part in d.parts.items():
                if grade in part:
                    product *= answers[letter] / sum(answers[other] for other in d.parts)
        return product

    assert sum(map(probability, range(11))) == pytest.approx(1)
    assert judgement.score == pytest.approx(sum(grade * probability(grade) for grade in range(11)))
    assert (judgement.status, len(asked)) == (Status.OK, 7)
    assert all(sampling.max_tokens == 1 and not sampling.one_token for _, sampling, _ in asked)


def test_all_decisions_go_on_from_one_thought_and_are_asked_at_once() -> None:
    together = most = 0
    judge = Bisection(Bisection.Options(), SAMPLING, frozenset(Capability), "")

    async def ask(prompt: Prompt, sampling: Sampling, *, attempt: int = 0) -> Completion:
        nonlocal together, most
        if not sampling.choices:
            return Completion("<think>It says so.</think>")
        assert prompt.prefill.startswith("[<think>It says so.</think>\nGrades left: 0, 1")
        together += 1
        most = max(most, together)
        await asyncio.sleep(0.01)
        together -= 1
        return Completion(choices=dict.fromkeys(sampling.choices, -1.0))

    async def run() -> Judgement:
        return await judge.judge(ask, PROMPT, ["passage"])

    judgement = asyncio.run(run())
    assert judgement.reasoning == "It says so."
    assert (most, judge.calls, judge.chain) == (7, 8, 2)


@pytest.mark.parametrize("grade", range(11))
def test_a_sure_model_gives_its_grade(grade: int) -> None:
    answers = {letter: 1.0 if grade in part else 1e-12 for d in DECISIONS for letter, part in d.parts.items()}
    judgement, _ = bisect(answers)
    assert judgement.score == pytest.approx(grade, abs=1e-6)


def test_a_decision_that_is_not_told_leaves_no_score() -> None:
    answers = dict.fromkeys("ABCDEFGHIJKLMNO", 0.5)  # P and Q are missing
    judgement, _ = bisect(answers)
    assert (judgement.score, judgement.status) == (None, Status.EMPTY)
    judgement, _ = bisect(answers | {"P": 0.5})  # and a letter that is not told is taken for impossible
    assert judgement.score is not None


def test_a_question_that_fails_ends_the_others() -> None:
    judge = Bisection(Bisection.Options(think=False), SAMPLING, frozenset(Capability), "")
    numbers = itertools.count()

    async def ask(prompt: Prompt, sampling: Sampling, *, attempt: int = 0) -> Completion:
        if next(numbers) == 3:
            raise UsageError("the engine has had enough")
        await asyncio.sleep(30)
        raise AssertionError

    async def run() -> int:
        with pytest.raises(ExceptionGroup) as errors:
            await judge.judge(ask, PROMPT, ["passage"])
        assert str(first_of(errors.value)) == "the engine has had enough"
        return len(asyncio.all_tasks())

    assert asyncio.run(run()) == 1
