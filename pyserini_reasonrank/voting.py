"""One order or one choice out of several: Borda count and majority, ties by the order that was there before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence


def borda(orders: Sequence[Sequence[int]], before: Sequence[int]) -> list[int]:
    """The candidates ``before`` by the sum of their ranks in ``orders``, each a permutation of them."""
    ranks: Counter[int] = Counter()
    for order in orders:
        for rank, candidate in enumerate(order):
            ranks[candidate] += rank
    return sorted(before, key=lambda candidate: ranks[candidate])


def majority(choices: Sequence[int], before: Sequence[int]) -> int:
    """The candidate chosen most often; of those chosen equally often the one that comes first in ``before``."""
    count = Counter(choices)
    return max(before, key=lambda candidate: count[candidate])
