"""Sliding windows on real vLLM beside one flat batch of the same prompts, which has no chains of calls.

    python tests/benchmarks/flat_batch.py [--queries 24] [--rounds 2]

The embedded model runs in process. Prefix caching is off, so that the second of two equal rounds has no advantage. Rounds
of both kinds take turns, and their fastest ones are compared.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from dataclasses import dataclass, replace
from typing import Any

from pyserini_reasonrank.records import Call, Completion, Prompt, Sampling
from pyserini_reasonrank.rerankers.call_store import MemoryStore
from pyserini_reasonrank.run.candidates import stream
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.run.session import Session
from pyserini_reasonrank.settings import layers

DEPTH, WINDOW, STRIDE, OUTPUT_TOKENS = 8, 4, 2, 16


@dataclass(frozen=True)
class Figures:
    """Seconds of ``calls`` calls: in sliding windows, and in one batch."""

    calls: int
    sliding: float
    flat: float


async def measured(queries: int, rounds: int) -> Figures:
    from scheduler import requests

    settings: dict[str, Any] = {
        "engine": {"name": "vllm", "args": {"dtype": "float32", "max_model_len": 2048, "enable_prefix_caching": False}},
        "model": "smollm2-135m", "strategy": {"window_size": WINDOW, "stride": STRIDE}, "depth": DEPTH, "passage_tokens": 16,
        "judge": {"repair": "none"}, "sampling": {"max_tokens": OUTPUT_TOKENS, "temperature": 0.0},
    }  # fmt: skip
    made = plan(*layers.load("reasonrank", settings))
    [engine] = made.engines
    asked = [replace(request, candidates=request.candidates[:DEPTH]) for request in requests(queries)]
    sent: list[tuple[Prompt, Sampling, Call]] = []
    generate = engine.generate

    async def noted(prompt: Prompt, sampling: Sampling, call: Call) -> Completion:
        sent.append((prompt, sampling, call))
        return await generate(prompt, sampling, call)

    async def sliding() -> float:
        sent.clear()
        session = Session(made, MemoryStore())
        began = time.monotonic()
        await session.rerank_all(stream(asked), lambda ranking: None)
        return time.monotonic() - began

    async def flat() -> float:
        shuffled = random.Random(0).sample(sent, len(sent))
        began = time.monotonic()
        await asyncio.gather(*(generate(*question) for question in shuffled))
        return time.monotonic() - began

    await engine.start()
    try:
        engine.generate = noted  # type: ignore[method-assign]
        await sliding()  # compiles and warms up
        pairs = [(await sliding(), await flat()) for _ in range(rounds)]
    finally:
        await engine.close()
    return Figures(len(sent), min(s for s, _ in pairs), min(f for _, f in pairs))


def measure_flat_batch(queries: int, rounds: int) -> Figures:
    return asyncio.run(measured(queries, rounds))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    found = measure_flat_batch(options.queries, options.rounds)
    print(f"{found.calls} calls: {found.sliding:.1f} s in sliding windows, {found.flat:.1f} s in one batch, "
          f"ratio {found.sliding / found.flat:.3f}")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
