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

from pyserini_reasonrank.parsing import CLOSE_ANSWER, CLOSE_THINK, OPEN_ANSWER, OPEN_THINK, identifiers, split
from pyserini_reasonrank.train.rewards.answers import formed
from pyserini_reasonrank.train.rewards.rollouts import begun

FLAT = 1e-6  # variance of a group's rewards below which it teaches nothing
SWAPS = 2


@dataclass(frozen=True, slots=True)
class Mutation:
    """Which rollout of the group is replaced, and by what: a thought, which may be shortened, between two other parts, or
    ``bare`` where nothing is left of it."""

    place: int
    opening: str
    thought: str
    rest: str
    bare: str

    @property
    def text(self) -> str:
        """The new completion, less the prefill."""
        return self.opening + self.thought + self.rest if self.thought else self.bare


def mutated(
    texts: Sequence[str],
    rewards: Sequence[float],
    reference: str,
    *,
    good: float,
    seed: int,
    prefill: str = "",
    tags: bool = True,
    wrong: str | None = None,
    scale: tuple[int, int] = (0, 10),
) -> Mutation | None:
    """The change to make in a group whose rewards do not differ; None where they do, or where there is none to make.

    ``texts`` are its completions, ``reference`` the right answer, without tags. A group below ``good`` gets the
    reference in place of one rollout's answer, behind that rollout's own thought; one at ``good`` or above gets a copy
    of the answer with two adjacent swaps, or, where it is one number, with that number off by one within ``scale``;
    or it gets ``wrong``, where an answer can't be spoilt by a little. The new completion goes on from the row's ``prefill``
    and is whole and in form, whatever the old one was: with its thought and its answer in tags where the row asks for
    ``tags``.
    """
    if not rewards or pvariance(rewards) >= FLAT:
        return None
    chance = random.Random(seed)
    place = chance.randrange(len(texts))
    text = begun(prefill) + texts[place]
    old = (split(text).answer or "").strip()
    answer = reference if rewards[place] < good else wrong or _disturbed(old, chance, scale)
    if answer == old and (formed(text) or not tags):
        return None
    return Mutation(place, *_whole(text, answer, prefill, tags))


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


def _whole(text: str, answer: str, prefill: str, tags: bool) -> tuple[str, str, str, str]:
    """The parts of a completion with ``answer`` and the thought of ``text``, which has the prefill in it."""
    if OPEN_ANSWER in prefill:
        return "", "", "", f"{answer}{CLOSE_ANSWER}"
    parts = split(text)
    thought = parts.reasoning
    if tags and not thought and not parts.tagged:  # all that was written stands in for a thought
        thought = split(text + CLOSE_THINK).reasoning
    opening = "" if OPEN_THINK in prefill else OPEN_THINK
    if not tags:
        return opening, thought, f"{CLOSE_THINK}\n{answer}", answer
    rest = f"{CLOSE_THINK}\n{OPEN_ANSWER}{answer}{CLOSE_ANSWER}"
    return opening, thought, rest, opening + rest
