"""The closure of orders against a search in the graph of their pairs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pyserini_reasonrank.strategies.preference_graph import PreferenceGraph

N = 8
orders = st.lists(st.permutations(range(N)).flatmap(lambda p: st.integers(1, N).map(lambda k: p[:k])), max_size=6)


def reached(pairs: set[tuple[int, int]], start: int) -> set[int]:
    """The candidates that a chain of pairs leads to from ``start``."""
    found, new = set[int](), {start}
    while new:
        new = {b for a, b in pairs if a in new} - found
        found |= new
    return found


@given(orders)
def test_what_follows_from_the_orders(given_orders: list[list[int]]) -> None:
    graph = PreferenceGraph(N)
    for order in given_orders:
        graph.add(order)
    pairs = {(a, b) for order in given_orders for i, a in enumerate(order) for b in order[i + 1 :]}
    below = {i: reached(pairs, i) for i in range(N)}
    for i in range(N):
        tied = {i} | {j for j in below[i] if i in below[j]}
        above = {j for j in range(N) if i in below[j]} - tied
        assert graph.tied(i) == sum(1 << j for j in tied)
        assert (graph.above(i), graph.below(i)) == (len(above), len(below[i] - tied))
        assert graph.placed(i) == (above | below[i] | tied == set(range(N)))
