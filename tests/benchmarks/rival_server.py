"""Our server beside RankLLM's, over the same stub: CPU of a request, latency of one client, throughput of many.

    python tests/benchmarks/rival_server.py [--requests 300] [--clients 32]

Both ask the stub server of the harness (REASONRANK_PEER) with the prompt of ReasonRank, one window of 20 documents a
request. The stub answers almost at once, so the servers are measured. RankLLM's application is started from Python: its
command refuses the path of a prompt ("must be of type PosixPath, got str"), it asserts that there is a GPU although the
model is on another server, and without --listwise-vllm-with-openai-sdk it downloads tiktoken's cl100k_base.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp
import psutil
from server import DOCUMENTS, documents
from serving import served

from pyserini_reasonrank.models.embedded import ensure_embedded

ROOT = Path(__file__).parents[2]
PEER = Path(os.environ.get("REASONRANK_PEER") or ROOT.parent / "shared" / "peer")
RIVAL = """
import sys
from importlib.resources import files
import torch
import uvicorn
torch.cuda.is_available, torch.cuda.device_count = lambda: True, lambda: 1
from rank_llm.api.app import create_app
from rank_llm.api.runtime import ServerConfig
model, url, port = sys.argv[1:]
template = files("rank_llm.rerank.prompt_templates") / "reasonrank_template.yaml"
config = ServerConfig(model_path=model, base_url=url, batch_size=64, context_size=32768, is_thinking=True,
                      listwise_vllm_with_openai_sdk=True,
                      prompt_template_path=template)
uvicorn.run(create_app(config), host="127.0.0.1", port=int(port), log_level="warning")
"""


@dataclass(frozen=True)
class Figures:
    """Of one server: CPU of a request and latency of a single client in ms, requests a second of many, those lost."""

    cpu_ms: float
    alone_ms: float
    per_second: float
    lost: int
    rss_mb: float


@contextmanager
def stub(model: Path) -> Iterator[str]:
    """The URL of a stub server that answers after about 2 ms."""
    with tempfile.TemporaryDirectory() as folder:
        port = Path(folder, "port")
        words = ["--port", "0", "--port-file", str(port), "--log", str(Path(folder, "log")), "--model", str(model)]
        words += ["--scale", "0.001", "--capacity", "256", "--mean-tokens", "100"]
        process = subprocess.Popen(
            [sys.executable, str(PEER / "stub_server.py"), *words], stdout=subprocess.DEVNULL, cwd=folder
        )
        try:
            while not (port.exists() and port.read_text()):
                time.sleep(0.05)
            yield f"http://127.0.0.1:{int(port.read_text())}/v1"
        finally:
            process.kill()
            process.wait()


@contextmanager
def rival(model: Path, url: str) -> Iterator[tuple[str, psutil.Process]]:
    """The URL and the process of RankLLM's server."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-c", RIVAL, str(model), url, str(port)], stdout=subprocess.DEVNULL)
    try:
        while socket.socket().connect_ex(("127.0.0.1", port)):
            if process.poll() is not None:
                raise RuntimeError(f"RankLLM's server ended with {process.returncode}")
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1/rerank", psutil.Process(process.pid)
    finally:
        process.kill()
        process.wait()


@contextmanager
def ours(model: Path, url: str) -> Iterator[tuple[str, psutil.Process]]:
    """The URL and the process of our server."""
    words = ["serve", "--rerank", "reasonrank", "--port", "0", "--max-requests", "1024", "--rerank.model", str(model)]
    words += ["--rerank.engine.name", "openai", "--rerank.engine.base_url", url, "--rerank.passage_tokens", "512"]
    with served(*words) as (address, process):
        yield f"{address}/v1/rerank", psutil.Process(process.pid)


def ranked(found: dict[str, Any]) -> int:
    """The documents in an answer of either server."""
    if "results" in found:
        return len(found["results"])
    [result] = found["artifacts"][0]["value"]
    return len({candidate["docid"] for candidate in result["candidates"]})


async def ask(url: str, key: str, numbers: range, clients: int) -> list[float]:
    """Seconds of each request, with the documents under ``key``, that was answered with all of them."""
    left, seconds, texts = iter(numbers), list[float](), documents()

    async def client(session: aiohttp.ClientSession) -> None:
        for number in left:
            body = {"query": f"what is said about topic {number}", key: texts}
            began = time.monotonic()
            async with session.post(url, json=body) as response:
                if response.status == 200 and ranked(await response.json()) == DOCUMENTS:
                    seconds.append(time.monotonic() - began)

    timeout = aiohttp.ClientTimeout(total=300)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        await asyncio.gather(*(client(session) for _ in range(clients)))
    return seconds


def measured(url: str, key: str, process: psutil.Process, requests: int, clients: int) -> Figures:
    asyncio.run(ask(url, key, range(10), 1))
    before = process.cpu_times()
    alone = asyncio.run(ask(url, key, range(10, 10 + requests), 1))
    after = process.cpu_times()
    began = time.monotonic()
    many = asyncio.run(ask(url, key, range(10 + requests, 10 + 2 * requests), clients))
    return Figures(
        cpu_ms=1000 * (after.user + after.system - before.user - before.system) / requests,
        alone_ms=1000 * median(alone),
        per_second=len(many) / (time.monotonic() - began),
        lost=2 * requests - len(alone) - len(many),
        rss_mb=process.memory_info().rss / 1e6,
    )


def measure_servers(requests: int, clients: int) -> tuple[Figures, Figures]:
    """The figures of our server and of RankLLM's. Each has a stub of its own."""
    model = ensure_embedded(None, progress=True)
    found = []
    for start, key in ((ours, "documents"), (rival, "candidates")):
        with stub(model) as answers, start(model, answers) as (url, process):
            found.append(measured(url, key, process, requests, clients))
    return found[0], found[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--clients", type=int, default=32)
    options = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OPENAI_API_KEY": "none"}
    for name, figures in zip(("ours", "RankLLM"), measure_servers(options.requests, options.clients), strict=True):
        print(name, {key: round(value, 2) for key, value in asdict(figures).items()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
