"""The cost of a request while a run goes on: exact, simulated once for each number of candidates, off the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from pyserini_reasonrank.records import Candidate, Query, Ranking, Request
from pyserini_reasonrank.rerankers.call_store import MemoryStore
from pyserini_reasonrank.run import cost
from pyserini_reasonrank.run.cost import Cost, estimate
from pyserini_reasonrank.run.parts import Plan
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.run.session import Session
from pyserini_reasonrank.settings import layers


def request(n: int) -> Request:
    return Request(Query(str(n), "query"), tuple(Candidate(f"d{i}", -float(i), f"text {i}") for i in range(n)), n)


def made(qrels: str) -> Plan:
    return plan(*layers.load("acurank", {"engine": {"name": "oracle", "qrels": qrels}}))


def test_a_simulation_leaves_the_event_loop_free(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "qrels").write_text("q 0 d 1\n")
    count, ticked, simulated = cost.count, threading.Event(), list[bool]()

    def slow(ranking: Callable[..., Any]) -> Cost:
        simulated.append(ticked.wait(10))
        return count(ranking)

    async def stream() -> Any:
        for n in (3, 4, 3):
            ticked.clear()
            asyncio.get_running_loop().call_later(0.01, ticked.set)
            yield request(n)

    async def main() -> list[Ranking]:
        plan_ = made(str(tmp_path / "qrels"))
        session, done = Session(plan_, MemoryStore()), list[Ranking]()
        for engine in plan_.engines:
            await engine.start()
        monkeypatch.setattr(cost, "count", slow)
        await session.rerank_all(stream(), done.append)
        found = [(await session.cost(request(n))).questions for n in (3, 4)]
        assert found == [estimate(made(str(tmp_path / "qrels")), n).questions for n in (3, 4)]
        return done

    assert len(asyncio.run(asyncio.wait_for(main(), 60))) == 3
    assert simulated[:2] == [True, True]
