"""The perfect assessor over real candidates: what each reranker can reach at best, through prompt, parser and strategy."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from pyserini_reasonrank.ir.evaluate import evaluate
from pyserini_reasonrank.ir.metadata import RunRecord
from pyserini_reasonrank.ir.qrels import read_qrels
from pyserini_reasonrank.ir.runs import read_run
from pyserini_reasonrank.records import Request, Status
from pyserini_reasonrank.run.candidates import read_requests, stream
from pyserini_reasonrank.run.pipeline import Task, rerank
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.settings import layers

BEST = 0.8922
"""nDCG@10 of the best order of BM25's top 100, from the collection's README."""


@cache
def requests(folder: Path) -> list[Request]:
    return list(read_requests(folder / "run.bm25.txt", folder / "topics.tsv", folder / "corpus.jsonl", 100))


def reranked(data: Path, name: str, output: Path, **flags: Any) -> RunRecord:
    folder = data / "msmarco-v1-dl19"
    made = plan(*layers.load(name, {"engine": {"name": "oracle", "qrels": str(folder / "qrels.txt")}, **flags}))
    task = Task(stream(iter(requests(folder))), output, folder / "run.bm25.txt", "topics.tsv", ["rerank"])
    outcome = asyncio.run(rerank(made, task))
    assert outcome.tally.statuses.keys() == {Status.OK}
    assert outcome.topics == outcome.answered == 43
    return outcome


def ndcg(data: Path, outcome: RunRecord) -> float:
    folder = data / "msmarco-v1-dl19"
    report = evaluate(folder / "qrels.txt", folder / "run.bm25.txt", [outcome.output], ["nDCG@10"])
    return report.runs[0].scores[0].value


def gains(data: Path, outcome: RunRecord, k: int) -> dict[str, tuple[Sequence[int], Sequence[int]]]:
    """For each query the grades of the top ``k`` as they are, and as they should be."""
    qrels = read_qrels(data / "msmarco-v1-dl19" / "qrels.txt")
    found: dict[str, tuple[Sequence[int], Sequence[int]]] = {}
    for qid, hits in read_run(outcome.output).items():
        assert len(hits) == 100
        grades = [qrels[qid].get(hit.docid, 0) for hit in hits]
        found[qid] = grades[:k], sorted(grades, reverse=True)[:k]
    return found


@pytest.mark.parametrize("name", ["reasonrank", "rankgpt", "first"])
def test_sliding_20_10_brings_the_exact_top_10(data: Path, name: str, tmp_path: Path) -> None:
    outcome = reranked(data, name, tmp_path / "run.txt")
    assert outcome.tally.judgements == 43 * 9
    top = gains(data, outcome, 10)
    assert len(top) == 43
    assert [qid for qid, (found, best) in top.items() if found != best] == []
    assert ndcg(data, outcome) == pytest.approx(BEST, abs=5e-5)


def test_the_full_list_in_one_call_is_the_best_order(data: Path, tmp_path: Path) -> None:
    outcome = reranked(data, "reasonrank", tmp_path / "run.txt", strategy={"name": "full"})
    assert outcome.tally.judgements == 43
    assert [qid for qid, (found, best) in gains(data, outcome, 100).items() if found != best] == []
    assert ndcg(data, outcome) == pytest.approx(BEST, abs=5e-5)


def test_scores_give_the_best_order_too(data: Path, tmp_path: Path) -> None:
    outcome = reranked(data, "rank1", tmp_path / "run.txt")
    assert (outcome.tally.judgements, outcome.tally.calls) == (4300, 8600)  # a thought and an answer each
    assert [qid for qid, (found, best) in gains(data, outcome, 100).items() if found != best] == []
    assert ndcg(data, outcome) == pytest.approx(BEST, abs=5e-5)


def test_grades_give_the_best_order_of_what_they_are_asked_about(data: Path, tmp_path: Path) -> None:
    scored = reranked(data, "erank", tmp_path / "erank.txt", depth=20)
    listed = reranked(data, "reasonrank", tmp_path / "reasonrank.txt", depth=20)
    assert scored.tally.judgements == 43 * 20
    assert gains(data, scored, 100) == gains(data, listed, 100)


def test_expected_grades_give_it_too(data: Path, tmp_path: Path) -> None:
    halved = reranked(data, "orderchain", tmp_path / "orderchain.txt", depth=20)
    listed = reranked(data, "reasonrank", tmp_path / "reasonrank.txt", depth=20)
    assert (halved.tally.judgements, halved.tally.calls) == (43 * 20, 43 * 20 * 8)  # a thought and seven decisions each
    assert gains(data, halved, 100) == gains(data, listed, 100)


def test_grades_of_groups_give_the_best_order(data: Path, tmp_path: Path) -> None:
    outcome = reranked(data, "grouprank", tmp_path / "run.txt", judge={"constrain": True, "shuffle": True})
    assert (outcome.tally.judgements, outcome.tally.calls) == (43 * 5, 43 * 5)
    assert [qid for qid, (found, best) in gains(data, outcome, 100).items() if found != best] == []


def test_depth_20_reaches_what_the_top_20_holds(data: Path, tmp_path: Path) -> None:
    outcome = reranked(data, "reasonrank", tmp_path / "run.txt", depth=20)
    assert outcome.tally.judgements == 43
    first = read_run(data / "msmarco-v1-dl19" / "run.bm25.txt")
    for qid, hits in read_run(outcome.output).items():
        assert [hit.docid for hit in hits[20:]] == [hit.docid for hit in first[qid][20:]]
    assert 0.5058 < ndcg(data, outcome) < BEST
