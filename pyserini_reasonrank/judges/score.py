"""Score one passage: true/false by probability (Rank1), or 0 to 10 times its probability (ERank)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import exp, log
from statistics import fmean
from typing import Annotated, Any, Literal

from pydantic import Field

from pyserini_reasonrank.judges import Ask, Judge, published
from pyserini_reasonrank.judges.repair import checked_budget, think
from pyserini_reasonrank.judges.written import ThoughtTokens
from pyserini_reasonrank.parsing import unanswered
from pyserini_reasonrank.records import Capability, Completion, Judgement, Prompt, Sampling, Status

SCALES = {"true-false": ("true", "false"), "yes-no": ("yes", "no"), "0-10": tuple(map(str, range(11)))}
TOP_GAIN = 3  # the highest grade in TREC's passage qrels


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

    async def judge(self, ask: Ask, prompt: Prompt, shown: Sequence[str]) -> Judgement:
        thought = Judgement((0,), Status.OK)
        if self.options.think:
            prompt, thought = await think(ask, prompt, replace(self.sampling, max_tokens=self.thought_tokens))
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
    """Scores by probability: P(first) / (P(first) + P(second)) on binary scales (Rank1, arXiv 2502.18418); on 0-10, s * P(s)
    for the likeliest s, with P over the eleven answers (ERank, arXiv 2509.00520, section 3).
    """

    kind = "score"

    class Options(Pointwise.Options):
        scale: Annotated[Literal["true-false", "yes-no", "0-10"], Field(description="the possible answers")] = (
            "true-false"
        )
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

    def __init__(self, options: Options, sampling: Sampling, can: frozenset[Capability], reminder: str) -> None:
        super().__init__(options, sampling, can, reminder)
        self.opening = options.opening.rstrip(" ")
        blanks = options.opening.removeprefix(self.opening)
        self.choices = tuple(blanks + answer for answer in SCALES[options.scale])

    @property
    def scale(self) -> tuple[float, float]:
        return (0.0, 1.0) if len(self.choices) == 2 else (0.0, 10.0)

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
        answer = await ask(replace(prompt, prefill=prefill), replace(self.sampling, max_tokens=1, choices=self.choices))
        if bad := unchosen(answer, self.choices):
            judgement = replace(thought, status=bad, filled=1, detail=answer.error or "")
            known = self.options.parser == "rank1" and answer.error is None
            return replace(judgement, score=published.UNREAD_SCORE) if known else judgement
        return replace(thought, score=self.value(answer.choices))

    def value(self, choices: Mapping[str, float]) -> float:
        """Return the score for natural-log probabilities of the answers: in [0, 1] for two answers, [0, 10] for 0-10."""
        share = shares(choices, self.choices)
        if len(self.choices) == 2:
            return share[self.choices[0]]
        best = max(share, key=lambda choice: share[choice])
        return int(best) * share[best]

    def ideal_choices(self, gains: Sequence[float], choices: Sequence[str]) -> Mapping[str, float]:
        """Put nearly all mass on the right answer; with two answers, split it by the gain so that grades differ."""
        share = min(max(gains[0] / TOP_GAIN, 0.0), 1.0)
        if len(choices) == 2:
            positive = 0.01 + 0.98 * share
            return {choices[0]: log(positive), choices[1]: log(1 - positive)}
        return {choice: log(0.99 if int(choice) == round(10 * share) else 0.001) for choice in choices}


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
