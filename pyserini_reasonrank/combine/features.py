"""What tells a query from another before any LLM is asked: its length and how the first stage's scores fall.

The scores' features are predictors of query performance: WIG (Zhou and Croft, SIGIR 2007), NQC (Shtok et al., TOIS
2012), gaps and entropy. The mean of the list stands in for the collection's score, which only the index would know.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, pstdev

FEATURES = ("words", "candidates", "top", "wig", "nqc", "gap2", "gap10", "entropy")
"""The names of the features, in their order."""

SCORE_FEATURES = FEATURES[2:]
"""Those that depend on more than the number of words and of candidates."""


def features(query: str, scores: Sequence[float]) -> tuple[float, ...]:
    """The features of a query whose candidates have these ``scores``, in the order of ``FEATURES``.

    ``gap2`` and ``gap10`` are how far the scores have fallen at ranks 2 and 10, from 0 to 1, the fall over the whole
    list; ``entropy`` is of the shares that candidates have of what lies above the lowest score, from 0 (one has all) to 1.
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
    """Entropy of the shares in ``amounts``, over that of equal shares."""
    total = sum(amounts)
    if not total:
        return 1.0
    shares = [share for amount in amounts if (share := amount / total)]
    return -sum(share * math.log(share) for share in shares) / math.log(len(amounts))
