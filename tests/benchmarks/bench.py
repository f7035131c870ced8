"""What the client costs, beside its targets, with a rival and a minimal client measured in the same run.

    python tests/benchmarks/bench.py [--quick] [--only SECTION[,SECTION]]

Each figure is printed as it comes, with its target, and is then in build/bench.json, so that a run that is killed loses the
figure being measured only. ``--only`` measures some sections and keeps the others' figures in the file.

A stub server with the latency of a continuously batching one and a known right answer for every window stands for the
model, so only the client is measured. Stub and harness are looked for in $REASONRANK_PEER (default ../shared/peer).
Timings are of whole processes; on a shared machine only the ratios of one run mean anything.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from commands import run
from figures import Row, Section, measure
from flat_batch import measure_flat_batch
from latency import reached
from replay import measure_replay
from scheduler import measure_scheduler
from server import measure_server

from pyserini_reasonrank.models.embedded import ensure_embedded

ROOT = Path(__file__).parents[2]
PEER = Path(os.environ.get("REASONRANK_PEER") or ROOT.parent / "shared" / "peer")
WATCH = Path(__file__).with_name("first_result.py")
REPLAYED = 100  # queries
SCALE = "0.1"  # the server is ten times faster than 2 ms a token: what is left is the client
QUICK = ("startup", "in-process", "one-query", "client-43")


def startup() -> Iterator[Row]:
    """What every Python of the environment pays for the start-up file, and what an import brings with it.

    Measured on the files of a wheel: an editable install is found by setuptools' own finder, which takes longer.
    """
    with tempfile.TemporaryDirectory() as folder:
        install = ["install", "--quiet", "--no-deps", "--no-build-isolation", "--target", folder, str(ROOT)]
        subprocess.run([sys.executable, "-m", "pip", *install], check=True, capture_output=True)
        empty = Path(folder, "empty")
        empty.mkdir()
        with_us, without = (
            [sys.executable, "-I", "-S", "-c", f"import site; site.addsitedir({str(d)!r})"] for d in (folder, empty)
        )
        pairs = [_seconds(with_us) - _seconds(without) for _ in range(101)]
        said = subprocess.run(
            [with_us[0], "-X", "importtime", *with_us[1:]], capture_output=True, text=True, check=True
        )
    modules = set(re.findall(r"\| +(pyserini_reasonrank[\w.]*)", said.stderr))
    yield Row("start-up file, no --rerank", 1000 * statistics.median(pairs), "ms", 1.0)
    yield Row("modules of ours at start", len(modules), "modules", 2)
    heavy = "import pyserini_reasonrank, sys; print(len({'torch', 'pyserini'} & sys.modules.keys()))"
    found = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True).stdout
    yield Row("torch or pyserini imported with the package", int(found), "modules", 0)


def _seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - began


def ours(extra: str = "") -> str:
    """The command line of this project as a client of the harness."""
    return (
        f"{shlex.quote(sys.executable)} -m pyserini_reasonrank rerank --run {{run}} --topics {{topics}} --corpus {{corpus}} "
        "--output {out_trec} --rerank reasonrank --rerank.model {model} --rerank.engine.name openai "
        "--rerank.engine.base_url {base_url} --rerank.engine.concurrency {bs} "
        f"--rerank.passage_tokens 512 --rerank.depth {{depth}} {extra}"
    )


class Harness:
    """Runs clients against the stub, one fresh stub and one fresh client each."""

    def __init__(self, model: Path) -> None:
        self.environment = os.environ | {
            "PEER_MODEL": str(model),
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }

    def run(self, client: str, width: int, replicas: int, command: str = "") -> dict[str, Any]:
        """One run's figures. RuntimeError with the end of what was said if it fails."""
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder, "out.jsonl")
            words = ["--client", client, "--batch-size", str(width), "--replicas", str(replicas), "--scale", SCALE]
            words += ["--out", str(out), "--name", "ours", "--cmd", command] if command else ["--out", str(out)]
            done = subprocess.run(
                [sys.executable, str(PEER / "measure_rankllm.py"), *words],
                capture_output=True, text=True, env=self.environment, cwd=folder, check=False,
            )  # fmt: skip
            if done.returncode:
                raise RuntimeError(f"{client}: {done.stderr[-400:]}")
            figures: dict[str, Any] = json.loads(out.read_text().splitlines()[-1])
            return figures

    def first_result(self, width: int, replicas: int) -> float:
        """Seconds of a run until the first finished query is on disk, as a share of the whole run."""
        with tempfile.TemporaryDirectory() as folder:
            seen = Path(folder, "seen.json")
            watched = f"{shlex.quote(sys.executable)} {WATCH} {seen} {{out_trec}} {ours()}"
            self.run("cmd", width, replicas, watched)
            times = json.loads(seen.read_text())
        return float(times["first"] / times["whole"])


