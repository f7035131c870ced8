"""What the orders of several calls say together: who is above whom, with all that follows from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise


class PreferenceGraph:
    """The transitive closure of the orders seen so far, over ``n`` candidates.

    Candidates that are above each other, because answers contradict, are tied. Sets of candidates are the bits of an
    integer: an order of k candidates costs k steps over n integers.
    """

    def __init__(self, n: int) -> None:
        self.n = n
        self._below = [0] * n  # for each candidate, the candidates that it is above
        self._above = [0] * n

    def add(self, order: Sequence[int]) -> None:
        """Add an order, best first."""
        for better, worse in pairwise(order):
            if self._below[better] >> worse & 1:
                continue
            highs = self._above[better] | 1 << better
            lows = self._below[worse] | 1 << worse
            for i in _members(highs):
                self._below[i] |= lows
            for i in _members(lows):
                self._above[i] |= highs

    def tied(self, candidate: int) -> int:
        """The candidates that are above and below ``candidate``, and itself, as bits."""
        return self._above[candidate] & self._below[candidate] | 1 << candidate

    def above(self, candidate: int) -> int:
        """The number of candidates that are above ``candidate``, without those tied with it."""
        return (self._above[candidate] & ~self.tied(candidate)).bit_count()

    def below(self, candidate: int) -> int:
        """The number of candidates that are below ``candidate``, without those tied with it."""
        return (self._below[candidate] & ~self.tied(candidate)).bit_count()

    def placed(self, candidate: int) -> bool:
        """Whether the rank of ``candidate`` is known: it is above, below or tied with every other one."""
        return (self._above[candidate] | self._below[candidate] | 1 << candidate).bit_count() == self.n


def _members(bits: int) -> Iterator[int]:
    while bits:
        low = bits & -bits
        yield low.bit_length() - 1
        bits ^= low
