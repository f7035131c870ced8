"""How many calls of one query follow one another, by strategy, and the quality that they reach with an oracle.

    python tests/benchmarks/latency.py

With an engine that takes the same time for every call, the latency of a query is the number of these rounds. Nothing is
timed: the figures are the same on every machine.
"""

from __future__ import annotations

import asyncio
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log2
from typing import Any

from pyserini_reasonrank.ir.tables import table
from pyserini_reasonrank.strategies import STRATEGIES

QUERIES, CANDIDATES, TOP = 43, 100, 10
COMPARED: Mapping[str, Mapping[str, Any]] = {
    "sliding": {"window_size": 20, "stride": 10},
    "pivot": {"window_size": 20, "k": 10},
}
GRADES = 55 * [0] + 25 * [1] + 13 * [2] + 7 * [3]


@dataclass(frozen=True)
class Reached:
    """Means over the queries: rounds of calls, calls, and nDCG@10."""

    rounds: float
    calls: float
    ndcg: float


class Rounds:
    """A judge that answers all waiting calls at once, when no further one can come without an answer."""

    def __init__(self, grades: Sequence[int]) -> None:
        self._grades = grades
        self._waiting: list[asyncio.Future[None]] = []
        self.rounds = self.calls = 0

    async def __call__(self, indices: Sequence[int], label: str = "", keep: int | None = None) -> list[int]:
        self.calls += 1
        answered = asyncio.get_running_loop().create_future()
        self._waiting.append(answered)
        await answered
        return sorted(indices, key=lambda i: -self._grades[i])

    async def answer(self) -> None:
        """Answer calls, round after round, until cancelled."""
        while True:
            calls = -1
            while calls != self.calls or not self._waiting:
                calls = self.calls
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            self.rounds += 1
            waiting, self._waiting = self._waiting, []
            for answered in waiting:
                answered.set_result(None)


def first_stage(seed: int) -> list[int]:
    """The grades of a query's candidates in the order of a first stage that is fair: grade plus noise."""
    drawn = random.Random(seed)
    return sorted(GRADES, key=lambda grade: -(grade + drawn.gauss(0, 2)))


def ndcg(grades: Sequence[int]) -> float:
    """The nDCG@10 of a list of grades, among all of them."""

    def dcg(best: Sequence[int]) -> float:
        return sum((2.0**grade - 1) / log2(rank + 1) for rank, grade in enumerate(best[:TOP], 1))

    return dcg(grades) / dcg(sorted(grades, reverse=True))


async def ranked(name: str, grades: Sequence[int]) -> tuple[int, int, float]:
    """Rounds, calls and nDCG@10 of one query."""
    judge = Rounds(grades)
    answering = asyncio.create_task(judge.answer())
    order = await STRATEGIES[name].function(len(grades), judge, **COMPARED[name])
    answering.cancel()
    return judge.rounds, judge.calls, ndcg([grades[i] for i in order])


def reached(name: str) -> Reached:
    """What a strategy reaches on the simulated queries."""
    found = [asyncio.run(ranked(name, first_stage(seed))) for seed in range(QUERIES)]
    rounds, calls, quality = (statistics.fmean(column) for column in zip(*found, strict=True))
    return Reached(rounds, calls, quality)


def main() -> None:
    rows = [(name, reached(name)) for name in COMPARED]
    cells = [[name, f"{r.rounds:.1f}", f"{r.calls:.1f}", f"{r.ndcg:.4f}"] for name, r in rows]
    print(table(["strategy", "rounds", "calls", "nDCG@10"], cells, left=(0,)))


if __name__ == "__main__":
    main()
