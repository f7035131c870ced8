"""Score one passage: true/false by probability (Rank1), or 0 to 10 times its probability (ERank)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import exp, log
from typing import Annotated, Literal

from pydantic import Field

from pyserini_reasonrank.engines import Capability
from pyserini_reasonrank.judges import Ask, Judge
from pyserini_reasonrank.parsing import split, unanswered
from pyserini_reasonrank.records import Completion, Judgement, Prompt, Sampling, Status

SCALES = {"true-false": ("true", "false"), "yes-no": ("yes", "no"), "0-10": tuple(map(str, range(11)))}
TOP_GAIN = 3  # the highest grade of TREC passage judgments


class Score(Judge):
    """Shows one passage, lets the model think if it is to, then reads the probabilities of the possible answers.

    Binary scales: P(first) / (P(first) + P(second)) (Rank1, arXiv 2502.18418). 0-10: s * P(s) for the likeliest s,
    P over the eleven answers (ERank, arXiv 2509.00520, section 3).
    """

    kind = "score"
    needs = frozenset({Capability.CHOICES})

    class Options(Judge.Options):
        scale: Annotated[Literal["true-false", "yes-no", "0-10"], Field(description="the possible answers")] = (
            "true-false"
        )
        think: Annotated[bool, Field(description="write a thought first, max_tokens long at most")] = True
        opening: Annotated[str, Field(description="what stands between the thought and the answer")] = "\n<answer>"

    def __init__(self, options: Options, sampling: Sampling, can: frozenset[Capability], reminder: str) -> None:
        super().__init__(options, sampling, can, reminder)
        self.choices = SCALES[options.scale]

    async def judge(self, ask: Ask, prompt: Prompt, n: int) -> Judgement:
        thought, cut = Completion(), False
        if self.options.think:
            thought = await ask(prompt, replace(self.sampling, stop=("</think>",)))
            if bad := unanswered(thought):
                return Judgement((0,), bad, filled=1, detail=thought.error or "")
            cut = thought.finish_reason == "length"
        reasoning = split(thought.text, cut=True).reasoning
        spoken = f"{_before_close(thought.text)}</think>" if self.options.think else ""
        answer = await ask(
            replace(prompt, prefill=prompt.prefill + spoken + self.options.opening),
            replace(self.sampling, max_tokens=1, choices=self.choices),
        )
        if bad := unanswered(answer):
            return Judgement((0,), bad, reasoning, 1, detail=answer.error or "")
        status, detail = (Status.REPAIRED, "thought closed at its budget") if cut else (Status.OK, "")
        return Judgement((0,), status, reasoning, score=self.value(answer.choices), detail=detail)

    @staticmethod
    def outcome(judgement: Judgement, indices: Sequence[int]) -> float | None:
        """The score, higher is better; None where none could be read."""
        return judgement.score

    @staticmethod
    def unmoved(indices: Sequence[int]) -> float:
        return 0.0

    def value(self, choices: Mapping[str, float]) -> float:
        """The score for natural-log probabilities of the answers: in [0, 1] for two, [0, 10] for 0-10."""
        top = max(choices.values())
        mass = {choice: exp(logprob - top) for choice, logprob in choices.items()}
        total = sum(mass.values())
        if len(self.choices) == 2:
            return mass[self.choices[0]] / total
        best = max(mass, key=lambda choice: mass[choice])
        return int(best) * mass[best] / total

    def ideal(self, gains: Sequence[float]) -> str:
        return f"<think>The gain is {gains[0]:g}.</think>"

    def ideal_choices(self, gains: Sequence[float], choices: Sequence[str]) -> Mapping[str, float]:
        """Nearly all mass on the right answer; on two answers, split by the gain so that grades stay apart."""
        share = min(max(gains[0] / TOP_GAIN, 0.0), 1.0)
        if len(choices) == 2:
            positive = 0.01 + 0.98 * share
            return {choices[0]: log(positive), choices[1]: log(1 - positive)}
        return {choice: log(0.99 if int(choice) == round(10 * share) else 0.001) for choice in choices}


def _before_close(text: str) -> str:
    """A thought, without the closing tag the model may or may not have written."""
    return text.split("</think>", 1)[0]
