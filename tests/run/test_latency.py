"""Independent questions of one query run at once: with an engine of constant latency, a query takes its chain of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pyserini_reasonrank.engines import Engine
from pyserini_reasonrank.engines.oracle import Oracle, OracleOptions
from pyserini_reasonrank.journal import Journal
from pyserini_reasonrank.models.catalogue import Model
from pyserini_reasonrank.records import Call, Candidate, Completion, Prompt, Query, Ranked, Request, Sampling
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.run.session import Session
from pyserini_reasonrank.settings import layers

LATENCY = 0.25
REQUEST = Request(Query("q", "a query"), tuple(Candidate(f"d{i}", 100.0 - i, f"Passage {i}.") for i in range(100)))


class Steady(Oracle):
    """The oracle, thinking for the same time whatever it is asked."""

    async def generate(self, prompt: Prompt, sampling: Sampling, call: Call) -> Completion:
        await asyncio.sleep(LATENCY)
        return await super().generate(prompt, sampling, call)


def latencies(name: str, folder: Path, grades: Mapping[str, int]) -> tuple[float, Ranked]:
    """How many latencies one query of 100 candidates takes."""
    qrels = folder / "qrels.txt"
    qrels.write_text("".join(f"q 0 {docid} {grade}\n" for docid, grade in grades.items()))
    engine: Engine[Any] = Steady(Model("oracle", "oracle"), OracleOptions(qrels=str(qrels)))
    made = plan(*layers.load(name, {"engine": {"name": "oracle", "qrels": str(qrels)}}), engine=engine)

    async def ranked() -> tuple[float, Ranked]:
        await engine.start()
        journal = Journal(folder / "journal.sqlite", name)
        session = Session(made, journal)
        began = time.monotonic()
        found = (await session.rerank(REQUEST)).ranked
        taken = time.monotonic() - began
        journal.close()
        return taken / LATENCY, found

    return asyncio.run(ranked())


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("reasonrank", 9, 9),  # sliding window: a chain of nine
        ("dranker", 1, 1),
        ("rank1", 2, 2),  # all side by side: the thoughts, then the answers
        ("erank", 2, 2),
        ("tourrank", 5, 5),
        ("pivot", 3, 6),
        ("coranking", 10, 10),
    ],
)
def test_a_query_takes_its_chain_of_latencies(name: str, least: int, most: int, tmp_path: Path) -> None:
    grades = {f"d{i}": 130 - i + (37 * i) % 60 for i in range(100)}  # a first stage that is fair, not good
    taken, ranked = latencies(name, tmp_path, grades)
    assert sorted(ranked.order) == list(range(100))
    assert least <= taken < most + 1  # less than one more: what the client itself does costs no round
