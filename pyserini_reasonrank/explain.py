"""What a strategy will cost before anything is loaded: it is run against a judge that only counts."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pyserini_reasonrank.judges import Judge
from pyserini_reasonrank.strategies import Strategy


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one query: questions asked, the longest chain of dependent ones, passages shown over all of them, and in
    the widest."""

    calls: int
    chain: int
    shown: int
    widest: int


def predict(strategy: Strategy, judge: type[Judge], n: int, options: Mapping[str, Any]) -> Cost:
    """The cost of ``strategy`` over ``n`` candidates whose order no answer changes.

    Exact for strategies whose questions do not depend on the answers, the case of a good first stage for the others.
    """
    return _predict(strategy, judge, n, tuple(sorted(options.items())))


@lru_cache(maxsize=1024)
def _predict(strategy: Strategy, judge: type[Judge], n: int, options: tuple[tuple[str, Any], ...]) -> Cost:
    with ThreadPoolExecutor(1) as thread:  # a loop of its own: the caller may be on one
        return thread.submit(asyncio.run, _count(strategy, judge, n, dict(options))).result()


async def _count(strategy: Strategy, judge: type[Judge], n: int, options: Mapping[str, Any]) -> Cost:
    waiting: list[tuple[asyncio.Future[None], int]] = []
    calls = chain = shown = widest = 0

    async def counted(indices: Sequence[int]) -> Any:
        answered = asyncio.get_running_loop().create_future()
        waiting.append((answered, len(indices)))
        await answered
        return judge.unmoved(indices)

    task = asyncio.ensure_future(strategy(n, counted, **options))
    while not task.done():
        known = -1
        while known != len(waiting) and not task.done():  # until everything that can ask has asked
            known = len(waiting)
            for _ in range(4):
                await asyncio.sleep(0)
        chain += bool(waiting)
        calls += len(waiting)
        shown += sum(size for _, size in waiting)
        widest = max([widest, *(size for _, size in waiting)])
        for answered, _ in waiting:
            answered.set_result(None)
        waiting.clear()
    task.result()
    return Cost(calls, chain, shown, widest)
