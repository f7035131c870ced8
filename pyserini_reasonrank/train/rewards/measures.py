"""Measures of an order of the passages shown: pure functions of positions (from 0, best first) and gains."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import log2

Span = tuple[int, int]
"""The possible ranks of a passage in the gold order: the first rank of its tie (from 0), and the size of the tie."""


def ndcg(order: Sequence[int], gains: Sequence[float], k: int = 10) -> float:
    """nDCG at ``k`` in [0, 1] with linear gains, as in trec_eval; 0 if no passage has a gain.

    Positions that ``order`` leaves out contribute nothing.
    """
    ideal = _dcg(sorted(gains, reverse=True)[:k])
    return _dcg([gains[i] for i in order[:k]]) / ideal if ideal else 0.0


def recall(order: Sequence[int], gains: Sequence[float], k: int = 10) -> float:
    """The share of the passages with a gain that are among the first ``k``; 0 if no passage has a gain."""
    relevant = sum(gain > 0 for gain in gains)
    return sum(gains[i] > 0 for i in order[:k]) / relevant if relevant else 0.0


def spans(gains: Sequence[float]) -> list[Span]:
    """The possible ranks of each position in an order by falling gain."""
    ranked = sorted(gains, reverse=True)
    return [(ranked.index(gain), ranked.count(gain)) for gain in gains]


def ranked_spans(gold: Sequence[int]) -> list[Span]:
    """The rank of each position in the strict order ``gold``."""
    ranks = {position: rank for rank, position in enumerate(gold)}
    return [(ranks[position], 1) for position in range(len(gold))]


def overlap(order: Sequence[int | None], gold: Sequence[Span], p: float = 1.0) -> float:
    """Rank-biased overlap of ``order`` with the gold order over its whole length: the sum of (1 - p) p^(d-1) A_d.

    A_d is the share of the first d that both orders have in common. With ties in gold it is the expectation over the ways
    to break them, so a chance order among equals is not rewarded. ``p`` = 1 is average overlap, which ReasonRank's
    published code computes (the default of its rbo library), although the paper writes p < 1. None in ``order`` is an
    identifier that ``gold`` does not have.
    """
    total = 0.0
    for depth in range(1, len(order) + 1):
        known = [gold[i] for i in order[:depth] if i is not None]
        common = sum(min(max((depth - start) / size, 0.0), 1.0) for start, size in known)
        total += common / depth * (1.0 if p == 1.0 else (1 - p) * p ** (depth - 1))
    return total / len(order) if p == 1.0 and order else total


def concordance(order: Sequence[int], targets: Sequence[float]) -> float:
    """Kendall's tau in [-1, 1] of a complete order over the pairs whose targets differ; 0 if all targets are equal."""
    pairs = [(i, j) for i, j in combinations(order, 2) if targets[i] != targets[j]]
    return sum(1 if targets[i] > targets[j] else -1 for i, j in pairs) / len(pairs) if pairs else 0.0


def _dcg(gains: Sequence[float]) -> float:
    return sum(max(gain, 0.0) / log2(rank + 2) for rank, gain in enumerate(gains))
