"""RARL's reward: regression on the values in an answer, and the order of its passages (arXiv 2601.20585)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyserini_reasonrank.parsing.identifiers import identifiers
from pyserini_reasonrank.train.rewards.answers import graded, valued_order, well_formed
from pyserini_reasonrank.train.rewards.measures import concordance
from pyserini_reasonrank.train.rewards.rollouts import Rollout, Scored, teacher_scores

WEIGHTS: Mapping[str, float] = {"regression": 0.4, "ranking": 0.5, "format": 0.1}
EXACT = 0.5  # bonus for a perfect order


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
    """The weighted mean of regression, ranking and format, between 0 and 1.42.

    The answer to a single passage is its value. The answer to a list is ``[2] > [1]`` or, if the prompt asks for values
    (``valued``), ``[2] (9) > [1] (4)``. Ranking is (1 + Kendall's tau) / 2, plus 0.5 for a perfect order, and 0 for an
    incomplete order. Parts that the prompt does not ask for are left out, and the other weights are rescaled. Targets are
    the teacher's scores, else the gains mapped so that ``top_gain`` becomes ``top``. The paper does not give its ranking
    term and weights; these are ours. UsageError for a teacher's score that is compared with a value and is not on the
    scale.
    """
    form = float(well_formed(rollout.text) or not rollout.tags)
    teacher = teacher_scores(rollout, top) if valued or rollout.kind == "score" else rollout.teacher
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
