"""The routing classifier: soft targets from the arms' rewards, logistic regression, cross-validated choices."""

from __future__ import annotations

import math
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
    """Queries with their first-stage scores, and the results of each arm. ``quality`` has the shape (queries, arms).

    ``costs`` has the cost of a query for each arm. ``rewards`` (queries, arms) is the quality minus mu times the cost,
    relative to the most expensive arm. ``tags`` group queries whose targets are smoothed together. ``vectors`` (queries,
    dimensions) are those of the encoder.
    """

    texts: Sequence[str]
    scores: Sequence[Sequence[float]]
    arms: tuple[str, ...]
    quality: Array
    costs: Array
    rewards: Array
    tags: Sequence[str] | None = None
    vectors: Array | None = None

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True, slots=True)
class Fit:
    """Settings of the fit: ``temperature`` of the targets, ``beta`` of their smoothing, ``C`` of scikit-learn.

    Without ``features``, the router reads the vectors of ``encoder`` alone.
    """

    temperature: float
    beta: float
    C: float
    depth: int
    threshold: float
    fallback: str | None
    encoder: str | None = None
    features: bool = True


def targets(examples: Examples, rows: Sequence[int], fit: Fit) -> Array:
    """The target probabilities of the arms for the queries ``rows``: the softmax of their rewards.

    With tags, a target is ``beta`` times its own softmax plus 1 - ``beta`` times the mean of its tag among ``rows``.
    """
    soft = np.array([softmax(list(examples.rewards[row] / fit.temperature)) for row in rows])
    if examples.tags is None:
        return soft
    tags = np.array([examples.tags[row] for row in rows])
    means = np.array([soft[tags == tag].mean(axis=0) for tag in tags])
    return fit.beta * soft + (1 - fit.beta) * means


def train(examples: Examples, rows: Sequence[int], fit: Fit, trained: Mapping[str, Any] | None = None) -> Router:
    """A router from the queries ``rows``: multinomial logistic regression on ``targets``.

    The default ``fallback`` is the first arm with the highest mean reward. ``trained`` is the provenance to record.
    """
    from sklearn.linear_model import LogisticRegression

    raw = np.array([features(examples.texts[row], examples.scores[row][: fit.depth]) for row in rows])
    dimensions = 0
    if examples.vectors is not None:
        dimensions = examples.vectors.shape[1]
        raw = np.hstack([raw, examples.vectors[list(rows)]])
    means, scales = raw.mean(axis=0), raw.std(axis=0)
    scales[scales == 0] = 1.0
    if dimensions:  # together, the many dimensions have the variance of the few features
        scales[len(FEATURES) :] *= math.sqrt(dimensions / len(FEATURES))
    x = np.array([standardised(values, means, scales) for values in raw.tolist()])
    if not fit.features:
        x[:, : len(FEATURES)] = 0.0  # their weights remain 0
    n, k = len(rows), len(examples.arms)
    # a soft target has the same cross-entropy as one weighted copy of its query for each arm
    model = LogisticRegression(C=fit.C, max_iter=1000)
    model.fit(x.repeat(k, axis=0), np.tile(np.arange(k), n), sample_weight=targets(examples, rows, fit).ravel())
    weights, biases = model.coef_, model.intercept_
    if k == 2:  # scikit-learn then returns only the weights of the second arm
        weights, biases = np.vstack([np.zeros_like(weights), weights]), np.concatenate([[0.0], biases])
    best = examples.arms[int(np.argmax(examples.rewards[list(rows)].mean(axis=0)))]
    return Router(
        arms=examples.arms,
        features=FEATURES,
        encoder=fit.encoder,
        dimensions=dimensions,
        means=tuple(means.tolist()),
        scales=tuple(scales.tolist()),
        weights=tuple(map(tuple, weights.tolist())),
        biases=tuple(biases.tolist()),
        depth=fit.depth,
        threshold=fit.threshold,
        fallback=fit.fallback or best,
        trained=dict(trained or {}),
    )


def cross_validated(examples: Examples, fit: Fit, folds: int, seed: int) -> list[Choice]:
    """The choice for each query of a router trained without this query and without queries of the same words."""
    parts = _folds(examples.texts, folds, seed)
    choices: dict[int, Choice] = {}

    def vector(row: int) -> Sequence[float]:
        return () if examples.vectors is None else examples.vectors[row].tolist()

    for part in parts:
        router = train(examples, [row for row in range(len(examples)) if row not in part], fit)
        choices |= {row: router.choose(examples.texts[row], examples.scores[row], vector=vector(row)) for row in part}
    return [choices[row] for row in range(len(examples))]


def _folds(texts: Sequence[str], folds: int, seed: int) -> list[set[int]]:
    """The rows in ``folds`` random parts. Queries with the same text are in the same part."""
    words = [" ".join(text.casefold().split()) for text in texts]
    distinct = list(dict.fromkeys(words))
    if len(distinct) < 2 * folds:
        raise UsageError(
            f"{len(distinct)} different queries are too few for {folds} folds: use more queries or fewer folds"
        )
    random.Random(seed).shuffle(distinct)
    of = {text: number % folds for number, text in enumerate(distinct)}
    return [{row for row, text in enumerate(words) if of[text] == fold} for fold in range(folds)]


def check(examples: Examples, run: str, depth: int) -> None:
    """UsageError if there is nothing to learn: first-stage scores that are ranks, or arms with equal rewards."""
    found = np.array([features("", scores[:depth]) for scores in examples.scores])
    if not np.ptp(found[:, -len(SCORE_FEATURES) :], axis=0).any():
        raise UsageError(
            f"the scores of {run} are the same for every query, as ranks are: use the first stage's scores"
        )
    if not np.ptp(examples.rewards, axis=1).any():
        raise UsageError("all arms have the same reward on every query: there is nothing to learn")
