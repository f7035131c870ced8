"""Thousands of calls of which a fifth fail, with the default settings: no candidate is lost, and each fault is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from conftest import SOAK, RunReranker, more
from fault_server import ANSWERS, PASSING, RETRY_AFTER, FaultServer, serving

from pyserini_reasonrank.engines.openai import OpenAIOptions
from pyserini_reasonrank.errors import Failure
from pyserini_reasonrank.ir.runs import read_run
from pyserini_reasonrank.ir.validate import validate
from pyserini_reasonrank.records import Candidate, Query, Request, Status

QUERIES = 1112 if SOAK else 24  # of nine windows each
DEPTH = 100
MOST_TRIES = 1 + OpenAIOptions().max_retries
LEAST_WAIT = 0.37  # seconds: half a second, less a quarter at random


def requests(count: int, depth: int = DEPTH) -> list[Request]:
    return [
        Request(
            Query(f"q{number}", f"which passage of list {number} is worth most"),
            tuple(
                Candidate(
                    f"d{i}", float(depth - i), f"Passage of list {number} that is worth {(i * 37 + number) % 101}."
                )
                for i in range(depth)
            ),
            number,
        )
        for number in range(count)
    ]


def first_stage(folder: Path, asked: Sequence[Request]) -> Path:
    path = folder / "first.txt"
    rows = [
        f"{request.query.qid} Q0 {c.docid} {rank} {c.score} first\n"
        for request in asked
        for rank, c in enumerate(request.candidates, 1)
    ]
    path.write_text("".join(rows))
    return path


@pytest.mark.parametrize("dies", [False, *more(True)])
def test_a_fifth_of_all_calls_fail(dies: bool, run_reranker: RunReranker, tmp_path: Path) -> None:
    asked = requests(QUERIES)
    first = first_stage(tmp_path, asked)
    with serving(FaultServer(0.2, dies_after=len(asked) * 5 if dies else None)) as server:
        outcome = run_reranker(
            "reasonrank",
            {"engine": {"name": "openai", "base_url": server.url}, "passage_tokens": 100},
            asked,
            first_run=first,
        )

    assert not validate(outcome.output, first=first).findings
    ranked = {qid: [hit.docid for hit in hits] for qid, hits in read_run(outcome.output).items()}
    assert ranked.keys() == {request.query.qid for request in asked}
    for request in asked:
        assert sorted(ranked[request.query.qid]) == sorted(c.docid for c in request.candidates)

    assert 1 - server.drawn[""] / server.calls == pytest.approx(0.2, abs=0.02 if SOAK else 0.08)
    assert server.drawn.keys() >= {*PASSING, *ANSWERS}
    assert outcome.tally.judgements == 9 * len(asked)
    statuses = outcome.tally.statuses
    assert statuses[Status.ERROR] == 0
    assert statuses[Status.REFUSED] >= 1
    lost = answered(server)["answers"] - outcome.tally.calls  # answers on the way when the server died
    assert 0 <= lost <= (OpenAIOptions().concurrency if dies else 0)
    assert statuses[Status.OK] + sum(answered(server)[fault] for fault in ANSWERS) >= outcome.tally.judgements
    assert outcome.tally.bad <= outcome.tally.judgements * 0.05

    tries = [len(times) for times in server.times.values()]
    assert max(tries) <= MOST_TRIES + dies
    if not dies:
        assert all(gap >= least for gap, least in waits(server))


def answered(server: FaultServer) -> Counter[str]:
    """How many calls ended in an answer, by their fault; ``answers`` is their number."""
    faults = [fault for times in server.times.values() for _, fault in times if fault not in PASSING]
    return Counter([*faults, *(["answers"] * len(faults))])


def waits(server: FaultServer) -> list[tuple[float, float]]:
    """The seconds between two attempts, and the least that they may be."""
    found = []
    for times in server.times.values():
        for (at, fault), (again, _) in pairwise(times):
            if fault in PASSING:
                found.append((again - at, RETRY_AFTER if fault == "429 with a time" else LEAST_WAIT))
    return found


def test_calls_that_failed_together_do_not_return_together(run_reranker: RunReranker, tmp_path: Path) -> None:
    """The back-off has jitter, and a server that is gone for a while is not asked by everyone in the same moment."""
    asked = requests(40, depth=20)
    with serving(FaultServer(1.0, faults=("503",))) as server, pytest.raises(Failure, match="fault 503"):
        run_reranker(
            "reasonrank",
            {"engine": {"name": "openai", "base_url": server.url, "max_retries": 1}},
            asked,
            first_run=first_stage(tmp_path, asked),
        )
    gaps = sorted(times[1][0] - times[0][0] for times in server.times.values())
    assert len(gaps) == 40
    assert gaps[-1] - gaps[0] > 0.05
    assert all(len(times) == 2 for times in server.times.values())
