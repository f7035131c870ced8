"""Scheduling: width and priority of the semaphore, back-pressure, cancellation, the first failure ends it all."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyserini_reasonrank.errors import Failure
from pyserini_reasonrank.records import Query, Ranking, Request
from pyserini_reasonrank.rerankers.scheduling import MAX_OPEN_QUESTIONS, PrioritySemaphore, QueryLoad, rerank_all


def request(number: int) -> Request:
    return Request(Query(str(number), "text"), (), number)


async def requests(count: int, taken: list[int] | None = None) -> AsyncIterator[Request]:
    for number in range(count):
        if taken is not None:
            taken.append(number)
        yield request(number)


async def idle(rounds: int = 5) -> None:
    for _ in range(rounds):
        await asyncio.sleep(0)


@given(width=st.integers(1, 5), priorities=st.lists(st.integers(0, 4), max_size=30), data=st.data())
def test_the_width_is_never_exceeded_and_never_left_unused(
    width: int, priorities: list[int], data: st.DataObject
) -> None:
    steps = data.draw(st.lists(st.integers(0, 3), min_size=len(priorities), max_size=len(priorities)))
    cancelled = data.draw(st.sets(st.integers(0, max(len(priorities) - 1, 0))))
    inside, most, waiting = 0, 0, len(priorities)

    async def worker(semaphore: PrioritySemaphore, priority: int, steps: int) -> None:
        nonlocal inside, most
        async with semaphore.slot(priority):
            inside += 1
            most = max(most, inside)
            try:
                await idle(steps)
            finally:
                inside -= 1

    async def run() -> None:
        semaphore = PrioritySemaphore(width)
        tasks = [asyncio.create_task(worker(semaphore, p, s)) for p, s in zip(priorities, steps, strict=True)]
        for number in cancelled:
            await asyncio.sleep(0)
            if number < len(tasks):
                tasks[number].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        async with contextlib.AsyncExitStack() as stack:  # every slot is free again, whoever was cancelled and when
            for _ in range(width):
                await asyncio.wait_for(stack.enter_async_context(semaphore.slot(0)), 5)

    asyncio.run(run())
    assert most <= width
    assert most == min(width, waiting) or cancelled or not all(steps)


def test_who_waits_is_served_by_priority_and_then_by_arrival() -> None:
    served: list[str] = []

    async def worker(semaphore: PrioritySemaphore, name: str, priority: int) -> None:
        async with semaphore.slot(priority):
            served.append(name)
            await asyncio.sleep(0)

    async def run() -> None:
        semaphore = PrioritySemaphore(1)
        async with asyncio.TaskGroup() as group, semaphore.slot(9):
            for name, priority in [("c1", 3), ("a1", 1), ("c2", 3), ("b", 2), ("a2", 1)]:
                group.create_task(worker(semaphore, name, priority))
            await idle()
            assert served == []

    asyncio.run(run())
    assert served == ["a1", "a2", "b", "c1", "c2"]


def test_a_turn_that_comes_with_a_cancellation_is_passed_on() -> None:
    async def run() -> None:
        semaphore, entered = PrioritySemaphore(1), asyncio.Event()

        async def worker(inside: asyncio.Event) -> None:
            async with semaphore.slot(0):
                inside.set()

        async with semaphore.slot(0):
            first = asyncio.create_task(worker(asyncio.Event()))
            second = asyncio.create_task(worker(entered))
            await idle()
        first.cancel()  # its turn has come, but it has not run since
        await asyncio.wait_for(second, 5)
        assert first.cancelled() or (await asyncio.gather(first, return_exceptions=True))
        assert entered.is_set()

    asyncio.run(run())


def test_the_last_queries_are_served_evenly() -> None:
    served: list[tuple[int, int]] = []

    async def worker(semaphore: PrioritySemaphore, number: int, asked: int) -> None:
        async with semaphore.slot(number, asked):
            served.append((number, asked))

    async def run() -> None:
        semaphore = PrioritySemaphore(1)
        async with asyncio.TaskGroup() as group, semaphore.slot(9):
            for number, asked in [(0, 3), (1, 1), (2, 0), (3, 1)]:
                group.create_task(worker(semaphore, number, asked))
            await idle()
            semaphore.even = True
            group.create_task(worker(semaphore, 4, 0))
            await idle()
        assert served == [(2, 0), (4, 0), (1, 1), (3, 1), (0, 3)]

    asyncio.run(run())


def test_queries_ahead_are_taken_and_the_last_is_announced() -> None:
    events: list[object] = []

    async def rerank(request: Request) -> Ranking:
        events.append(request.number)
        await idle(20)
        return Ranking(request, ())

    async def run() -> None:
        await rerank_all(
            requests(6),
            rerank,
            width=2,
            ahead=3,
            done=lambda ranking: events.append("done"),
            last=lambda last: events.append(f"last: {last}"),
        )

    asyncio.run(run())
    assert events[:6] == ["last: False", 0, 1, 2, 3, 4]  # five are open before the first ends
    assert events.index("last: True") > events.index("done")
    assert events.count("done") == 6


def run_all(
    count: int,
    rerank: Callable[[Request], Awaitable[Ranking]],
    width: int,
    done: Callable[[Ranking], None] = lambda ranking: None,
    taken: list[int] | None = None,
    load: QueryLoad | None = None,
) -> None:
    async def needed(request: Request) -> QueryLoad:
        return load or QueryLoad()

    async def run() -> None:
        before = asyncio.all_tasks()
        try:
            whole = rerank_all(requests(count, taken), rerank, width=width, done=done, load=needed)
            await asyncio.wait_for(whole, 20)
        finally:
            assert asyncio.all_tasks() == before | {asyncio.current_task()}

    asyncio.run(run())


def most_open(count: int, width: int, load: QueryLoad) -> int:
    """How many queries of this load are open at once."""
    opened = most = 0

    async def rerank(request: Request) -> Ranking:
        nonlocal opened, most
        opened += 1
        most = max(most, opened)
        await idle()
        opened -= 1
        return Ranking(request, ())

    run_all(count, rerank, width, load=load)
    return most


@pytest.mark.parametrize(
    ("load", "queries"),
    [
        (QueryLoad(9, 1.0), 50),  # a sliding window: as many as there are calls
        (QueryLoad(9_900, 9_900.0), 2),  # all pairs of 100: what has room
        (QueryLoad(MAX_OPEN_QUESTIONS + 1, MAX_OPEN_QUESTIONS), 1),
        (QueryLoad(9_900, 10.0), 5),  # what it takes for 50 calls
        (QueryLoad(9_900, 1.0), 50),
        (QueryLoad(0, 0.0), 50),
    ],
)
def test_no_more_queries_are_open_than_their_questions_have_room_or_the_calls_need(
    load: QueryLoad, queries: int
) -> None:
    assert most_open(60, 50, load) == queries


def test_queries_run_together_and_end_in_their_own_time() -> None:
    ended: list[int] = []

    async def rerank(request: Request) -> Ranking:
        await asyncio.sleep(0.02 if request.number == 0 else 0)
        return Ranking(request, ())

    run_all(4, rerank, width=4, done=lambda ranking: ended.append(ranking.request.number))
    assert ended == [1, 2, 3, 0]


def test_requests_are_taken_only_as_queries_end() -> None:
    taken: list[int] = []
    ahead: list[int] = []
    finished = 0

    async def rerank(request: Request) -> Ranking:
        nonlocal finished
        await idle()
        finished += 1
        ahead.append(len(taken) - finished)
        return Ranking(request, ())

    run_all(50, rerank, width=3, taken=taken)
    assert len(taken) == 50
    assert max(ahead) <= 3


def test_the_first_failure_cancels_the_rest_and_is_raised_unwrapped() -> None:
    cancelled: list[int] = []
    taken: list[int] = []

    async def rerank(request: Request) -> Ranking:
        if request.number == 2:
            raise Failure("the engine died")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(request.number)
            raise
        return Ranking(request, ())

    with pytest.raises(Failure, match="the engine died"):
        run_all(100, rerank, width=5, taken=taken)
    assert sorted(cancelled) == [0, 1, 3, 4]
    assert len(taken) < 10


def test_a_failing_writer_ends_the_run() -> None:
    async def rerank(request: Request) -> Ranking:
        return Ranking(request, ())

    def done(ranking: Ranking) -> None:
        raise Failure("the disk is full")

    with pytest.raises(Failure, match="the disk is full"):
        run_all(10, rerank, width=2, done=done)


def test_a_failing_source_ends_the_run() -> None:
    async def broken() -> AsyncIterator[Request]:
        yield request(0)
        raise Failure("line 2 is no JSON")

    async def rerank(request: Request) -> Ranking:
        await asyncio.sleep(60)
        return Ranking(request, ())

    with pytest.raises(Failure, match="line 2 is no JSON"):
        asyncio.run(asyncio.wait_for(rerank_all(broken(), rerank, width=2, done=lambda ranking: None), 20))


def test_cancelled_from_outside_it_leaves_nothing_running() -> None:
    running = 0

    async def rerank(request: Request) -> Ranking:
        nonlocal running
        running += 1
        try:
            await asyncio.sleep(60)
        finally:
            running -= 1
        return Ranking(request, ())

    async def run() -> None:
        whole = asyncio.create_task(rerank_all(requests(10), rerank, width=4, done=lambda ranking: None))
        await idle(10)
        assert running == 4
        whole.cancel()
        with pytest.raises(asyncio.CancelledError):
            await whole
        assert running == 0

    asyncio.run(run())


def test_no_requests_is_no_work() -> None:
    async def rerank(request: Request) -> Ranking:
        raise AssertionError

    run_all(0, rerank, width=3)
