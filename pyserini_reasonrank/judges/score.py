"""Score one passage by given answers: their probability (Rank1, Qwen3-Reranker), a number times its probability (ERank), a
difference of logits (LightOn-rerank) or a logit (zerank)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from math import exp, isfinite, log
from statistics import fmean
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.judges import Ask, Judge, published
from pyserini_reasonrank.judges.first_token import single_tokens
from pyserini_reasonrank.judges.repair import checked_budget, think, thinking
from pyserini_reasonrank.judges.written import ThoughtTokens
from pyserini_reasonrank.parsing import unanswered
from pyserini_reasonrank.parsing.parts import CLOSE_THINK
from pyserini_reasonrank.prompts.tokens import Tokens
from pyserini_reasonrank.records import Capability, Completion, Judgement, Prompt, Sampling, Status

SCALES = {"true-false": ("true", "false"), "yes-no": ("yes", "no"), "0-10": tuple(map(str, range(11)))}
TOP_GAIN = 3  # the highest grade in TREC's passage qrels
_BINARY = 2
_NO_THOUGHT = Judgement((0,), Status.OK)


class Pointwise(Judge):
    """Shows one passage, optionally lets the model think, then reads the probabilities of given answers."""

    needs = frozenset({Capability.CHOICES})

    class Options(Judge.Options):
        think: Annotated[bool, Field(description="write a thought first, of at most max_tokens tokens")] = True
        thought_tokens: ThoughtTokens = None

    def __init__(self, options: Any, sampling: Sampling, can: frozenset[Capability], reminder: str) -> None:
        super().__init__(options, checked_budget(sampling, options.thought_tokens), can, reminder)

    @property
    def thought_tokens(self) -> int:
        """The most tokens of a thought; 0 without one."""
        most: int = self.options.thought_tokens or self.sampling.max_tokens
        return most if self.options.think else 0

    @property
    def written_tokens(self) -> int:
        return self.thought_tokens

    @cached_property
    def _thinking(self) -> Sampling:
        return thinking(replace(self.sampling, max_tokens=self.thought_tokens))

    async def judge(self, ask: Ask, prompt: Prompt, shown: Sequence[str]) -> Judgement:
        thought = _NO_THOUGHT
        if self.options.think:
            prompt, thought = await think(ask, prompt, self._thinking)
            if thought.status.bad:
                return thought
        scored = await self.scored(ask, prompt, thought)
        unknown = scored.status is Status.EMPTY and not scored.detail
        return replace(scored, detail="no log-probabilities of the answers") if unknown else scored

    @abstractmethod
    async def scored(self, ask: Ask, prompt: Prompt, thought: Judgement) -> Judgement:
        """Return ``thought`` with a score. ``prompt`` ends where the thought is closed."""

    @staticmethod
    def outcome(judgement: Judgement, indices: Sequence[int]) -> float | None:
        """Return the score, higher is better; None if it could not be read."""
        return judgement.score

    @staticmethod
    def agreed(outcomes: Sequence[float | None], indices: Sequence[int]) -> float | None:
        """Return the mean of the readable scores."""
        scores = [score for score in outcomes if score is not None]
        return fmean(scores) if scores else None

    @staticmethod
    def unmoved(indices: Sequence[int]) -> float:
        return 0.0

    def ideal(self, gains: Sequence[float]) -> str:
        return f"<think>The gain is {gains[0]:g}.</think>"


class RelevanceScore(Pointwise):
    """Scores by what the model thinks of given answers, the first of two of which says that the passage is relevant.

    ``share``: P(first) / (P(first) + P(second)) (Rank1, arXiv 2502.18418); of more than two, which are numbers, s * P(s) for
    the likeliest s, with P over these answers (ERank, arXiv 2509.00520, section 3). ``difference``: the difference of the two
    logits, which is that of their log-probabilities. ``logit``: the logit of the only answer, which can't be computed from
    log-probabilities: two passages with equal logits can have different ones.
    """

    kind = "score"

    class Options(Pointwise.Options):
        model_config = ConfigDict(coerce_numbers_to_str=True)

        scale: Annotated[Literal["true-false", "yes-no", "0-10"], Field(description="the possible answers")] = (
            "true-false"
        )
        answers: Annotated[
            tuple[str, ...],
            Field(description='other answers than those of a scale, that for a relevant passage first: ["Yes", "No"]'),
        ] = ()
        value: Annotated[
            Literal["share", "difference", "logit"],
            Field(
                description="the score: share of the first answer's probability; difference of the two answers' logits; logit "
                "of the only answer, from an engine that reports logits"
            ),
        ] = "share"
        sigmoid: Annotated[
            float | None,
            Field(gt=0, description="bring a difference or a logit x into [0, 1]: 1 / (1 + exp(-x / sigmoid))"),
        ] = None
        opening: Annotated[
            str,
            Field(
                description="text between the thought and the answer; a blank at its end belongs to the answer's token"
            ),
        ] = "\n<answer>"
        parser: Annotated[
            published.ScoreParser,
            Field(description="rank1: end a cut thought at its last sentence, and score 0.5 without probabilities"),
        ] = "careful"

        @property
        def possible(self) -> tuple[str, ...]:
            """The possible answers."""
            return self.answers or SCALES[self.scale]

        @field_validator("answers", mode="before")
        @classmethod
        def _quoted(cls, answers: Any) -> Any:
            if isinstance(answers, Sequence) and any(isinstance(answer, bool) for answer in answers):
                raise ValueError('write words that YAML reads as true or false in quotes: ["Yes", "No"]')
            return answers

        @model_validator(mode="after")
        def _consistent(self) -> Self:
            n, value = len(self.possible), self.value
            if len({answer.strip() for answer in self.possible} - {""}) < n:
                raise ValueError("the answers have to differ, and none may be empty")
            if n != {"difference": 2, "logit": 1}.get(value, max(n, 2)):
                wanted = {"difference": "two answers", "logit": "one answer"}.get(value, "two or more answers")
                raise ValueError(f"the value {value} is of {wanted}, not of {n}")
            if n > _BINARY and not all(answer.isdecimal() for answer in self.possible):
                raise ValueError("more than two answers have to be whole numbers")
            if self.sigmoid is not None and value == "share":
                raise ValueError("sigmoid is for the values difference and logit; a share is already in [0, 1]")
            return self

    @classmethod
    def needs_of(cls, options: Any) -> frozenset[Capability]:
        return frozenset({Capability.LOGITS}) if options.value == "logit" else cls.needs

    def __init__(self, options: Options, sampling: Sampling, can: frozenset[Capability], reminder: str) -> None:
        super().__init__(options, sampling, can, reminder)
        self.opening = options.opening.rstrip(" ")
        blanks = options.opening.removeprefix(self.opening)
        self.choices = tuple(blanks + answer for answer in options.possible)
        logit = options.value == "logit"
        self._wanted = replace(self.sampling, max_tokens=1, choices=self.choices, one_token=logit, logits=logit)

    def check(self, widest: int, tokens: Tokens, prefill: str) -> None:
        """UsageError if a logit is to be read of an answer that is not one token."""
        before = (CLOSE_THINK if self.options.think else prefill) + self.opening
        if self.options.value != "share" and (bad := single_tokens(tokens, before, self.choices)):
            where = f"after {before!r}" if before else "at the start of an answer"
            raise UsageError(
                f"this model's tokenizer does not write {', '.join(map(repr, bad))} as one token {where}, which "
                f"--rerank.judge.value {self.options.value} needs: set --rerank.judge.answers, or --rerank.judge.value share"
            )

    @property
    def scale(self) -> tuple[float, float] | None:
        if self.options.value != "share":
            return None if self.options.sigmoid is None else (0.0, 1.0)
        return (0.0, 1.0) if len(self.choices) == _BINARY else (0.0, float(max(map(int, self.choices))))

    @property
    def calls(self) -> int:
        return 2 if self.options.think else 1

    @property
    def carried_tokens(self) -> int:
        return self.thought_tokens + len(self.options.opening)  # a token has at least one character

    async def scored(self, ask: Ask, prompt: Prompt, thought: Judgement) -> Judgement:
        prefill = prompt.prefill + self.opening
        if self.options.parser == "rank1" and thought.status is Status.REPAIRED:
            prefill = published.ended_thought(prefill)
        answer = await ask(prompt.begun(prefill), self._wanted)
        bad = unchosen(answer, self.choices)
        if self.options.value == "difference" and not bad and len(answer.choices) < len(self.choices):
            bad = Status.EMPTY
        if bad:
            judgement = replace(thought, status=bad, filled=1, detail=answer.error or "")
            known = self.options.parser == "rank1" and answer.error is None
            return replace(judgement, score=published.UNREAD_SCORE) if known else judgement
        score = self.value(answer.choices)
        if not isfinite(score):
            return replace(thought, status=Status.EMPTY, filled=1, detail="an answer is impossible: no difference")
        return Judgement(thought.order, thought.status, thought.reasoning, score=score, detail=thought.detail)

    def value(self, choices: Mapping[str, float]) -> float:
        """Return the score for natural-log probabilities (or logits) of the answers: a share or a sigmoid is in [0, 1], a
        number times its probability at most the highest number."""
        if self.options.value != "share":
            first, *second = (choices[choice] for choice in self.choices)
            value, scale = first - sum(second), self.options.sigmoid
            return value if scale is None else sigmoid(value / scale)
        share = shares(choices, self.choices)
        if len(self.choices) == _BINARY:
            return share[self.choices[0]]
        best = max(share, key=lambda choice: share[choice])
        return int(best) * share[best]

    def ideal_choices(self, gains: Sequence[float], choices: Sequence[str]) -> Mapping[str, float]:
        """Put nearly all mass on the right answer; with two answers, split it by the gain so that grades differ."""
        share = min(max(gains[0] / TOP_GAIN, 0.0), 1.0)
        positive = 0.01 + 0.98 * share
        if len(choices) == 1:
            return {choices[0]: log(positive / (1 - positive))}
        if len(choices) == _BINARY:
            return {choices[0]: log(positive), choices[1]: log(1 - positive)}
        wanted = round(max(map(int, choices)) * share)
        best = min(choices, key=lambda choice: abs(int(choice) - wanted))
        return {choice: log(0.99 if choice == best else 0.001) for choice in choices}


def unchosen(answer: Completion, choices: Sequence[str]) -> Status | None:
    """Return the bad status of an answer without the probability of any of ``choices``; None if it has one."""
    known = any(choice in answer.choices for choice in choices)
    return unanswered(answer) or (None if known else Status.EMPTY)


def shares(logprobs: Mapping[str, float], choices: Sequence[str]) -> dict[str, float]:
    """Return the probability of each of ``choices`` among them; 0 for a choice without a log-probability."""
    top = max(logprobs[choice] for choice in choices if choice in logprobs)
    mass = {choice: exp(logprobs[choice] - top) if choice in logprobs else 0.0 for choice in choices}
    total = sum(mass.values())
    return {choice: m / total for choice, m in mass.items()}


def sigmoid(value: float) -> float:
    """Return 1 / (1 + exp(-value)), without overflow."""
    return 1 / (1 + exp(-value)) if value >= 0 else exp(value) / (1 + exp(value))
