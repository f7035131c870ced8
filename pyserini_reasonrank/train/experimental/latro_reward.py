"""LaTRO's self-reward: how likely the model itself finds the right answer after the thought it wrote (arXiv 2411.04282).

The arithmetic alone, on log-probabilities that whoever trains has computed: natural logarithms, one a token.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from statistics import fmean

POSITIONS = 10  # ranks of a permutation that count: its tail is noise
NO_STOP = 2.0


def answer_logprob(logprobs: Sequence[float], tokens: int | None = None) -> float:
    """The mean log-probability of the answer's tokens, of the first ``tokens`` if given: at most 0.

    The paper sums; the mean keeps answers of different lengths apart in quality only.
    """
    return fmean(logprobs[:tokens])


def self_reward(answers: Sequence[float], thought: float, reference: float, beta: float = 0.05) -> float:
    """The best of the equally right ``answers``, less ``beta`` times the thought's log-ratio to the reference model.

    ``thought`` and ``reference`` are the thought's summed log-probabilities under the policy and the reference.
    """
    return max(answers) - beta * (thought - reference)


def unstopped(rewards: Sequence[float], stopped: Sequence[bool], factor: float = NO_STOP) -> list[float]:
    """The rewards, with ``factor`` times their mean for each thought that never stopped.

    As published; a penalty, because log-probabilities are negative.
    """
    mean = fmean(rewards)
    return [reward if stop else factor * mean for reward, stop in zip(rewards, stopped, strict=True)]


def leave_one_out(rewards: Sequence[float]) -> list[float]:
    """Advantages of one prompt's rollouts: each reward less the mean of the others (RLOO). They sum to 0.

    A single rollout has none to compare with: its advantage is 0.
    """
    if len(rewards) < 2:
        return [0.0] * len(rewards)
    total, others = sum(rewards), len(rewards) - 1
    return [reward - (total - reward) / others for reward in rewards]


def right_orders(gains: Sequence[float], count: int, seed: int, positions: int = POSITIONS) -> list[tuple[int, ...]]:
    """Up to ``count`` different heads of orders by falling gain, ties shuffled: several answers are equally right."""
    chance = random.Random(seed)
    found: dict[tuple[int, ...], None] = {}
    for _ in range(count):
        order = sorted(range(len(gains)), key=lambda i: (-gains[i], chance.random()))
        found[tuple(order[:positions])] = None
    return list(found)
