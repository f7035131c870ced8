"""How alike two rankings are: rank-biased overlap and Kendall's tau, as means over the queries that two runs share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

PERSISTENCE = 0.9
"""RBO's p: the first ten ranks have 86% of the weight (Webber et al. 2010)."""


@dataclass(frozen=True, slots=True)
class Similarity:
    """Means over ``queries``, the queries that two runs share.

    ``rbo`` is None if there are none; ``tau`` is over the queries with two or more documents in both runs, None if there
    are none.
    """

    queries: int
    rbo: float | None
    tau: float | None


def similarity(one: Mapping[str, Sequence[str]], other: Mapping[str, Sequence[str]]) -> Similarity:
    """RBO and Kendall's tau of two runs: the docids of each query, best first."""
    shared = [qid for qid in one if qid in other and one[qid] and other[qid]]
    taus = [tau for qid in shared if (tau := kendall_tau(one[qid], other[qid])) is not None]
    overlap = fmean(rank_biased_overlap(one[qid], other[qid]) for qid in shared) if shared else None
    return Similarity(len(shared), overlap, fmean(taus) if taus else None)


def rank_biased_overlap(one: Sequence[str], other: Sequence[str], p: float = PERSISTENCE) -> float:
    """Extrapolated RBO of two rankings, which may have different lengths (Webber et al. 2010, equation 32).

    1 for the same ranking, 0 for rankings without a common document. Neither ranking is empty or has a document twice.
    """
    short, long = sorted((one, other), key=len)
    s, total, agreement = len(short), 0.0, 0.0
    seen_short, seen_long = set[str](), set[str]()
    overlap = overlap_at_s = 0
    for depth, docid in enumerate(long, 1):
        seen_long.add(docid)
        if depth <= s:
            seen_short.add(short[depth - 1])
            # a document that both lists have at this depth counts once
            overlap += (docid in seen_short) + (short[depth - 1] in seen_long) - (docid == short[depth - 1])
            overlap_at_s = overlap
            agreement = overlap / depth
        else:
            overlap += docid in seen_short
            # the short list is assumed to agree below its end as much as above
            agreement = (overlap + overlap_at_s * (depth - s) / s) / depth
        total += agreement * p**depth
    return (1 - p) / p * total + agreement * p ** len(long)


def kendall_tau(one: Sequence[str], other: Sequence[str]) -> float | None:
    """Kendall's tau over the documents that both rankings have; None for fewer than two."""
    place = {docid: rank for rank, docid in enumerate(other)}
    ranks = [place[docid] for docid in one if docid in place]
    if len(ranks) < 2:
        return None
    from scipy.stats import kendalltau

    return float(kendalltau(range(len(ranks)), ranks).statistic)
