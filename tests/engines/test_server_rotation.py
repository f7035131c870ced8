"""Which server answers a call, and when a server that failed is used again. No server is needed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from itertools import count

import pytest

from pyserini_reasonrank.engines.server_rotation import OtherModel, ServerFailed, ServerRotation


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


async def answer(name: str, patient: bool) -> str:
    await asyncio.sleep(0)
    return name


def failing(*names: str, down: bool = True, log: list[str] | None = None) -> Callable[[str, bool], Awaitable[str]]:
    async def send(name: str, patient: bool) -> str:
        if log is not None:
            log.append(f"{name} patiently" if patient else name)
        await asyncio.sleep(0)
        if name in names:
            raise ServerFailed(ConnectionError(f"{name} failed"), down=down)
        return name

    return send


def run(test: Coroutine[None, None, None]) -> None:
    asyncio.run(test)


def test_the_calls_of_a_query_go_to_one_server_and_queries_are_shared_out() -> None:
    async def test() -> None:
        rotation = ServerRotation(["a", "b", "c"])

        async def query(qid: str) -> set[str]:
            return {await rotation.ask(qid, answer) for _ in range(20)}

        used = await asyncio.gather(*(query(str(number)) for number in range(9)))
        assert all(len(names) == 1 for names in used)
        assert Counter(name for names in used for name in names) == {"a": 3, "b": 3, "c": 3}

    run(test())


def test_an_overloaded_server_gives_queries_away() -> None:
    async def test() -> None:
        rotation = ServerRotation(["a", "b"])
        used = await asyncio.gather(*(rotation.ask("q", answer) for _ in range(90)))
        assert Counter(used)["b"] >= 30

    run(test())


def test_a_call_whose_server_is_down_goes_to_another_at_once_and_later_calls_too() -> None:
    async def test() -> None:
        rotation, log = ServerRotation(["a", "b"], clock=Clock()), list[str]()
        send = failing("a", log=log)
        assert [await rotation.ask(qid, send) for qid in ("q1", "q1", "q2", "q3")] == ["b"] * 4
        assert log == ["a", "b", "b patiently", "b patiently", "b patiently"]
        assert rotation.down == ["a"]
        assert rotation.moved_calls == 1

    run(test())


def test_a_server_that_is_down_is_tried_by_one_call_after_each_pause_and_comes_back() -> None:
    async def test() -> None:
        clock, numbers = Clock(), count()
        rotation = ServerRotation(["a", "b"], clock=clock)

        async def tries(send: Callable[[str, bool], Awaitable[str]], log: list[str]) -> int:
            await asyncio.gather(*(rotation.ask(str(next(numbers)), send) for _ in range(6)))
            return sum(name.startswith("a") for name in log)

        log: list[str] = []
        await rotation.ask("q", failing("a", log=log))
        for pause in (1, 2, 4, 8, 16, 32, 60, 60):
            log.clear()
            clock.now += pause - 0.5
            assert await tries(failing("a", log=log), log) == 0
            clock.now += 0.5
            assert await tries(failing("a", log=log), log) == 1
        clock.now += 60
        log.clear()
        assert await tries(failing(log=log), log) == 1
        assert rotation.down == []
        log.clear()
        assert await tries(failing(log=log), log) == 3

    run(test())


def test_a_failure_of_one_call_moves_it_and_does_not_leave_the_server_out() -> None:
    async def test() -> None:
        rotation, log = ServerRotation(["a", "b"]), list[str]()
        assert await rotation.ask("q", failing("a", down=False, log=log)) == "b"
        assert log == ["a", "b"]
        assert rotation.down == []

    run(test())


def test_a_server_that_answers_with_an_error_can_be_reached() -> None:
    async def test() -> None:
        clock, used = Clock(), list[str]()
        rotation = ServerRotation(["a", "b"], clock=clock)
        await rotation.ask("q", failing("a"))
        clock.now += 1

        async def rejecting(name: str, patient: bool) -> str:
            used.append(name)
            raise ValueError("HTTP 400: the prompt is too long")

        while "a" not in used:
            with pytest.raises(ValueError, match="HTTP 400"):
                await rotation.ask(f"q{len(used)}", rejecting)
        assert rotation.down == []

    run(test())


def test_a_cancelled_call_is_not_an_answer() -> None:
    async def test() -> None:
        clock = Clock()
        rotation = ServerRotation(["a"], clock=clock)
        with pytest.raises(ConnectionError):
            await rotation.ask("q", failing("a"))
        clock.now += 100

        async def silent(name: str, patient: bool) -> str:
            await asyncio.sleep(60)
            return name

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(rotation.ask("q", silent), 0.01)
        assert rotation.down == ["a"]

    run(test())


def test_attempts_are_bounded_and_the_last_one_is_patient() -> None:
    async def test() -> None:
        rotation, log = ServerRotation(["a", "b", "c"]), list[str]()
        with pytest.raises(ConnectionError, match="failed"):
            await rotation.ask("q", failing("a", "b", "c", down=False, log=log))
        assert log == ["a", "b", "c", "c patiently"]

    run(test())


def test_the_patient_attempt_is_not_made_at_a_server_that_is_down() -> None:
    async def test() -> None:
        rotation, log = ServerRotation(["a", "b"], clock=Clock()), list[str]()
        rotation.rest("a")
        with pytest.raises(ConnectionError, match="b failed"):
            await rotation.ask("q", failing("a", "b", log=log))
        assert log == ["b patiently"]
        log.clear()
        with pytest.raises(ConnectionError):  # all are down: one of them is asked all the same
            await rotation.ask("q", failing("a", "b", log=log))
        assert len(log) == 1
        assert log[0].endswith("patiently")

    run(test())


def test_a_server_that_came_back_meanwhile_answers() -> None:
    async def test() -> None:
        clock, log = Clock(), list[str]()
        rotation = ServerRotation(["a", "b"], clock=clock)
        rotation.rest("a")
        send = failing("b", log=log)

        async def slow(name: str, patient: bool) -> str:
            clock.now += 5  # the retries of a patient attempt
            return await send(name, patient)

        assert await rotation.ask("q", slow) == "a"
        assert log == ["b patiently", "a"]

    run(test())


# --- the model of a server that returns


def rechecked(clock: Clock, wrong: set[str], down: set[str], log: list[str]) -> ServerRotation[str]:
    """A rotation of two servers whose check finds ``wrong`` models and servers that are ``down``."""

    async def check(name: str) -> None:
        log.append(f"{name} checked")
        await asyncio.sleep(0)
        if name in down:
            raise ServerFailed(ConnectionError(f"{name} is down"), down=True)
        if name in wrong:
            raise OtherModel(ConnectionError(f"{name} serves another model"), down=True)

    return ServerRotation(["a", "b"], check, clock)


def test_a_server_that_was_not_reached_is_checked_once_before_its_first_call() -> None:
    async def test() -> None:
        clock, log = Clock(), list[str]()
        rotation = rechecked(clock, set(), set(), log)
        rotation.rest("a")
        clock.now += 2
        found = await asyncio.gather(*(rotation.ask(str(n), failing(log=log)) for n in range(10)))
        assert log.count("a checked") == 1
        assert log.index("a checked") < log.index("a")
        found += [await rotation.ask(str(n), answer) for n in range(10, 20)]
        assert found.count("a") > 3
        assert rotation.down == []

    run(test())


@pytest.mark.parametrize("fault", ["wrong", "down"])
def test_a_server_that_fails_its_check_gets_no_call_even_if_no_other_is_left(fault: str) -> None:
    async def test() -> None:
        clock, log = Clock(), list[str]()
        wrong, down = ({"a"}, set[str]()) if fault == "wrong" else (set[str](), {"a"})
        rotation = rechecked(clock, wrong, down, log)
        rotation.rest("a")
        for pause in (1, 2, 4):
            clock.now += pause
            assert await rotation.ask(f"q{pause}", failing(log=log)) == "b"
        with pytest.raises(ConnectionError, match="b failed"):
            await rotation.ask("q5", failing("b", log=log))
        clock.now += 100
        with pytest.raises(ConnectionError, match="b failed"):
            await rotation.ask("q6", failing("b", log=log))
        assert {"a", "a patiently"}.isdisjoint(log)
        assert log.count("a checked") == 4
        wrong.clear()
        down.clear()
        clock.now += 100
        assert await rotation.ask("q7", failing("b", log=log)) == "a"

    run(test())


def test_a_server_that_comes_back_with_another_model_is_left_out_too() -> None:
    async def test() -> None:
        clock, log = Clock(), list[str]()
        rotation = rechecked(clock, {"a"}, set(), log)
        assert await rotation.ask("q1", failing("a", log=log)) == "b"
        clock.now += 1
        log.clear()
        assert await rotation.ask("q2", failing(log=log)) == "b"
        assert log == ["a checked", "b"]
        clock.now += 10
        log.clear()
        with pytest.raises(ConnectionError, match="b failed"):
            await rotation.ask("q3", failing("b", log=log))
        assert "a" not in log

    run(test())


def test_if_every_server_came_back_with_another_model_calls_fail_with_that_reason() -> None:
    async def test() -> None:
        clock, log = Clock(), list[str]()
        rotation = rechecked(clock, {"a", "b"}, set(), log)
        with pytest.raises(ConnectionError):
            await rotation.ask("q", failing("a", "b", log=log))
        clock.now += 10
        for _ in range(3):
            log.clear()
            with pytest.raises(ConnectionError, match="serves another model"):
                await asyncio.wait_for(rotation.ask("q", failing(log=log)), 5)
            assert {"a checked", "b checked"} >= set(log)

    run(test())
