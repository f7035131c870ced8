"""Grade one passage from coarse to fine by halving the range of grades until one is left (OrderChain, arXiv 2504.04801).

The paper grades images and follows the likelier half. Here every decision is read, so the score is the expected grade: the
sum of each grade times the product of the probabilities of the decisions that lead to it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import log
from string import ascii_uppercase

from pyserini_reasonrank.judges import Ask
from pyserini_reasonrank.judges.score import TOP_GAIN, Pointwise, shares, unchosen
from pyserini_reasonrank.parsing.grade_values import TOP_GRADE
from pyserini_reasonrank.records import Completion, Judgement, Prompt, Sampling

_LAST = 3  # so few grades are no longer halved: the model chooses one of them


@dataclass(frozen=True, slots=True)
class Decision:
    """The question which of the ``parts`` of the remaining ``grades`` contains the grade.

    Each part has a letter that no other decision uses. ``asked`` is the assistant's text up to the letter, including the
    decisions above this one.
    """

    grades: range
    parts: Mapping[str, range]
    asked: str


def decisions(grades: range) -> tuple[Decision, ...]:
    """Return all decisions, coarse before fine: for 0 to 10 seven, of which three lead to each grade."""
    letters, found, waiting = iter(ascii_uppercase), list[Decision](), deque([(grades, "")])
    while waiting:
        left, said = waiting.popleft()
        half = (len(left) + 1) // 2
        parts = [left[:half], left[half:]] if len(left) > _LAST else [left[i : i + 1] for i in range(len(left))]
        lettered = {letter: part for part, letter in zip(parts, letters, strict=False)}
        listed = ", ".join(f"[{letter}] {_words(part)}" for letter, part in lettered.items())
        asked = f"{said}\nGrades left: {', '.join(map(str, left))}. Choices: {listed}. Choice: ["
        found.append(Decision(left, lettered, asked))
        waiting += [(part, f"{asked}{letter}]") for letter, part in lettered.items() if len(part) > 1]
    return tuple(found)


def _words(part: range) -> str:
    return f"{part[0]} to {part[-1]}" if len(part) > 1 else f"{part[0]}"


DECISIONS = decisions(range(TOP_GRADE + 1))


class Bisection(Pointwise):
    """Shows one passage; after one thought, all decisions are read in parallel. The score is in [0, 10]."""

    kind = "bisection"

    @property
    def scale(self) -> tuple[float, float]:
        return (0.0, float(TOP_GRADE))

    @property
    def calls(self) -> int:
        return len(DECISIONS) + bool(self.options.think)

    @property
    def chain(self) -> int:
        return 1 + bool(self.options.think)

    @property
    def carried_tokens(self) -> int:
        asked = sum(len(decision.asked) for decision in DECISIONS)  # a token has at least one character
        return len(DECISIONS) * self.thought_tokens + asked

    @cached_property
    def _decided(self) -> dict[str, Sampling]:
        """The sampling of each decision, by the text before its letter."""
        return {d.asked: replace(self.sampling, max_tokens=1, choices=tuple(d.parts)) for d in DECISIONS}

    async def scored(self, ask: Ask, prompt: Prompt, thought: Judgement) -> Judgement:
        async def decide(decision: Decision) -> Completion:
            return await ask(prompt.begun(prompt.prefill + decision.asked), self._decided[decision.asked])

        async with asyncio.TaskGroup() as together:  # a failed task cancels the others
            tasks = [together.create_task(decide(decision)) for decision in DECISIONS]
        answers = [task.result() for task in tasks]
        for decision, answer in zip(DECISIONS, answers, strict=True):
            if bad := unchosen(answer, tuple(decision.parts)):
                return replace(thought, status=bad, filled=1, detail=answer.error or "")
        score = expected([answer.choices for answer in answers])
        return Judgement(thought.order, thought.status, thought.reasoning, score=score, detail=thought.detail)

    def ideal_choices(self, gains: Sequence[float], choices: Sequence[str]) -> Mapping[str, float]:
        """Put nearly all mass on the part that contains the grade; equal mass if no part does."""
        grade = round(TOP_GRADE * min(max(gains[0] / TOP_GAIN, 0.0), 1.0))
        [parts] = [decision.parts for decision in DECISIONS if set(choices) <= decision.parts.keys()]
        return {choice: log(0.98 if grade in parts[choice] else 0.01) for choice in choices}

    def answer_tokens(self, n: int) -> int:
        return max(len(decision.asked) for decision in DECISIONS)


def expected(answers: Sequence[Mapping[str, float]]) -> float:
    """Return the expected grade from natural-log probabilities of the letters of each of ``DECISIONS``."""
    reached, grade = {DECISIONS[0].grades: 1.0}, 0.0
    for decision, logprobs in zip(DECISIONS, answers, strict=True):
        share = shares(logprobs, tuple(decision.parts))
        for letter, part in decision.parts.items():
            reached[part] = reached[decision.grades] * share[letter]
            if len(part) == 1:
                grade += part[0] * reached[part]
    return grade