def client(harness: Harness, replicas: int, bound: float, rivals: bool) -> Iterator[Row]:
    """Ours, a minimal asyncio client and RankLLM on the same queries."""
    queries = 43 * replicas
    least = harness.run("async", 128, replicas)
    own = harness.run("cmd", 128, replicas, ours())
    cpu = "cpu_ms_per_window"
    yield Row(f"{queries} queries: CPU a window", own[cpu], "ms")
    yield Row(f"{queries} queries: CPU a window / the minimal client's", own[cpu] / least[cpu], "ratio", 1.5)
    yield Row(f"{queries} queries: wall / bound", own["ratio"], "ratio", bound)
    yield Row(f"{queries} queries: peak RSS", own["rss_peak_mb"], "MB", 300)
    yield Row(f"{queries} queries: lists right", own["right"], "share", 1.0)
    yield Row(f"{queries} queries: first result / whole run", harness.first_result(128, replicas), "ratio", 0.75)
    yield Row(f"{queries} queries: minimal client, CPU a window", least[cpu], "ms")
    yield Row(f"{queries} queries: minimal client, wall / bound", least["ratio"], "ratio")
    if rivals:
        rival = harness.run("rankllm", 128, replicas)
        yield Row(f"{queries} queries: RankLLM, CPU a window", rival["cpu_ms_per_window"], "ms")
        yield Row(f"{queries} queries: RankLLM, wall / bound", rival["ratio"], "ratio")
        yield Row(f"{queries} queries: RankLLM, peak RSS", rival["rss_peak_mb"], "MB")
        yield Row(f"{queries} queries: RankLLM, lists right", rival["right"], "share")


def server() -> Iterator[Row]:
    """The server with 20 documents a request: beside the Python API, and with 200 clients at once."""
    found = measure_server(20_000, 200)
    yield Row("server: CPU of a request above the Python API", found.cpu_ms - found.api_cpu_ms, "ms", 3.0)
    yield Row("server: latency of one client", found.alone_ms, "ms")
    yield Row("server, 200 clients: p99 / p50", found.p99_ms / found.p50_ms, "ratio", 3.0)
    yield Row("server, 200 clients: requests lost of 20,000", found.lost, "requests", 0)
    yield Row("server, 200 clients: RSS after all / after a quarter", found.growth, "ratio", 1.1)


def in_process(queries: int) -> Iterator[Row]:
    """Scheduling without a server, and runs that are repeated from their journal."""
    found = measure_scheduler(queries)
    yield Row("in process: CPU a window", found.memory_ms, "ms", 1.0)
    yield Row("in process, with a journal: CPU a window", found.journal_ms, "ms")
    yield Row(f"simulated engine, {queries:,} queries: time / bound", found.ratio, "ratio", 1.03)
    replayed = measure_replay(REPLAYED)
    yield Row("journal: calls found", replayed.lookups, "calls/s", 20_000)
    yield Row("repeated run, one passage per call: calls", replayed.pointwise, "calls/s", 20_000)
    yield Row("repeated run, 20 passages per call: calls", replayed.listwise, "calls/s")


