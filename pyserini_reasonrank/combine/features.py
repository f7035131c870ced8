"""Query features computed before any LLM call: the length of the query, and the distribution of first-stage scores.

The score features are predictors of query performance: WIG (Zhou and Croft, SIGIR 2007), NQC (Shtok et al., TOIS 2012),
gaps and entropy. The mean score of the list replaces the score of the collection, which is only known to the index.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, pstdev

FEATURES = ("words", "candidates", "top", "wig", "nqc", "gap2", "gap10", "entropy")
"""The names of the features, in order."""

SCORE_FEATURES = FEATURES[2:]
"""The features that depend on the scores."""


def features(query: str, scores: Sequence[float]) -> tuple[float, ...]:
    """The features of a query whose candidates have these ``scores``, in the order of ``FEATURES``.

    ``gap2`` and ``gap10`` are the differences between the score at rank 1 and at ranks 2 and 10, divided by the difference
    over the whole list. ``entropy`` is that of the scores minus the lowest score, as shares of their sum: 0 if one candidate
    has all, 1 if all have the same share.
    """
    words, n = len(query.split()), len(scores)
    if not n:
        return (math.log1p(words), *[0.0] * (len(FEATURES) - 1))
    ranked = sorted(scores, reverse=True)
    mean, best, lowest = fmean(ranked), ranked[0], ranked[-1]
    spread = best - lowest

    def fall(rank: int) -> float:
        return (best - ranked[min(rank, n) - 1]) / spread if spread else 0.0

    return (
        math.log1p(words),
        math.log1p(n),
        best,
        (fmean(ranked[:5]) - mean) / math.sqrt(max(words, 1)),
        pstdev(ranked) / abs(mean) if mean else 0.0,
        fall(2),
        fall(10),
        _entropy([score - lowest for score in ranked]),
    )


def _entropy(amounts: Sequence[float]) -> float:
    """The entropy of the shares of ``amounts`` in their sum, divided by that of equal shares."""
    total = sum(amounts)
    if not total:
        return 1.0
    shares = [share for amount in amounts if (share := amount / total)]
    return -sum(share * math.log(share) for share in shares) / math.log(len(amounts))
