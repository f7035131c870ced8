"""What the server costs: CPU of a request beside the Python API, and latency, memory and losses with many clients.

    python tests/benchmarks/server.py [--requests 20000] [--clients 200]

The oracle engine answers, so nothing but the client, the rerankers and the server is measured. Every request has 20
documents and a query of its own, so that no finished call is used twice.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles

import aiohttp
import psutil
from serving import served

DOCUMENTS = 20
ALONE = 500  # requests of a single client
API = """
import json, sys, time
from pyserini_reasonrank import Reranker
qrels, count, documents = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
with Reranker("reasonrank", engine={"name": "oracle", "qrels": qrels}) as reranker:
    reranker.rank("warm up", documents)
    began = time.process_time()
    for i in range(count):
        assert len(reranker.rank(f"query {i}", documents)) == len(documents)
    print((time.process_time() - began) / count)
"""


def documents() -> list[str]:
    """20 passages of some 60 words."""
    return [f"Passage {i} says " + f"what there is to know about topic {i} and moths " * 6 for i in range(DOCUMENTS)]


def with_oracle(qrels: Path) -> list[str]:
    """The arguments of a server with the oracle engine."""
    words = ["serve", "--rerank", "reasonrank", "--port", "0", "--max-requests", "1024"]
    return [*words, "--rerank.engine.name", "oracle", "--rerank.engine.qrels", str(qrels)]


async def ask(url: str, first: int, count: int, clients: int) -> list[float]:
    """Seconds of each of ``count`` requests that ``clients`` clients send, each the next one after its answer."""
    numbers, seconds, texts = iter(range(first, first + count)), [], documents()

    async def client(session: aiohttp.ClientSession) -> None:
        for number in numbers:
            began = time.monotonic()
            body = {"query": f"query {number}", "documents": texts}
            async with session.post(f"{url}/v1/rerank", json=body) as response:
                found = await response.json()
                if response.status == 200 and len(found["results"]) == DOCUMENTS:
                    seconds.append(time.monotonic() - began)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(client(session) for _ in range(clients)))
    return seconds


@dataclass(frozen=True)
class Figures:
    """CPU times and latencies in ms; ``growth``: resident memory after all requests / after a quarter of them."""

    api_cpu_ms: float
    cpu_ms: float
    alone_ms: float
    p50_ms: float
    p99_ms: float
    lost: int
    growth: float


def measure_server(requests: int, clients: int) -> Figures:
    """Measure the Python API, the server with one client, and the server with ``clients`` clients."""
    with tempfile.TemporaryDirectory() as folder:
        qrels = Path(folder, "qrels.txt")
        qrels.write_text("q 0 d 1\n", encoding="utf-8")
        words = [sys.executable, "-c", API, str(qrels), str(ALONE), json.dumps(documents())]
        api = float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
        with served(*with_oracle(qrels)) as (url, started):
            process = psutil.Process(started.pid)
            asyncio.run(ask(url, 0, 20, 1))
            before = process.cpu_times()
            alone = asyncio.run(ask(url, 20, ALONE, 1))
            after = process.cpu_times()
            quarter, first = requests // 4, 20 + ALONE
            seconds = asyncio.run(ask(url, first, quarter, clients))
            memory = process.memory_info().rss
            seconds += asyncio.run(ask(url, first + quarter, requests - quarter, clients))
            growth = process.memory_info().rss / memory
    cuts = quantiles(seconds, n=100)
    return Figures(
        api_cpu_ms=1000 * api,
        cpu_ms=1000 * (after.user + after.system - before.user - before.system) / ALONE,
        alone_ms=1000 * median(alone),
        p50_ms=1000 * cuts[49],
        p99_ms=1000 * cuts[98],
        lost=requests - len(seconds),
        growth=growth,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--clients", type=int, default=200)
    options = parser.parse_args()
    for name, value in asdict(measure_server(options.requests, options.clients)).items():
        print(f"{name}: {value:.4g}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
