"""Which replica answers a call, and what happens to the calls of a replica that dies. No cluster is needed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from itertools import pairwise
from typing import Any

import pytest

from pyserini_reasonrank.engines.replica_pool import Replica, ReplicaDied, ReplicaPool
from pyserini_reasonrank.errors import Failure
from pyserini_reasonrank.records import Completion

Pool = ReplicaPool[str]


async def pool_of(*names: str, retries: int = 3, wait: float = 5.0) -> Pool:
    pool = Pool(retries, wait)
    for number, name in enumerate(names, 1):
        await pool.join(Replica(number, name))
    return pool


async def answer(name: str) -> Completion:
    await asyncio.sleep(0)
    return Completion(name)


def died(*dead: str) -> Callable[[str], Awaitable[Completion]]:
    async def send(name: str) -> Completion:
        if name in dead:
            raise ReplicaDied(f"{name} ended")
        return await answer(name)

    return send


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


def test_the_calls_of_a_query_go_to_one_replica() -> None:
    async def test() -> None:
        pool = await pool_of("a", "b", "c")

        async def query(qid: str) -> set[str]:
            return {(await pool.ask(qid, answer)).text for _ in range(20)}

        used = await asyncio.gather(*(query(str(number)) for number in range(9)))
        assert all(len(names) == 1 for names in used)
        assert Counter(name for names in used for name in names) == {"a": 3, "b": 3, "c": 3}

    run(test())


def test_a_new_query_goes_to_the_replica_with_the_fewest_calls() -> None:
    async def test() -> None:
        pool = await pool_of("a", "b")
        gate = asyncio.Event()

        async def slow(name: str) -> Completion:
            await gate.wait()
            return Completion(name)

        first = [asyncio.create_task(pool.ask("one", slow)) for _ in range(2)]
        await asyncio.sleep(0)
        assert (await pool.ask("two", answer)).text == "b"
        gate.set()
        assert {(await task).text for task in first} == {"a"}

    run(test())


def test_queries_move_to_a_replica_that_joins_later() -> None:
    async def test() -> None:
        pool = await pool_of("a")

        async def query(qid: str) -> list[str]:
            return [(await pool.ask(qid, answer)).text for _ in range(10)]

        tasks = [asyncio.create_task(query(str(number))) for number in range(8)]
        await asyncio.sleep(0)
        await pool.join(Replica(2, "b"))
        used = [await task for task in tasks]
        last = Counter(names[-1] for names in used)
        assert min(last["a"], last["b"]) >= 2
        moves = sum(one != next_one for names in used for one, next_one in pairwise(names))
        assert moves <= 8  # each query at most once

    run(test())


def test_a_call_of_a_dead_replica_is_asked_again_elsewhere() -> None:
    async def test() -> None:
        pool = await pool_of("a", "b")
        assert (await pool.ask("q", died("a"))).text == "b"
        assert pool.handles == ["b"]
        assert pool.asked_again == 1
        assert (await pool.ask("q", answer)).text == "b"

    run(test())


def test_a_call_that_ends_every_replica_is_an_error_and_is_not_asked_forever() -> None:
    async def test() -> None:
        pool = await pool_of("a", "b", "c", "d", retries=2)
        completion = await pool.ask("q", died("a", "b", "c", "d"))
        assert completion.error == "the replica died in each of 3 attempts (c ended)"
        assert completion.finish_reason == "error"
        assert pool.handles == ["d"]
        assert pool.asked_again == 2

    run(test())


def test_a_call_waits_for_a_replica_and_not_forever() -> None:
    async def test() -> None:
        pool = Pool(3, 5.0)
        waiting = asyncio.create_task(pool.ask("q", answer))
        await asyncio.sleep(0.01)
        await pool.join(Replica(1, "a"))
        assert (await waiting).text == "a"
        with pytest.raises(Failure, match=r"no replica was ready within 0\.01 seconds"):
            await Pool(3, 0.01).ask("q", answer)

    run(test())


def test_calls_fail_if_no_replica_will_be_ready() -> None:
    async def test() -> None:
        pool = Pool(3, 5.0)
        waiting = asyncio.create_task(pool.ask("q", answer))
        await asyncio.sleep(0)
        await pool.end("all replicas died")
        for call in (waiting, pool.ask("r", answer)):
            with pytest.raises(Failure, match="all replicas died"):
                await call

    run(test())
