"""RARL's response mutation: a group of rollouts with equal rewards gets one answer that differs (arXiv 2601.20585).

This is the operation alone. Whoever trains computes the reward and the log-probabilities of the changed answer anew,
takes it as off-policy with a clipped ratio, and leaves the operation out towards the end.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import pvariance

from pyserini_reasonrank.parsing import CLOSE_ANSWER, CLOSE_THINK, OPEN_ANSWER, identifiers, split

FLAT = 1e-6  # variance of a group's rewards below which it teaches nothing
SWAPS = 2


@dataclass(frozen=True, slots=True)
class Mutation:
    """Which rollout of the group is replaced, and by what."""

    place: int
    text: str


def mutated(
    texts: Sequence[str],
    rewards: Sequence[float],
    reference: str,
    *,
    good: float,
    seed: int,
    scale: tuple[int, int] = (0, 10),
) -> Mutation | None:
    """The change to make in a group whose rewards do not differ; None where they do, or where there is none to make.

    ``texts`` are its completions, ``reference`` the right answer, without tags. A group below ``good`` gets the
    reference in place of one rollout's answer, behind that rollout's own thought; one at ``good`` or above gets a copy
    of the answer with two adjacent swaps, or, where it is one number, with that number off by one within ``scale``.
    """
    if not rewards or pvariance(rewards) >= FLAT:
        return None
    chance = random.Random(seed)
    place = chance.randrange(len(texts))
    text = texts[place]
    answer = reference if rewards[place] < good else _disturbed(split(text).answer or "", chance, scale)
    changed = _answered(text, answer)
    return Mutation(place, changed) if changed != text else None


def _disturbed(answer: str, chance: random.Random, scale: tuple[int, int]) -> str:
    ids = identifiers(answer)
    if len(ids) > 1:
        # different places, so that the swaps never undo each other
        for place in chance.sample(range(len(ids) - 1), min(SWAPS, len(ids) - 1)):
            ids[place], ids[place + 1] = ids[place + 1], ids[place]
        return " > ".join(f"[{i}]" for i in ids)
    least, most = scale

    def off_by_one(number: re.Match[str]) -> str:
        value = int(number.group())
        steps = [step for step in (-1, 1) if least <= value + step <= most]
        return str(value + chance.choice(steps or [0]))

    return re.sub(r"\d+", off_by_one, answer, count=1)


def _answered(text: str, answer: str) -> str:
    """``text`` with another answer; a thought that was cut is closed first."""
    old = split(text)
    if old.answer is None:
        return f"{text}{CLOSE_THINK}\n{OPEN_ANSWER}{answer}{CLOSE_ANSWER}"
    begins = [found.end() for found in re.finditer(OPEN_ANSWER if old.tagged else CLOSE_THINK, text, re.IGNORECASE)]
    start = begins[-1] if begins else 0
    return text[:start] + answer + text[start + len(old.answer) :]
