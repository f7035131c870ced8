"""Independent questions of one query run at once: with an engine of constant latency, a query takes its chain of them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from pyserini_reasonrank.engines.oracle import Oracle, OracleOptions
from pyserini_reasonrank.journal import Journal
from pyserini_reasonrank.models.catalogue import Model
from pyserini_reasonrank.records import Call, Candidate, Completion, Prompt, Query, Ranked, Request, Sampling
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.run.session import Session
from pyserini_reasonrank.settings import layers

QUIET = 20  # turns of the event loop, 5 ms each, without a new call: no answer is awaited but those of the engine
REQUEST = Request(Query("q", "a query"), tuple(Candidate(f"d{i}", 100.0 - i, f"Passage {i}.") for i in range(100)))


class Rounds(Oracle):
    """The oracle, which answers all waiting calls at once, when no further call comes.

    The time of a query with constant latency is the number of such rounds, on a machine of any load.
    """

    def __init__(self, model: Model, options: OracleOptions) -> None:
        super().__init__(model, options)
        self.rounds = self.arrived = 0
        self.gate = asyncio.Event()

    async def generate(self, prompt: Prompt, sampling: Sampling, call: Call) -> Completion:
        self.arrived += 1
        await self.gate.wait()
        return await super().generate(prompt, sampling, call)

    async def answer(self) -> None:
        """Answer round after round, until cancelled."""
        answered = 0
        while True:
            seen = -1
            while seen != self.arrived or seen == answered:
                seen = self.arrived
                for _ in range(QUIET):
                    await asyncio.sleep(0.005)
            answered, gate, self.gate = seen, self.gate, asyncio.Event()
            self.rounds += 1
            gate.set()


def rounds(name: str, folder: Path, grades: Mapping[str, int]) -> tuple[int, Ranked]:
    """How many rounds one query of 100 candidates takes."""
    qrels = folder / "qrels.txt"
    qrels.write_text("".join(f"q 0 {docid} {grade}\n" for docid, grade in grades.items()))
    engine = Rounds(Model("oracle", "oracle"), OracleOptions(qrels=str(qrels)))
    made = plan(*layers.load(name, {"engine": {"name": "oracle", "qrels": str(qrels)}}), engine=engine)

    async def ranked() -> Ranked:
        await engine.start()
        journal = Journal(folder / "journal.sqlite", name)
        answering = asyncio.ensure_future(engine.answer())
        found = (await Session(made, journal).rerank(REQUEST)).ranked
        answering.cancel()
        journal.close()
        return found

    found = asyncio.run(ranked())
    return engine.rounds, found


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("reasonrank", 9, 9),  # sliding window: a chain of nine
        ("dranker", 1, 1),
        ("rank1", 2, 2),  # all at once: the thoughts, then the answers
        ("erank", 2, 2),
        ("retro-star", 3, 3),  # 480 answers of the second stage are more than the calls in flight
        ("grouprank", 1, 1),
        ("tourrank", 5, 5),
        ("pivot", 3, 6),
        ("blitzrank", 2, 4),
        ("coranking", 10, 10),
    ],
)
def test_a_query_takes_its_chain_of_rounds(name: str, least: int, most: int, tmp_path: Path) -> None:
    grades = {f"d{i}": 130 - i + (37 * i) % 60 for i in range(100)}  # a first stage that is fair, not good
    taken, ranked = rounds(name, tmp_path, grades)
    assert sorted(ranked.order) == list(range(100))
    assert least <= taken <= most
