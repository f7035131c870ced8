"""Rank-biased overlap by its published equation, and Kendall's tau by counting pairs."""

import random
from collections.abc import Sequence
from itertools import combinations

import pytest

from pyserini_reasonrank.ir.rank_similarity import kendall_tau, rank_biased_overlap, similarity


def equation_32(one: Sequence[str], other: Sequence[str], p: float) -> float:
    """Extrapolated RBO, term by term."""
    short, long = sorted((one, other), key=len)
    s, n = len(short), len(long)

    def x(depth: int) -> int:
        return len({*short[:depth]} & {*long[:depth]})

    seen = sum(x(d) / d * p**d for d in range(1, n + 1))
    assumed = sum(x(s) * (d - s) / (s * d) * p**d for d in range(s + 1, n + 1))
    return (1 - p) / p * (seen + assumed) + ((x(n) - x(s)) / n + x(s) / s) * p**n


def test_rbo_by_hand() -> None:
    """Agreement 1, 1/2, 1: 0.1 (1 + 0.9 / 2 + 0.81) + 0.729."""
    assert rank_biased_overlap("abc", "acb") == pytest.approx(0.955)


def test_rbo_of_equal_and_of_disjoint_rankings() -> None:
    assert rank_biased_overlap("abcd", "abcd") == pytest.approx(1)
    assert rank_biased_overlap("abcd", "ab") == pytest.approx(1)
    assert rank_biased_overlap("abcd", "efg") == 0


@pytest.mark.parametrize("seed", range(20))
def test_rbo_is_the_published_equation(seed: int) -> None:
    rng = random.Random(seed)
    documents = [str(number) for number in range(30)]
    one, other = (rng.sample(documents, rng.randint(1, 25)) for _ in range(2))
    for p in (0.5, 0.9, 0.98):
        expected = equation_32(one, other, p)
        assert rank_biased_overlap(one, other, p) == pytest.approx(expected)
        assert rank_biased_overlap(other, one, p) == pytest.approx(expected)


def test_tau_counts_pairs_of_shared_documents() -> None:
    one, other = "abcdex", "ybdaec"
    shared = [docid for docid in one if docid in other]
    signs = [1 if other.index(a) < other.index(b) else -1 for a, b in combinations(shared, 2)]
    assert kendall_tau(one, other) == pytest.approx(sum(signs) / len(signs))
    assert kendall_tau("abc", "cba") == pytest.approx(-1)
    assert kendall_tau("ab", "bx") is None


def test_runs_have_the_means_over_shared_queries() -> None:
    found = similarity({"1": ["a", "b", "c"], "2": ["a"], "3": ["a"]}, {"1": ["a", "c", "b"], "2": ["a"], "4": ["a"]})
    assert found.queries == 2
    assert [found.rbo, found.tau] == pytest.approx([(0.955 + 1) / 2, 1 / 3])
    nothing = similarity({"1": ["a"]}, {"2": ["a"]})
    assert (nothing.queries, nothing.rbo, nothing.tau) == (0, None, None)