def one_query() -> Iterator[Row]:
    """A single query of 100 candidates with an oracle: rounds of calls and quality of pivot beside those of sliding."""
    pivot, sliding = reached("pivot"), reached("sliding")
    yield Row("one query of 100: rounds of pivot / of sliding", pivot.rounds / sliding.rounds, "ratio", 0.6)
    yield Row("one query of 100: nDCG@10 of sliding - of pivot", sliding.ndcg - pivot.ndcg, "nDCG", 0)


def streamed(queries: int) -> Iterator[Row]:
    """The memory of a run over as many queries as MS MARCO's dev set has, each with texts of its own."""
    with tempfile.TemporaryDirectory() as folder:
        candidates, qrels = Path(folder, "candidates.jsonl"), Path(folder, "qrels.txt")
        qrels.write_text("q0 0 d0-0 1\n")
        with candidates.open("w") as file:
            for number in range(queries):
                passages = [{"docid": f"d{number}-{i}", "text": f"{number} {i} " + "a moth " * 50} for i in range(100)]
                file.write(json.dumps({"qid": f"q{number}", "query": f"moth {number}", "candidates": passages}) + "\n")
        words = ["rerank", "--candidates", candidates, "--output", Path(folder, "run.txt"), "--rerank", "reasonrank"]
        words += ["--rerank.depth", 20, "--rerank.engine.name", "oracle", "--rerank.engine.qrels", qrels]
        done = run("pyserini_reasonrank", *words)
        if done.status:
            raise RuntimeError(done.error)
    yield Row(f"{queries:,} x 100 candidates, streamed: peak RSS", 1000 * done.memory, "MB", 1074)


def vllm() -> Iterator[Row]:
    """Sliding windows on vLLM beside one batch of the same prompts."""
    if not find_spec("vllm"):
        raise RuntimeError("vLLM is not installed")
    found = measure_flat_batch(24, 2)
    yield Row("vLLM, embedded model: sliding / one batch", found.sliding / found.flat, "ratio", 1.10)


def wide(harness: Harness) -> Iterator[Row]:
    """Many more calls in flight than the server takes at once."""
    for width in (512, 2048):
        found = harness.run("cmd", width, 10, ours())
        yield Row(f"430 queries, {width:,} in flight: lists right", found["right"], "share", 1.0)
        yield Row(f"430 queries, {width:,} in flight: wall / bound", found["ratio"], "ratio", 1.25)


def sections(quick: bool) -> dict[str, Section]:
    """The sections by name, in the order in which they are measured."""
    found: dict[str, Section] = {
        "startup": startup,
        "in-process": lambda: in_process(100 if quick else 1000),
        "one-query": one_query,
        "streamed": lambda: streamed(6980),
        "server": server,
        "vllm": vllm,
        "client-43": lambda: client(harness(), 1, 1.10, rivals=True),
        "client-430": lambda: client(harness(), 10, 1.25, rivals=True),
        "wide": lambda: wide(harness()),
    }
    return {name: section for name, section in found.items() if not quick or name in QUICK}


@cache
def harness() -> Harness:
    """The harness of the stub server. RuntimeError without its folder."""
    if not PEER.is_dir():
        raise RuntimeError(
            f"no stub server at {PEER}, so the client can't be measured (REASONRANK_PEER names its folder)"
        )
    return Harness(ensure_embedded(None, progress=True))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"only {', '.join(QUICK)}, with fewer queries")
    parser.add_argument(
        "--only", metavar="SECTION[,SECTION]", default="", help=f"of {', '.join(sections(quick=False))}"
    )
    options = parser.parse_args()
    known, only = sections(options.quick), [name for name in options.only.split(",") if name]
    if unknown := [name for name in only if name not in known]:
        parser.error(f"--only {','.join(unknown)}: the sections are {', '.join(known)}")
    return 0 if measure(known, only, ROOT / "build" / "bench.json") else 1


if __name__ == "__main__":
    sys.exit(main())
