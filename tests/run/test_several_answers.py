"""Questions that are asked several times, in rounds or in a second stage: order, cost, journal and unreadable answers."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import Collection, RunReranker

from pyserini_reasonrank.ir.metadata import RunRecord
from pyserini_reasonrank.ir.runs import read_run
from pyserini_reasonrank.records import Candidate, Query, Request
from pyserini_reasonrank.run.cost import estimate
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.settings import layers


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("retro-star", {}),
        ("retro-star", {"strategy": {"k": 5, "samples": 3}, "judge": {"votes": 2}}),
        ("grouprank", {"strategy": {"rounds": 6, "window_size": 10}}),
        ("grouprank", {"strategy": {"rounds": 3}, "judge": {"form": "json"}, "prompt": "grades-json"}),
        ("retro-star", {"as": "published"}),
        ("grouprank", {"as": "published"}),
    ],
)
def test_the_best_order_in_as_many_calls_as_predicted_each_of_them_in_the_journal(
    name: str, flags: dict[str, Any], collection: Collection, run_reranker: RunReranker
) -> None:
    flags = {**flags, "engine": {"name": "oracle", "qrels": str(collection.qrels)}}
    made, outcome = plan(*layers.load(name, flags)), run_reranker(name, flags)
    predicted = sum(estimate(made, len(request.candidates)).calls for request in collection.requests)
    assert (outcome.tally.calls, outcome.tally.from_journal) == (predicted, 0)
    assert outcome.tally.statuses == {"ok": predicted}
    with closing(sqlite3.connect(outcome.journal)) as journal:
        assert journal.execute("SELECT COUNT(DISTINCT key) FROM calls").fetchone() == (predicted,)
    found = read_run(outcome.output)
    for request in collection.requests:
        grades = collection.grades[request.query.qid]
        best = sorted((c.docid for c in request.candidates), key=lambda docid: -grades[docid])
        assert [hit.docid for hit in found.get(request.query.qid, ())] == best
    again = run_reranker(name, {**flags, "overwrite": True})
    assert (again.tally.calls, again.tally.from_journal) == (0, predicted)


def recorded(
    run: RunReranker, folder: Path, reranker: str, answers: Sequence[str], flags: Mapping[str, Any]
) -> tuple[str, RunRecord]:
    """The order that ``reranker`` gives d1 to d5 by recorded answers, one per call."""
    path = folder / "answers.jsonl"
    path.write_text("".join(json.dumps({"qid": "q", "call": i, "response": a}) + "\n" for i, a in enumerate(answers)))
    request = Request(Query("q", "why"), tuple(Candidate(f"d{i}", 9.0 - i, f"text {i}") for i in range(1, 6)))
    outcome = run(reranker, {"engine": {"name": "recorded", "path": str(path)}, "max_bad": 1.0, **flags}, [request])
    [hits] = read_run(outcome.output).values()
    return " ".join(hit.docid for hit in hits), outcome


@pytest.mark.parametrize(("how", "order"), [("careful", "d5 d2 d1 d4 d3"), ("published", "d5 d1 d3 d2 d4")])
def test_a_group_without_readable_grades_keeps_its_ranks_or_has_zeros(
    how: str, order: str, run_reranker: RunReranker, tmp_path: Path
) -> None:
    grades = '<reason>r</reason><answer>\n```json\n{"[1]": 5, "[2]": 3, "[3]": 8}\n```\n</answer>'
    flags = {"as": how, "strategy": {"rounds": 1, "window_size": 3}, "judge": {"form": "json", "repair": "none"}}
    found, outcome = recorded(run_reranker, tmp_path, "grouprank", [grades, "<answer>all good</answer>"], flags)
    assert (found, outcome.tally.statuses) == (order, {"ok": 1, "empty": 1})


def score(*scores: object) -> list[str]:
    return [f"It does.\n<score>{score}</score>" for score in scores]


@pytest.mark.parametrize(("how", "order"), [("careful", "d3 d4 d5 d2 d1"), ("published", "d4 d3 d5 d2 d1")])
def test_an_unreadable_sample_is_left_out_of_the_mean_or_counts_zero(
    how: str, order: str, run_reranker: RunReranker, tmp_path: Path
) -> None:
    answers = [*score(10, 20, 90, 80, 70), *score(60, "high"), *score(40, 50)]
    flags = {"as": how, "strategy": {"k": 2, "samples": 2}, "judge": {"repair": "none"}}
    found, outcome = recorded(run_reranker, tmp_path, "retro-star", answers, flags)
    assert (found, outcome.tally.statuses) == (order, {"ok": 8, "empty": 1})


def test_odd_scores_and_grades_are_counted(run_reranker: RunReranker, tmp_path: Path) -> None:
    flags = {"strategy": {"name": "pointwise"}, "judge": {"repair": "none"}}
    answers = [*score("40/100", "80-100", 60), "It does.\n90", "<score>8"]
    found, outcome = recorded(run_reranker, tmp_path, "retro-star", answers, flags)
    assert found == "d4 d2 d3 d1 d5"  # d2 has no clear score
    assert outcome.tally.statuses == {"ok": 2, "repaired": 2, "empty": 1}
