"""Votes over orders: what each method promises whatever the votes, and textbook cases in which they differ."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import combinations, permutations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pyserini_reasonrank.ir.kemeny import kemeny
from pyserini_reasonrank.ir.voting import agreement, borda, discordant, distance, majority, medoid, rrf, support

Vote = Callable[[Sequence[Sequence[int]], Sequence[int]], list[int]]

METHODS: tuple[Vote, ...] = (borda, kemeny, rrf, medoid)


@st.composite
def elections(draw: st.DrawFn, least: int = 0, most: int = 12, votes: int = 6) -> tuple[list[list[int]], list[int]]:
    """Up to ``votes`` orders of the same candidates, and the order before them. Candidates are no positions."""
    candidates = draw(st.lists(st.integers(-99, 99), unique=True, min_size=least, max_size=most))
    orders = draw(st.lists(st.permutations(candidates), max_size=votes))
    return [list(order) for order in orders], list(draw(st.permutations(candidates)))


def total(order: Sequence[int], orders: Sequence[Sequence[int]]) -> int:
    return sum(discordant(order, other) for other in orders)


@pytest.mark.parametrize("method", METHODS)
@given(election=elections())
def test_the_result_is_a_permutation(method: Vote, election: tuple[list[list[int]], list[int]]) -> None:
    orders, before = election
    assert sorted(method(orders, before)) == sorted(before)


@pytest.mark.parametrize("method", METHODS)
@given(election=elections(), times=st.integers(1, 5))
def test_what_all_say_is_the_result(method: Vote, election: tuple[list[list[int]], list[int]], times: int) -> None:
    orders, before = election
    assume(orders)
    assert method([orders[0]] * times, before) == orders[0]


@pytest.mark.parametrize("method", METHODS)
def test_without_votes_the_order_before_stands(method: Vote) -> None:
    assert method([], [3, 1, 2]) == [3, 1, 2]


@pytest.mark.parametrize("method", [borda, kemeny, rrf])
@given(election=elections())
def test_the_sequence_of_votes_does_not_matter(method: Vote, election: tuple[list[list[int]], list[int]]) -> None:
    orders, before = election
    assert method(orders, before) == method(orders[::-1], before)


@pytest.mark.parametrize("method", [borda, kemeny, rrf])
@given(before=st.permutations(range(5)))
def test_two_opposite_votes_leave_the_order_before(method: Vote, before: Sequence[int]) -> None:
    result = method([[0, 1, 2, 3, 4], [4, 3, 2, 1, 0]], before)
    if method is rrf:  # 1 / (k + rank) is convex: the extremes gain by being liked once
        assert [{0, 4}, {1, 3}, {2}] == [set(result[:2]), set(result[2:4]), set(result[4:])]
        assert [c for c in result if c in (0, 4)] == [c for c in before if c in (0, 4)]
    else:
        assert result == list(before)


def test_borda_and_kemeny_part_where_a_majority_and_the_mean_rank_do() -> None:
    a, b, c = 0, 1, 2
    orders = [[a, b, c]] * 3 + [[b, c, a]] * 2
    assert borda(orders, [a, b, c]) == [b, a, c]
    assert kemeny(orders, [a, b, c]) == [a, b, c]
    assert medoid(orders, [c, b, a]) == [a, b, c]


@pytest.mark.parametrize(("before", "first"), [([0, 1, 2], [0, 1, 2]), ([1, 0, 2], [1, 2, 0]), ([2, 1, 0], [2, 0, 1])])
def test_a_circle_is_cut_by_the_order_before(before: list[int], first: list[int]) -> None:
    assert kemeny([[0, 1, 2], [1, 2, 0], [2, 0, 1]], before) == first


# --- Kemeny


@given(election=elections(most=6))
def test_kemeny_is_the_first_of_all_orders_with_the_fewest_discordant_pairs(
    election: tuple[list[list[int]], list[int]],
) -> None:
    orders, before = election
    best = min(permutations(before), key=lambda order: total(order, orders))
    assert kemeny(orders, before) == list(best)


@pytest.mark.parametrize("seed", range(4))
def test_kemeny_is_exact_for_seven_that_contradict_one_another(seed: int) -> None:
    shuffler = random.Random(seed)
    orders = [shuffler.sample(range(7), 7) for _ in range(3)]
    best = min(permutations(range(7)), key=lambda order: total(order, orders))
    assert kemeny(orders, range(7)) == list(best)


@given(election=elections(least=1, most=14, votes=7))
def test_who_beats_all_others_is_kemenys_first(election: tuple[list[list[int]], list[int]]) -> None:
    orders, before = election

    def beats(a: int, b: int) -> bool:
        return 2 * sum(order.index(a) < order.index(b) for order in orders) > len(orders)

    winners = [a for a in before if all(beats(a, b) for b in before if b != a)]
    assume(winners)
    assert kemeny(orders, before)[0] == winners[0]


@pytest.mark.parametrize("n", [9, 12, 40])
@pytest.mark.parametrize("votes", [2, 3, 4, 8])
def test_beyond_eight_kemeny_is_no_worse_than_borda_and_no_move_helps(n: int, votes: int) -> None:
    shuffler = random.Random(votes)
    orders = [shuffler.sample(range(n), n) for _ in range(votes)]
    order = kemeny(orders, range(n))
    cost = total(order, orders)
    assert sorted(order) == list(range(n))
    assert cost <= total(borda(orders, range(n)), orders)
    for candidate in range(0, n, 3):
        rest = [c for c in order if c != candidate]
        assert all(cost <= total([*rest[:i], candidate, *rest[i:]], orders) for i in range(n))


def test_kemeny_is_exact_for_a_long_list_of_small_circles() -> None:
    blocks = [range(first, first + 5) for first in range(0, 100, 5)]
    shuffler = random.Random(1)
    orders = [[c for block in blocks for c in shuffler.sample(block, 5)] for _ in range(3)]
    best = [
        c
        for block in blocks
        for c in min(
            permutations(block), key=lambda order: total(order, [[c for c in o if c in order] for o in orders])
        )
    ]
    assert kemeny(orders, range(100)) == best


# --- reciprocal ranks, medoid, majority


def test_reciprocal_ranks() -> None:
    orders = [[0, 1, 2, 3], [3, 0, 1, 2], [3, 2, 0, 1]]
    score = {c: sum(1 / (60 + order.index(c) + 1) for order in orders) for c in range(4)}
    assert rrf(orders, range(4)) == sorted(range(4), key=lambda c: -score[c]) == [3, 0, 1, 2]
    assert rrf(orders, range(4), weights=[1, 0, 0]) == orders[0]
    assert rrf(orders, range(4), weights=[0.5, 0.3, 0.2]) == [0, 3, 1, 2]


@given(st.permutations(range(3)), st.integers(1, 200))
def test_equal_reciprocal_ranks_are_a_tie_however_they_are_added(before: Sequence[int], k: int) -> None:
    assert rrf([[0, 1, 2], [1, 2, 0], [2, 0, 1]], before, k=k) == list(before)


@given(elections(least=1))
def test_the_medoid_is_a_vote_and_none_is_nearer(election: tuple[list[list[int]], list[int]]) -> None:
    orders, before = election
    assume(orders)
    found = medoid(orders, before)
    assert found in orders
    assert total(found, orders) == min(total(order, orders) for order in orders)


def test_majority() -> None:
    assert majority([2, 1, 2], [0, 1, 2]) == 2
    assert majority([2, 1], [0, 1, 2]) == 1
    assert majority([2, 1], [2, 1, 0]) == 2


# --- how far they agree


@given(st.permutations(range(7)), st.permutations(range(7)), st.permutations(range(7)))
def test_kendalls_distance(a: Sequence[int], b: Sequence[int], c: Sequence[int]) -> None:
    apart = [(x, y) for x, y in combinations(range(7), 2) if (a.index(x) < a.index(y)) != (b.index(x) < b.index(y))]
    assert distance(a, b) == distance(b, a) == len(apart) / 21
    assert distance(a, a) == 0
    assert distance(a, a[::-1]) == 1
    assert discordant(a, c) <= discordant(a, b) + discordant(b, c)


@pytest.mark.parametrize("order", [[], [5]])
def test_there_is_no_distance_without_a_pair(order: list[int]) -> None:
    assert distance(order, order) == 0


def test_agreement_is_over_pairs_of_votes() -> None:
    assert agreement([]) is None
    assert agreement([[0, 1, 2]]) is None
    assert agreement([[0, 1, 2], [0, 1, 2]]) == 1
    assert agreement([[0, 1, 2], [0, 1, 2], [2, 1, 0]]) == pytest.approx(1 / 3)


def test_support_of_a_rank_is_the_share_with_that_candidate_as_high() -> None:
    orders = [[0, 1, 2, 3], [0, 2, 1, 3], [3, 0, 1, 2]]
    assert support(orders, [0, 1, 2, 3], samples=3) == (2 / 3, 1 / 3, 2 / 3, 1)
    assert support(orders, [0, 1, 2, 3], samples=4) == (2 / 4, 1 / 4, 2 / 4, 3 / 4)
    assert support([], [0, 1], samples=4) == (0, 0)


@given(election=elections(least=1), silent=st.integers(0, 3))
def test_support_is_a_share(election: tuple[list[list[int]], list[int]], silent: int) -> None:
    orders, before = election
    assume(orders)
    asked = len(orders) + silent
    found = support(orders, before, asked)
    assert all(0 <= share <= 1 for share in found)
    assert found[-1] == len(orders) / asked
    assert support([before] * asked, before, asked) == (1,) * len(before)
