"""How a router is fitted and judged: soft targets from what each arm reached and cost, held-out choices by query."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyserini_reasonrank.combine.features import FEATURES, SCORE_FEATURES, features
from pyserini_reasonrank.combine.query_classifier import Choice, Router, softmax, standardised
from pyserini_reasonrank.errors import UsageError

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Examples:
    """Queries with their first-stage scores, and what each arm reached: ``quality`` is queries x arms.

    ``costs`` are of a query by arm, ``rewards`` is quality less mu times the cost, the dearest arm's being 1. ``tags``
    group queries whose targets are smoothed together.
    """

    texts: Sequence[str]
    scores: Sequence[Sequence[float]]
    arms: tuple[str, ...]
    quality: Array
    costs: Array
    rewards: Array
    tags: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True, slots=True)
class Fit:
    """Settings of the fit: ``temperature`` of the targets, ``beta`` of their smoothing, scikit-learn's ``C``."""

    temperature: float
    beta: float
    C: float
    depth: int
    threshold: float
    fallback: str | None


def targets(examples: Examples, rows: Sequence[int], fit: Fit) -> Array:
    """Probabilities of the arms for the queries ``rows``: the softmax of their rewards.

    With tags each is ``beta`` of its own and the rest of the mean over the queries of its tag among ``rows``.
    """
    soft = np.array([softmax(list(examples.rewards[row] / fit.temperature)) for row in rows])
    if examples.tags is None:
        return soft
    tags = np.array([examples.tags[row] for row in rows])
    means = np.array([soft[tags == tag].mean(axis=0) for tag in tags])
    return fit.beta * soft + (1 - fit.beta) * means


def train(examples: Examples, rows: Sequence[int], fit: Fit, trained: Mapping[str, Any] | None = None) -> Router:
    """A router from the queries ``rows``: multinomial logistic regression on ``targets``.

    Without a ``fallback`` it is the arm of the highest mean reward, the first of them.
    """
    from sklearn.linear_model import LogisticRegression

    raw = np.array([features(examples.texts[row], examples.scores[row][: fit.depth]) for row in rows])
    means, scales = raw.mean(axis=0), raw.std(axis=0)
    scales[scales == 0] = 1.0
    x = np.array([standardised(values, means, scales) for values in raw.tolist()])
    n, k = len(rows), len(examples.arms)
    # a soft target is its query seen once for each arm, weighted: the cross-entropy is the same
    model = LogisticRegression(C=fit.C, max_iter=1000)
    model.fit(x.repeat(k, axis=0), np.tile(np.arange(k), n), sample_weight=targets(examples, rows, fit).ravel())
    weights, biases = model.coef_, model.intercept_
    if k == 2:  # scikit-learn then tells the second arm's only
        weights, biases = np.vstack([np.zeros_like(weights), weights]), np.concatenate([[0.0], biases])
    best = examples.arms[int(np.argmax(examples.rewards[list(rows)].mean(axis=0)))]
    return Router(
        arms=examples.arms,
        features=FEATURES,
        means=tuple(means.tolist()),
        scales=tuple(scales.tolist()),
        weights=tuple(map(tuple, weights.tolist())),
        biases=tuple(biases.tolist()),
        depth=fit.depth,
        threshold=fit.threshold,
        fallback=fit.fallback or best,
        trained=dict(trained or {}),
    )


def held_out(examples: Examples, fit: Fit, folds: int, seed: int) -> list[Choice]:
    """For every query, the choice of a router that was trained without it, nor any query of the same words."""
    parts = _folds(examples.texts, folds, seed)
    choices: dict[int, Choice] = {}
    for part in parts:
        router = train(examples, [row for row in range(len(examples)) if row not in part], fit)
        choices |= {row: router.choose(examples.texts[row], examples.scores[row]) for row in part}
    return [choices[row] for row in range(len(examples))]


def _folds(texts: Sequence[str], folds: int, seed: int) -> list[set[int]]:
    """Rows dealt to ``folds`` parts at random, those with the same text to the same part."""
    words = [" ".join(text.casefold().split()) for text in texts]
    distinct = list(dict.fromkeys(words))
    if len(distinct) < 2 * folds:
        raise UsageError(f"{len(distinct)} different queries are too few for {folds} folds: give more, or fewer folds")
    random.Random(seed).shuffle(distinct)
    of = {text: number % folds for number, text in enumerate(distinct)}
    return [{row for row, text in enumerate(words) if of[text] == fold} for fold in range(folds)]


def check(examples: Examples, run: str, depth: int) -> None:
    """UsageError if there is nothing to learn: scores that are ranks, or arms that are all worth the same."""
    found = np.array([features("", scores[:depth]) for scores in examples.scores])
    if not np.ptp(found[:, -len(SCORE_FEATURES) :], axis=0).any():
        raise UsageError(f"the scores of {run} are the same for every query, as ranks are: give the first stage's own")
    if not np.ptp(examples.rewards, axis=1).any():
        raise UsageError("every query is worth the same with every arm: there is nothing to choose")
