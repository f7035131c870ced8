"""How models are freed: when their object is collected, on whatever thread, and in coroutines."""

from __future__ import annotations

import asyncio
import gc
import threading
from pathlib import Path

import pytest

from pyserini_reasonrank import Reranker, Rewriter, UsageError
from pyserini_reasonrank.engines.background_loop import BackgroundLoop, RunningLoop
from pyserini_reasonrank.engines.oracle import Oracle, OracleOptions
from pyserini_reasonrank.models.catalogue import Model


class Closing(Oracle):
    """An oracle that says when it is closed."""

    def __init__(self, folder: Path) -> None:
        (folder / "qrels").write_text("q 0 d 1\n")
        super().__init__(Model("closing", "closing"), OracleOptions(qrels=str(folder / "qrels")))
        self.closed = threading.Event()

    async def close(self) -> None:
        await super().close()
        self.closed.set()


@pytest.fixture
def engine(tmp_path: Path) -> Closing:
    return Closing(tmp_path)


def in_a_cycle(engine: Closing, journal: Path | None = None) -> BackgroundLoop:
    """The loop of a loaded reranker that only a garbage collection finds."""
    reranker = Reranker("reasonrank", engine=engine, journal=journal).load()
    assert reranker._live is not None
    reranker.cycle = reranker  # type: ignore[attr-defined]
    return reranker._live.loop


def test_a_collection_on_the_loops_own_thread_does_not_block_it(engine: Closing) -> None:
    loop = in_a_cycle(engine)

    async def collecting() -> None:
        gc.collect()

    loop.submit(collecting()).result(10)
    assert engine.closed.wait(10)


def test_a_collection_on_another_thread_frees_everything(engine: Closing, tmp_path: Path) -> None:
    before = set(threading.enumerate())  # other tests' rerankers may be open
    in_a_cycle(engine, tmp_path / "calls.sqlite")
    thread = threading.Thread(target=gc.collect)
    thread.start()
    thread.join(10)
    assert engine.closed.wait(10)
    for closing in threading.enumerate():
        if closing.name == "closing":
            closing.join(10)
    assert not any(left.name in ("journal", "reranker") for left in set(threading.enumerate()) - before)


def test_a_collection_on_the_main_thread_ends_when_everything_is_freed(engine: Closing) -> None:
    in_a_cycle(engine)
    gc.collect()
    assert engine.closed.is_set()


def test_an_async_block_loads_and_frees(engine: Closing) -> None:
    async def main() -> None:
        async with Reranker("reasonrank", engine=engine) as reranker:
            assert len(await reranker.rank_async("query", ["a", "b"])) == 2
            assert not engine.closed.is_set()
        assert engine.closed.is_set()
        with pytest.raises(UsageError, match="the reranker is closed"):
            await reranker.rank_async("query", ["a", "b"])
        await reranker.aclose()

    asyncio.run(main())


def test_a_rewriter_has_the_same_block(engine: Closing) -> None:
    async def main() -> None:
        async with Rewriter("keywords", engine=engine):
            assert not engine.closed.is_set()
        assert engine.closed.is_set()

    asyncio.run(main())


def test_calls_on_the_running_loop_are_closed_from_it(engine: Closing) -> None:
    async def main() -> None:
        reranker = Reranker("reasonrank", engine=engine)
        await asyncio.to_thread(reranker.load, RunningLoop())
        assert len(await reranker.rank_async("query", ["a", "b"])) == 2
        await reranker.aclose()
        assert engine.closed.is_set()

    asyncio.run(main())


def test_close_on_the_loop_of_the_calls_does_not_block_it(engine: Closing) -> None:
    async def main() -> None:
        reranker = Reranker("reasonrank", engine=engine)
        await asyncio.to_thread(reranker.load, RunningLoop())
        reranker.close()
        assert await asyncio.to_thread(engine.closed.wait, 10)

    asyncio.run(asyncio.wait_for(main(), 20))


def test_a_loop_knows_its_own_thread() -> None:
    loop = BackgroundLoop("test")

    async def here() -> bool:
        return loop.runs_here

    assert not loop.runs_here
    assert loop.submit(here()).result(10)
    loop.close()
