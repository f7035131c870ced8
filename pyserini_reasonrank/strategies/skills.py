"""How relevant each candidate is, as a normal distribution that every order makes narrower (TrueSkill).

Herbrich, Minka and Graepel, "TrueSkill: A Bayesian Skill Rating System" (NIPS 2006), with one candidate per team and no
draws. The constants are TrueSkill's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

MEAN, DEVIATION = 25.0, 25.0 / 3
PERFORMANCE = (25.0 / 6) ** 2
"""The variance of how a candidate appears in one order, around its relevance."""
DRIFT = (25.0 / 300) ** 2
"""The variance that is added before each order, so that no estimate becomes immovable."""
MARGIN = NormalDist().inv_cdf((0.1 + 1) / 2) * math.sqrt(2 * PERFORMANCE)
"""The difference in performance that decides an order: TrueSkill's, for draws with probability 0.1."""
CONVERGED, MOST_SWEEPS = 1e-4, 10
UNINFORMATIVE = 1e12  # a variance


@dataclass(frozen=True, slots=True)
class Belief:
    """A normal distribution of a candidate's relevance."""

    mean: float = MEAN
    variance: float = DEVIATION**2

    def above(self, threshold: float) -> float:
        """The probability that the relevance is above ``threshold``."""
        return math.erfc((threshold - self.mean) / math.sqrt(2 * self.variance)) / 2


@dataclass(slots=True)
class _Message:
    """A normal factor in natural parameters: precision, and precision times mean."""

    precision: float = 0.0
    weighted: float = 0.0


def updated(beliefs: Sequence[Belief]) -> list[Belief]:
    """The beliefs after an order of their candidates, given best first."""
    priors = [(belief.mean, belief.variance + DRIFT + PERFORMANCE) for belief in beliefs]
    up = [_Message() for _ in beliefs]  # from the comparison with the candidate below
    down = [_Message() for _ in beliefs]  # from the comparison with the candidate above
    pairs = range(len(beliefs) - 1)
    for _ in range(MOST_SWEEPS):
        change = 0.0
        for i in [*pairs, *reversed(pairs[:-1])]:
            higher, lower = _without(priors[i], down[i]), _without(priors[i + 1], up[i + 1])
            apart, spread = _apart(higher[0] - lower[0], higher[1] + lower[1])
            change = max(change, _put(up[i], apart + lower[0], spread + lower[1]))
            change = max(change, _put(down[i + 1], higher[0] - apart, spread + higher[1]))
        if change < CONVERGED:
            break
    return [_combined(belief, a, b) for belief, a, b in zip(beliefs, up, down, strict=True)]


def threshold_of(beliefs: Sequence[Belief], k: int) -> float:
    """The relevance above which ``k`` candidates are expected: the sum of their probabilities is k."""
    widest = 6 * max(math.sqrt(belief.variance) for belief in beliefs)
    low, high = min(b.mean for b in beliefs) - widest, max(b.mean for b in beliefs) + widest
    while high - low > 1e-7:
        middle = (low + high) / 2
        if sum(belief.above(middle) for belief in beliefs) > k:
            low = middle
        else:
            high = middle
    return low


def _without(prior: tuple[float, float], message: _Message) -> tuple[float, float]:
    """Mean and variance of a performance from its prior and the comparison on its other side."""
    precision = 1 / prior[1] + message.precision
    return (prior[0] / prior[1] + message.weighted) / precision, 1 / precision


def _apart(mean: float, variance: float) -> tuple[float, float]:
    """Mean and variance of the message that a difference, distributed so, is larger than ``MARGIN``."""
    deviation = math.sqrt(variance)
    t = (mean - MARGIN) / deviation
    v = _hazard(t)
    w = v * (v + t)
    new_mean, new_variance = mean + deviation * v, variance * max(1 - w, 1e-10)
    precision = 1 / new_variance - 1 / variance
    if precision < 1 / UNINFORMATIVE:  # the order was certain before
        return mean, UNINFORMATIVE
    return (new_mean / new_variance - mean / variance) / precision, 1 / precision


def _hazard(t: float) -> float:
    """The density of the standard normal distribution at t, divided by its share below t."""
    below = math.erfc(-t / math.sqrt(2)) / 2
    return math.exp(-t * t / 2) / math.sqrt(2 * math.pi) / below if below > 1e-300 else -t


def _put(message: _Message, mean: float, variance: float) -> float:
    """Replace ``message``. Returns by how much it changed."""
    precision, weighted = 1 / variance, mean / variance
    change = max(abs(precision - message.precision), abs(weighted - message.weighted))
    message.precision, message.weighted = precision, weighted
    return change


def _combined(belief: Belief, a: _Message, b: _Message) -> Belief:
    precision, variance = a.precision + b.precision, belief.variance + DRIFT
    if not precision:
        return Belief(belief.mean, variance)
    mean, spread = (a.weighted + b.weighted) / precision, 1 / precision + PERFORMANCE
    total = 1 / variance + 1 / spread
    return Belief((belief.mean / variance + mean / spread) / total, 1 / total)
