"""How fast a finished run is made again from its journal, without an engine.

    python tests/benchmarks/replay.py [--queries 100]

A run of the oracle fills a journal. It is then read call by call, and repeated with an engine that can neither start nor
answer: by windows of 20 passages, and by a pointwise judge with one passage a call. Rates are calls per second of CPU.
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scheduler import requests

from pyserini_reasonrank.engines.oracle import Oracle, OracleOptions
from pyserini_reasonrank.journal import Journal
from pyserini_reasonrank.models.catalogue import Model
from pyserini_reasonrank.records import Call, Completion, Prompt, Request, Sampling
from pyserini_reasonrank.run.candidates import stream
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.run.session import Session
from pyserini_reasonrank.settings import layers

LISTWISE, POINTWISE = "reasonrank", "rank1"


class Absent(Oracle):
    """The oracle's identity without its answers."""

    async def generate(self, prompt: Prompt, sampling: Sampling, call: Call) -> Completion:
        raise AssertionError(f"{call.qid}, call {call.number} is not in the journal")


@dataclass(frozen=True)
class Figures:
    """Calls per second of CPU: lookups in the journal, and whole runs."""

    lookups: float
    listwise: float
    pointwise: float


def rerank(engine: Oracle, name: str, qrels: Path, asked: list[Request], path: Path) -> tuple[int, int, float]:
    """Rerank ``asked``. Returns the judgements, those from the journal, and the seconds of CPU."""
    settings: dict[str, Any] = {"engine": {"name": "oracle", "qrels": str(qrels)}}

    async def run() -> Session:
        await engine.start()
        session = Session(plan(*layers.load(name, settings), engine=engine), journal)
        await session.rerank_all(stream(asked), lambda ranking: None)
        await journal.settle()
        return session

    began = time.process_time()
    with closing(Journal(path, "run")) as journal:
        tally = asyncio.run(run()).tally
    return tally.calls, tally.from_journal, time.process_time() - began


def measure_replay(queries: int) -> Figures:
    asked = requests(queries)
    rates, lookups = {}, 0.0
    with tempfile.TemporaryDirectory() as folder:
        qrels = Path(folder, "qrels.txt")
        qrels.write_text("".join(f"{r.query.qid} 0 {c.docid} 1\n" for r in asked for c in r.candidates[::7]))
        options, model = OracleOptions(qrels=str(qrels)), Model("oracle", "oracle")
        for name in (LISTWISE, POINTWISE):
            path = Path(folder, f"{name}.sqlite")
            made, *_ = rerank(Oracle(model, options), name, qrels, asked, path)
            _, found, seconds = rerank(Absent(model, options), name, qrels, asked, path)
            assert found == made
            rates[name] = found / seconds
        with closing(sqlite3.connect(path)) as connection:
            keys = [key for (key,) in connection.execute("SELECT key FROM calls")]
        with closing(Journal(path, "other")) as journal:
            began = time.process_time()
            assert all(journal.find(key) is not None for key in keys)
            lookups = len(keys) / (time.process_time() - began)
    return Figures(lookups, rates[LISTWISE], rates[POINTWISE])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=100)
    found = measure_replay(parser.parse_args().queries)
    print(f"lookups in the journal: {found.lookups:,.0f} calls a second")
    print(f"run of {LISTWISE} repeated: {found.listwise:,.0f} calls a second")
    print(f"run of {POINTWISE} repeated: {found.pointwise:,.0f} calls a second")
    return 0


if __name__ == "__main__":
    sys.exit(main())
