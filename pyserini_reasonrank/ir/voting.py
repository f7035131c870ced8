"""Voting over several orders or choices (Borda, RRF, medoid, majority), and their agreement (Kendall's distance).

Orders are permutations of the same candidates, best first; ``before`` is the order that breaks ties.
"""

from __future__ import annotations

from bisect import bisect
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from math import fsum
from statistics import fmean


def borda(orders: Sequence[Sequence[int]], before: Sequence[int]) -> list[int]:
    """The candidates ``before`` by the sum of their ranks in ``orders``."""
    ranks: Counter[int] = Counter()
    for order in orders:
        for rank, candidate in enumerate(order):
            ranks[candidate] += rank
    return sorted(before, key=lambda candidate: ranks[candidate])


def rrf(
    orders: Sequence[Sequence[int]], before: Sequence[int], *, k: float = 60, weights: Sequence[float] | None = None
) -> list[int]:
    """By reciprocal rank fusion, best first; ties keep the order of ``before``."""
    scores = rrf_scores(orders, before, k=k, weights=weights)
    return sorted(before, key=lambda candidate: -scores[candidate])


def rrf_scores(
    orders: Sequence[Sequence[int]], before: Sequence[int], *, k: float = 60, weights: Sequence[float] | None = None
) -> dict[int, float]:
    """The sum of weight / (k + rank) of each candidate, ranks from 1 (Cormack et al., SIGIR 2009)."""
    parts: dict[int, list[float]] = {candidate: [] for candidate in before}
    for order, weight in zip(orders, weights or [1.0] * len(orders), strict=True):
        for rank, candidate in enumerate(order, 1):
            parts[candidate].append(weight / (k + rank))
    # an exact sum: ties must not depend on the order of addition
    return {candidate: fsum(found) for candidate, found in parts.items()}


def medoid(orders: Sequence[Sequence[int]], before: Sequence[int]) -> list[int]:
    """The order with the smallest distance to all ``orders``, the first of several; ``before`` if there are no orders."""
    nearest = min(orders or [before], key=lambda order: sum(discordant(order, other) for other in orders))
    return list(nearest)


def majority(choices: Sequence[int], before: Sequence[int]) -> int:
    """The candidate that was chosen most often. Of several, the first in ``before``."""
    count = Counter(choices)
    return max(before, key=lambda candidate: count[candidate])


def discordant(a: Sequence[int], b: Sequence[int]) -> int:
    """The number of pairs of candidates that two orders rank in opposite order."""
    place = {candidate: i for i, candidate in enumerate(a)}
    count, seen = 0, list[int]()
    for candidate in b:
        at = bisect(seen, place[candidate])
        count += len(seen) - at
        seen.insert(at, place[candidate])
    return count


def distance(a: Sequence[int], b: Sequence[int]) -> float:
    """Kendall's tau distance: the share of discordant pairs, 0 for the same order, 1 for the reverse."""
    pairs = len(a) * (len(a) - 1) // 2
    return discordant(a, b) / pairs if pairs else 0.0


def agreement(orders: Sequence[Sequence[int]]) -> float | None:
    """1 - Kendall's tau distance, averaged over all pairs of ``orders``; None for fewer than two."""
    pairs = list(combinations(orders, 2))
    return fmean(1 - distance(a, b) for a, b in pairs) if pairs else None


def support(orders: Sequence[Sequence[int]], order: Sequence[int], samples: int) -> tuple[float, ...]:
    """The confidence in each rank r of ``order``, in [0, 1]: the share of samples whose top r contains its candidate.

    ``samples`` counts all samples, also those without an order, which support no rank. The confidence is 1 everywhere if all
    samples have the same order; at the last rank it is the share of samples that have an order.
    """
    places = [{candidate: rank for rank, candidate in enumerate(vote)} for vote in orders]
    return tuple(sum(place[candidate] <= rank for place in places) / samples for rank, candidate in enumerate(order))
