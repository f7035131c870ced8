"""Kemeny's order: the order with the fewest discordant pairs to the given orders (Kemeny, 1959).

If a majority puts every candidate of one group before every candidate of another, so does an optimal order. Groups that
can't be split further are cycles of the majority relation. Cycles of at most 8 candidates are solved exactly; larger ones
start with the Borda order, which is improved by moving single candidates until no move improves it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pyserini_reasonrank.ir.voting import borda

EXACT = 8

Votes = Sequence[Sequence[int]]
"""``against[a][b]``: the number of orders with ``b`` before ``a``, minus the number with ``a`` before ``b``."""


def kemeny(orders: Sequence[Sequence[int]], before: Sequence[int]) -> list[int]:
    """The candidates ``before`` in Kemeny's order of ``orders``. Of several optimal orders, the first by ``before``."""
    place = {candidate: i for i, candidate in enumerate(before)}
    placed = [[place[candidate] for candidate in order] for order in orders]
    against = _votes(placed, len(before))
    start = borda(placed, range(len(before)))
    result: list[int] = []
    for cycle in _cycles(against):
        if len(cycle) <= EXACT:
            result += _best(against, cycle)
        else:
            inside = set(cycle)
            result += _improved(against, [i for i in start if i in inside])
    return [before[i] for i in result]


def _votes(orders: Sequence[Sequence[int]], n: int) -> list[list[int]]:
    against = [[0] * n for _ in range(n)]
    for order in orders:
        for rank, winner in enumerate(order):
            row = against[winner]
            for loser in order[rank + 1 :]:
                row[loser] -= 1
                against[loser][winner] += 1
    return against


def _cycles(against: Votes) -> Iterator[list[int]]:
    """Yield the candidates in groups, such that a majority puts every candidate of a group before all later groups.

    Ties go to the lower number, so that the majority relation is a tournament. A group ends where the candidates with the
    most wins have won against all others (Landau, 1953).
    """
    n = len(against)
    wins = [sum(votes < (a < b) for b, votes in enumerate(row) if a != b) for a, row in enumerate(against)]
    by_wins = sorted(range(n), key=lambda i: -wins[i])
    first, won = 0, 0
    for size, candidate in enumerate(by_wins, 1):
        won += wins[candidate]
        if won == size * (size - 1) // 2 + size * (n - size):
            yield sorted(by_wins[first:size])
            first = size


def _best(against: Votes, group: Sequence[int]) -> list[int]:
    """The order of ``group`` with the fewest votes against it. Of several, the first by the order of ``group``.

    Held and Karp's recursion: the best order of a subset is a head, with the votes against it before the others, followed
    by the best order of the others.
    """
    m = len(group)
    heading = [[0] * (1 << m) for _ in range(m)]  # the votes against candidate i before a subset
    least, head = [0] * (1 << m), [0] * (1 << m)
    for subset in range(1, 1 << m):
        last = subset.bit_length() - 1
        for i in range(m):
            heading[i][subset] = heading[i][subset ^ 1 << last] + against[group[i]][group[last]]
        least[subset], head[subset] = min(
            (heading[i][subset ^ 1 << i] + least[subset ^ 1 << i], i) for i in range(m) if subset >> i & 1
        )
    order, left = list[int](), (1 << m) - 1
    while left:
        order.append(group[head[left]])
        left ^= 1 << head[left]
    return order


def _improved(against: Votes, order: list[int]) -> list[int]:
    """``order`` after moves of single candidates, each of which reduces the votes against it, until none does."""
    while sum(_move(against, order, candidate) for candidate in tuple(order)):
        pass
    return order


def _move(against: Votes, order: list[int], candidate: int) -> bool:
    """Move ``candidate`` to the position with the fewest votes against it. Whether that reduces the votes."""
    here, votes = order.index(candidate), against[candidate]
    least, to = 0, here
    for step, end in ((-1, -1), (1, len(order))):
        change = 0
        for i in range(here + step, end, step):
            change -= step * votes[order[i]]
            if change < least:
                least, to = change, i
    order.insert(to, order.pop(here))
    return least < 0
