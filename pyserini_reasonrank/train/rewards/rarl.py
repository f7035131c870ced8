"""RARL: one reward for the values an answer gives and for the order it puts passages in (arXiv 2601.20585)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyserini_reasonrank.parsing import identifiers
from pyserini_reasonrank.train.rewards.answers import formed, graded, valued_order
from pyserini_reasonrank.train.rewards.measures import concordance
from pyserini_reasonrank.train.rewards.rollouts import Rollout, Scored, taught

WEIGHTS: Mapping[str, float] = {"regression": 0.4, "ranking": 0.5, "format": 0.1}
EXACT = 0.5  # what an order without a fault gains on top


def regression(values: Sequence[float | None], targets: Sequence[float], delta: float) -> float:
    """The mean over items of 1 - (difference / delta)^2 where the difference is at most ``delta``, else 0; in [0, 1]."""
    gains = [
        0.0 if value is None or abs(value - target) > delta else 1 - ((value - target) / delta) ** 2
        for value, target in zip(values, targets, strict=True)
    ]
    return sum(gains) / len(gains)


def regression_ranking(
    rollout: Rollout,
    *,
    delta: float = 2.0,
    top: float = 10.0,
    top_gain: float = 1.0,
    valued: bool = False,
    weights: Mapping[str, float] = WEIGHTS,
) -> Scored:
    """The weighted mean of regression, ranking and form, at least 0 and at most 1.42.

    A single passage is answered by its value, a list by ``[2] > [1]`` or, where the prompt asks for values (``valued``),
    ``[2] (9) > [1] (4)``. Ranking is (1 + Kendall's tau) / 2, and 0.5 more without a fault; 0 for what is no whole order.
    A part that the prompt does not ask for is left out and its weight shared among the others. Targets are the
    teacher's scores or else the gains, ``top_gain`` worth ``top``. The paper's exact ranking term and weights are not
    known; these are ours. UsageError for a teacher's score that a value would be compared with and is not on the scale.
    """
    form = float(formed(rollout.text) or not rollout.tags)
    teacher = taught(rollout, top) if valued or rollout.kind == "score" else rollout.teacher
    targets = teacher or tuple(min(gain / top_gain, 1.0) * top for gain in rollout.gains)
    parts = {"format": form}
    if rollout.kind == "score":
        found = graded(rollout.text)
        parts["regression"] = regression([found.value if found else None], targets, delta)
    else:
        listed, values = valued_order(rollout.text)
        ids = identifiers(listed)
        whole = sorted(ids) == list(range(1, rollout.n + 1))
        tau = concordance([i - 1 for i in ids], targets) if whole else -1.0
        parts["ranking"] = (1 + tau) / 2 + EXACT * (tau == 1.0)
        if valued:
            parts["regression"] = regression([values.get(i) for i in range(rollout.n)], targets, delta)
    total = sum(weights[part] for part in parts)
    return Scored(sum(weights[part] * value for part, value in parts.items()) / total, parts)
