"""Statistics of calls: counts by query, copied orders, quantiles and histograms."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyserini_reasonrank.journal_reader import JudgementRecord
from pyserini_reasonrank.records import Status
from pyserini_reasonrank.report.call_statistics import BINS, distribution, statistics_of


def record(qid: str, order: tuple[int, ...], status: Status = Status.OK, output: int = 10) -> JudgementRecord:
    docids = tuple(f"d{position}" for position in range(len(order)))
    return JudgementRecord(qid, "", docids, order, status, 1, 100, output, 0.5)


def test_orders_are_copied_where_an_answer_left_several_documents_as_shown() -> None:
    found = statistics_of(
        [
            record("q1", (0, 1, 2)),
            record("q1", (1, 0, 2), Status.REPAIRED),
            record("q1", (0, 1, 2), Status.REFUSED),  # the fallback, not a copy of the model's
            record("q2", (0,)),
        ]
    )
    first, second = found.by_query["q1"], found.by_query["q2"]
    assert (first.comparable, first.copied, first.bad) == (2, 1, 1)
    assert (second.comparable, second.copied, second.bad) == (0, 0, 0)
    total = found.as_json()
    assert (total["judgements"], total["copied"], total["comparable"]) == (4, 1, 2)
    assert (total["prompt"], total["output"], total["seconds"]) == (400, 40, 2.0)
    assert total["statuses"] == {"ok": 2, "repaired": 1, "refused": 1}


def test_quantiles_are_values_that_occur() -> None:
    found = distribution([float(value) for value in range(1, 101)])
    assert (found["p50"], found["p90"], found["p99"], found["max"]) == (50, 90, 99, 100)
    assert found["mean"] == pytest.approx(50.5)


def test_nothing_and_equal_values_have_a_distribution() -> None:
    assert distribution([]) == {"count": 0}
    found = distribution([7.0, 7.0])
    assert (found["low"], found["bins"], found["p50"]) == (7, [2], 7)


@given(st.lists(st.floats(0, 1e7), min_size=1, max_size=60))
def test_every_value_is_in_one_bin(values: list[float]) -> None:
    found = distribution(values)
    assert sum(found["bins"]) == len(values)
    assert len(found["bins"]) <= BINS + 2
    assert found["low"] <= min(values)
