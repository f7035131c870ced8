"""Score one passage: true/false by probability (Rank1), or 0 to 10 times its probability (ERank)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import exp, log
from statistics import fmean
from typing import Annotated, Any, Literal

from pydantic import Field

from pyserini_reasonrank.judges import Ask, Judge
from pyserini_reasonrank.judges.ladder import budgeted, think
from pyserini_reasonrank.judges.written import ThoughtTokens
from pyserini_reasonrank.parsing import unanswered
from pyserini_reasonrank.records import Capability, Completion, Judgement, Prompt, Sampling, Status

SCALES = {"true-false": ("true", "false"), "yes-no": ("yes", "no"), "0-10": tuple(map(str, range(11)))}
TOP_GAIN = 3  # the highest grade of TREC passage judgments


class Pointwise(Judge):
    """Shows one passage, lets the model think if it is to, then reads probabilities of given answers."""

    needs = frozenset({Capability.CHOICES})

    class Options(Judge.Options):
        think: Annotated[bool, Field(description="write a thought first, max_tokens long at most")] = True
        thought_tokens: ThoughtTokens = None

    def __init__(self, options: Any, sampling: Sampling, can: frozenset[Capability], reminder: str) -> None:
        super().__init__(options, budgeted(sampling, options.thought_tokens), can, reminder)

    @property
    def thought_tokens(self) -> int:
        """The most tokens of a thought."""
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
        return await self.scored(ask, prompt, thought)

    @abstractmethod
    async def scored(self, ask: Ask, prompt: Prompt, thought: Judgement) -> Judgement:
        """``thought`` with a score. ``prompt`` goes on where the thought is closed."""

    @staticmethod
    def outcome(judgement: Judgement, indices: Sequence[int]) -> float | None:
        """The score, higher is better; None where none could be read."""
        return judgement.score

    @staticmethod
    def agreed(outcomes: Sequence[float | None], indices: Sequence[int]) -> float | None:
        """The mean of the scores that could be read."""
        scores = [score for score in outcomes if score is not None]
        return fmean(scores) if scores else None

    @staticmethod
    def unmoved(indices: Sequence[int]) -> float:
        return 0.0

    def ideal(self, gains: Sequence[float]) -> str:
        return f"<think>The gain is {gains[0]:g}.</think>"


class Score(Pointwise):
    """Binary scales: P(first) / (P(first) + P(second)) (Rank1, arXiv 2502.18418). 0-10: s * P(s) for the likeliest s,
    P over the eleven answers (ERank, arXiv 2509.00520, section 3).
    """

    kind = "score"

    class Options(Pointwise.Options):
        scale: Annotated[Literal["true-false", "yes-no", "0-10"], Field(description="the possible answers")] = (
            "true-false"
        )
        opening: Annotated[str, Field(description="what stands between the thought and the answer")] = "\n<answer>"

    def __init__(self, options: Options, sampling: Sampling, can: frozenset[Capability], reminder: str) -> None:
        super().__init__(options, sampling, can, reminder)
        self.choices = SCALES[options.scale]

    @property
    def calls(self) -> int:
        return 2 if self.options.think else 1

    @property
    def carried_tokens(self) -> int:
        return self.thought_tokens + len(self.options.opening)  # a token has a character at least

    async def scored(self, ask: Ask, prompt: Prompt, thought: Judgement) -> Judgement:
        answer = await ask(
            replace(prompt, prefill=prompt.prefill + self.options.opening),
            replace(self.sampling, max_tokens=1, choices=self.choices),
        )
        if bad := unchosen(answer, self.choices):
            return replace(thought, status=bad, filled=1, detail=answer.error or "")
        return replace(thought, score=self.value(answer.choices))

    def value(self, choices: Mapping[str, float]) -> float:
        """The score for natural-log probabilities of the answers: in [0, 1] for two, [0, 10] for 0-10."""
        share = shares(choices, self.choices)
        if len(self.choices) == 2:
            return share[self.choices[0]]
        best = max(share, key=lambda choice: share[choice])
        return int(best) * share[best]

    def ideal_choices(self, gains: Sequence[float], choices: Sequence[str]) -> Mapping[str, float]:
        """Nearly all mass on the right answer; on two answers, split by the gain so that grades stay apart."""
        share = min(max(gains[0] / TOP_GAIN, 0.0), 1.0)
        if len(choices) == 2:
            positive = 0.01 + 0.98 * share
            return {choices[0]: log(positive), choices[1]: log(1 - positive)}
        return {choice: log(0.99 if int(choice) == round(10 * share) else 0.001) for choice in choices}


def unchosen(answer: Completion, choices: Sequence[str]) -> Status | None:
    """The status of an answer that tells the probability of none of ``choices``; None where it tells one."""
    told = any(choice in answer.choices for choice in choices)
    return unanswered(answer) or (None if told else Status.EMPTY)


def shares(logprobs: Mapping[str, float], choices: Sequence[str]) -> dict[str, float]:
    """The probability of each of ``choices`` among them, 0 for one that is not told."""
    top = max(logprobs[choice] for choice in choices if choice in logprobs)
    mass = {choice: exp(logprobs[choice] - top) if choice in logprobs else 0.0 for choice in choices}
    total = sum(mass.values())
    return {choice: m / total for choice, m in mass.items()}
