"""What scheduling costs: CPU per window without a server, and the schedule of a simulated engine beside its bound.

    python tests/benchmarks/scheduler.py [--queries 1000]

No server, process or network takes part. The schedule runs on a virtual clock: a continuously batching engine with a fixed
number of places and log-normal output lengths, so the figure depends on the order of the calls and not on this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import selectors
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from math import exp
from pathlib import Path
from typing import Any

from pyserini_reasonrank.engines.oracle import Oracle, OracleOptions
from pyserini_reasonrank.journal import Journal
from pyserini_reasonrank.models.catalogue import Model
from pyserini_reasonrank.models.embedded import ensure_embedded
from pyserini_reasonrank.records import Call, Candidate, Completion, Prompt, Query, Request, Sampling
from pyserini_reasonrank.rerankers.call_store import CallStore, MemoryStore
from pyserini_reasonrank.run.candidates import stream
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.run.session import Session
from pyserini_reasonrank.settings import layers

DEPTH = 100
CAPACITY, MEAN_TOKENS, SIGMA, TOKEN_SECONDS = 256, 750, 0.6, 0.02
REPETITIONS = 5


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer instead of waiting. Work for threads runs at once, in the loop."""

    def __init__(self) -> None:
        super().__init__(_Jumping(self))
        self.now = 0.0
        self.set_default_executor(_Inline())

    def time(self) -> float:
        return self.now


class _Jumping(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        if timeout:
            self._loop.now += timeout
        return super().select(0)


class _Inline(ThreadPoolExecutor):
    def submit[T](self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        done: Future[T] = Future()
        done.set_result(fn(*args, **kwargs))
        return done


class Simulated(Oracle):
    """The oracle with the latency of a continuously batching engine: ``places`` calls at once, each for its own time."""

    def __init__(self, options: OracleOptions, places: int) -> None:
        super().__init__(Model("oracle", "oracle"), options)
        self._places = asyncio.Semaphore(places)
        self._random = random.Random(0)
        self.service = 0.0
        self.chains: dict[str, float] = {}

    async def generate(self, prompt: Prompt, sampling: Sampling, call: Call) -> Completion:
        tokens = MEAN_TOKENS * exp(self._random.gauss(-(SIGMA**2) / 2, SIGMA))
        seconds = tokens * TOKEN_SECONDS
        self.service += seconds
        self.chains[call.qid] = self.chains.get(call.qid, 0.0) + seconds
        async with self._places:
            await asyncio.sleep(seconds)
        return await super().generate(prompt, sampling, call)


@dataclass(frozen=True)
class Figures:
    """``ratio``: time on the virtual clock / bound; CPU in ms per window, median of several runs."""

    ratio: float
    memory_ms: float
    journal_ms: float


def requests(count: int) -> list[Request]:
    """Queries with 100 passages of some 60 words, as in MS MARCO, each with texts of its own."""
    words = [
        "moth",
        "flies",
        "light",
        "night",
        "species",
        "wing",
        "lamp",
        "moon",
        "scientist",
        "larva",
        "plant",
        "host",
    ]
    chosen = random.Random(0)
    passages = [" ".join(chosen.choices(words, k=60)) for _ in range(DEPTH)]
    return [
        Request(
            Query(f"q{n}", f"what is said about topic {n}"),
            tuple(Candidate(f"d{n}-{i}", 100.0 - i, f"Topic {n}: {text}.") for i, text in enumerate(passages)),
            n,
        )
        for n in range(count)
    ]


async def ranked(engine: Oracle, qrels: str, asked: Sequence[Request], store: CallStore, model: Path) -> int:
    """Rerank ``asked`` by sliding 20/10. Returns the number of windows."""
    settings = {
        "engine": {"name": "oracle", "qrels": qrels, "tokenizer": None},
        "passage_tokens": 512,
        "model": str(model),
    }
    session = Session(plan(*layers.load("reasonrank", settings), engine=engine), store)
    await engine.start()
    await session.rerank_all(stream(asked), lambda ranking: None)
    return session.tally.calls


def measure_scheduler(queries: int) -> Figures:
    model = ensure_embedded(None, progress=True)
    asked = requests(queries)
    with tempfile.TemporaryDirectory() as folder:
        qrels = Path(folder, "qrels.txt")
        qrels.write_text(
            "".join(f"{r.query.qid} 0 {c.docid} {hash(c.docid) % 4}\n" for r in asked for c in r.candidates[::7])
        )
        options = OracleOptions(qrels=str(qrels), concurrency=CAPACITY)
        engine = Simulated(options, CAPACITY)
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(ranked(engine, str(qrels), asked, MemoryStore(), model))
            taken = runner.get_loop().time()
        ratio = taken / max(engine.service / CAPACITY, *engine.chains.values())

        def cpu(store: CallStore) -> float:
            few = asked[:100]
            began = time.process_time()
            windows = asyncio.run(ranked(Oracle(Model("oracle", "oracle"), options), str(qrels), few, store, model))
            return 1000 * (time.process_time() - began) / windows

        memory = [cpu(MemoryStore()) for _ in range(REPETITIONS)]
        journals = [Journal(Path(folder, f"{n}.sqlite"), "run") for n in range(REPETITIONS)]
        durable = [cpu(journal) for journal in journals]
        for journal in journals:
            journal.close()
    return Figures(ratio, statistics.median(memory), statistics.median(durable))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=1000)
    found = measure_scheduler(parser.parse_args().queries)
    print(f"sliding 20/10, depth {DEPTH}, capacity {CAPACITY}: time / bound {found.ratio:.4f}")
    print(f"CPU per window: {found.memory_ms:.2f} ms in memory, {found.journal_ms:.2f} ms with a journal")
    return 0


if __name__ == "__main__":
    sys.exit(main())
