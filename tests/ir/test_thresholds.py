"""The choice of a threshold: the best mean F1 of all thresholds, however many scores there are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyserini_reasonrank.ir.thresholds import best_threshold, kept_at

docids = st.sampled_from("abcdefgh")
scores = st.one_of(st.none(), st.floats(0, 1).map(lambda value: round(value, 2)))
queries = st.sampled_from(["q1", "q2", "q3", "q4"])
runs = st.dictionaries(queries, st.dictionaries(docids, scores, max_size=6), min_size=1)
judgments = st.dictionaries(queries, st.dictionaries(docids, st.integers(0, 3), min_size=1), min_size=1)


@given(runs, judgments, st.integers(1, 3))
def test_no_other_threshold_is_better(
    run: dict[str, dict[str, float | None]], qrels: dict[str, dict[str, int]], least: int
) -> None:
    found = best_threshold(run, qrels, least)
    tried = {score for qid in run if qid in qrels for score in run[qid].values() if score is not None}
    if found is None:
        assert not tried
        return
    of_all = {score: kept_at(score, run, qrels, least).f1 for score in tried}
    assert kept_at(found, run, qrels, least).f1 == pytest.approx(max(of_all.values()))
    assert found <= max(score for score, f1 in of_all.items() if f1 == pytest.approx(max(of_all.values())))


def test_a_threshold_has_few_digits() -> None:
    run = {"q": {"a": 0.873481234, "b": 0.861234, "c": 0.2}}
    assert best_threshold(run, {"q": {"a": 1}}) == 0.87
    assert best_threshold(run, {"q": {"a": 1, "b": 1}}) == 0.8
    assert best_threshold({"q": {"a": 7.0, "b": 3.0}}, {"q": {"a": 1}}) == 7.0


def test_what_is_kept_is_counted() -> None:
    run = {"found": {"a": 0.9, "b": 0.1}, "nothing": {"c": 0.2}, "missed": {"d": 0.3}, "unjudged": {"e": 0.9}}
    qrels = {"found": {"a": 2}, "nothing": {"c": 0}, "missed": {"d": 1}, "unread": {"f": 1}}
    found = kept_at(0.5, run, qrels)
    assert found.f1 == pytest.approx((1 + 1 + 0) / 3)
    assert (found.queries, found.empty, found.right, found.without_relevant) == (3, 2, 1, 1)
    assert kept_at(0.5, {"q": {"a": None}}, {"q": {"a": 0}}).empty == 0  # an unreadable score is kept
