"""The ray engine on a real cluster of several nodes on this machine: throughput, dead nodes, late nodes, signals."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import RunReranker

from pyserini_reasonrank.engines import build_engine
from pyserini_reasonrank.engines.replica_pool import ReplicaPool
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.journal_reader import read_answers
from pyserini_reasonrank.models.catalogue import Model
from pyserini_reasonrank.records import Call, Candidate, Completion, Message, Prompt, Query, Request, Sampling

pytest.importorskip("ray", reason="Ray is not installed: pip install 'pyserini-reasonrank[ray]'")

SLEEPY = '''
"""An engine that takes a fixed time for a few calls at once, and answers with its process."""

import asyncio
import os

from pyserini_reasonrank.engines import Engine, EngineOptions
from pyserini_reasonrank.records import Completion


class SleepyOptions(EngineOptions):
    slots: int = 4
    seconds: float = 0.2


class Sleepy(Engine[SleepyOptions]):
    name = "sleepy"
    without_model = True
    options_class = SleepyOptions

    async def start(self) -> None:
        self._free = asyncio.Semaphore(self.options.slots)

    async def generate(self, prompt, sampling, call):
        async with self._free:
            await asyncio.sleep(self.options.seconds)
        return Completion(str(os.getpid()))
'''
AT_MOST = 2.0  # seconds from a signal to the end of all processes
NODE = {"num_cpus": 1, "object_store_memory": 80_000_000}
QUERIES, CALLS = 16, 5


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A cluster whose head has room for one replica. Its processes find the package ``sleepy``, which registers an engine."""
    folder = tmp_path_factory.mktemp("packages")
    (folder / "sleepy.py").write_text(SLEEPY, encoding="utf-8")
    described = folder / "sleepy-1.0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: sleepy\nVersion: 1.0\n", encoding="utf-8")
    registered = "[pyserini_reasonrank.engines]\nsleepy = sleepy:Sleepy\n"
    (described / "entry_points.txt").write_text(registered, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")
        patch.syspath_prepend(folder)
        from ray.cluster_utils import Cluster

        made = Cluster(True, head_node_args={**NODE, "include_dashboard": False})
        try:
            yield made
        finally:
            made.shutdown()


def call(qid: str, number: int) -> Call:
    return Call(qid, number, ("a", "b"), lambda gains: "", lambda gains, choices: {})


async def asked(engine: Any, prefix: str) -> tuple[float, dict[str, set[str]]]:
    """Calls per second of concurrent queries with dependent calls, and the replicas that answered each query."""
    prompt = Prompt((Message("user", "Order these."),))

    async def query(qid: str) -> set[str]:
        return {(await engine.generate(prompt, Sampling(), call(qid, number))).text for number in range(CALLS)}

    began = time.monotonic()
    qids = [f"{prefix}{number}" for number in range(QUERIES)]
    used = await asyncio.gather(*map(query, qids))
    return QUERIES * CALLS / (time.monotonic() - began), dict(zip(qids, used, strict=True))


async def ready(pool: Any, replicas: int) -> None:
    async with asyncio.timeout(120):
        while len(pool.handles) < replicas:
            await asyncio.sleep(0.05)


def test_a_second_replica_doubles_the_throughput_and_each_query_stays_on_one(cluster: Any) -> None:
    engine: Any = build_engine(
        "ray", {"of": "sleepy", "replicas": 2, "address": cluster.address}, Model("sleepy", "sleepy")
    )

    async def test() -> None:
        await engine.start()
        try:
            alone, used = await asked(engine, "a")
            assert len(set.union(*used.values())) == 1
            cluster.add_node(**NODE)  # the second replica has waited for room
            await ready(engine._pool, 2)
            together, used = await asked(engine, "b")
            assert all(len(replicas) == 1 for replicas in used.values())
            assert list(Counter(min(replicas) for replicas in used.values()).values()) == [QUERIES // 2, QUERIES // 2]
            for repetition in range(6):  # the processes of the new node may still be starting on this machine
                if together >= 1.9 * alone:
                    break
                together = (await asked(engine, f"c{repetition}-"))[0]
            assert together >= 1.9 * alone
        finally:
            await engine.close()

    asyncio.run(test())


WINDOWS = {"strategy": {"name": "sliding", "window_size": 2, "stride": 1}}
REQUESTS = tuple(
    Request(Query(f"q{n}", f"topic {n}"), tuple(Candidate(f"d{n}-{i}", 9.0 - i, f"Passage {i}.") for i in range(9)), n)
    for n in range(8)
)


def faulty(tmp_path: Path, **more: Any) -> dict[str, Any]:
    """An engine whose answers differ by query, and whose calls take as long as those of a model."""
    qrels = tmp_path / "qrels.txt"
    grades = [
        f"{r.query.qid} 0 {c.docid} {(7 * i + 3 * r.number) % 11 % 4}"
        for r in REQUESTS
        for i, c in enumerate(r.candidates)
    ]
    qrels.write_text("\n".join(grades) + "\n", encoding="utf-8")
    settings = {"inner": {"name": "oracle", "qrels": str(qrels)}, "faults": {"duplicates": 0.3}, "seconds": 0.1}
    return {"name": "faulty", **settings, **more}


def test_a_node_that_dies_leaves_no_trace_in_the_run(
    cluster: Any, run_reranker: RunReranker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not cluster.worker_nodes:
        cluster.add_node(**NODE)
    here = faulty(tmp_path)
    local, ray, again = (tmp_path / name for name in ("local.txt", "ray.txt", "again.txt"))
    run_reranker("rankgpt", {**WINDOWS, "engine": here}, REQUESTS, local)
    calls, dead = 0, False
    ask = ReplicaPool.ask

    async def counted(self: Any, *arguments: Any) -> Completion:
        nonlocal calls, dead
        calls += 1
        if calls > 8 and not dead:
            await ready(self, 2)
        if calls > 20 and not dead and all(replica.in_flight for replica in self._ready):
            dead = True
            cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
        return await ask(self, *arguments)

    monkeypatch.setattr(ReplicaPool, "ask", counted)
    on_ray = here | {"name": "ray", "of": "faulty", "replicas": 2, "address": cluster.address}
    record = run_reranker("rankgpt", {**WINDOWS, "engine": on_ray}, REQUESTS, ray)
    assert ray.read_bytes() == local.read_bytes()
    assert any(re.fullmatch(r"replicas that died: 1; calls asked again .*: [1-9]\d*", w) for w in record.warnings)
    monkeypatch.undo()
    replayed = run_reranker("rankgpt", {**WINDOWS, "engine": here, "journal": str(record.journal)}, REQUESTS, again)
    assert sum(part.tally.calls for part in replayed.parts.values()) == 0
    assert again.read_bytes() == local.read_bytes()


def replicas() -> list[int]:
    """The processes of replicas, and of the engines in them; Ray names its processes by their class."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if {"ray::EngineActor", "VLLM::EngineCore"}.intersection(
                " ".join(process.cmdline()).replace(".", " ").split()
            ):
                found.append(process.pid)
    return found


PROGRESS = ("reranking ", "starting ", "warning: smollm2")


def until_replicas_end(before: float) -> None:
    while left := replicas():
        assert time.monotonic() < before, left
        time.sleep(0.02)


def answered(journal: Path) -> int:
    """The finished calls in a journal, which may be in the making."""
    with suppress(UsageError):
        return len(read_answers(journal)) if journal.is_file() else 0
    return 0


def interrupted(tmp_path: Path, number: signal.Signals, settings: Mapping[str, Any], calls: int = 4) -> None:
    """Start ``rerank``, send it a signal when it has some answers, and check that nothing is left in time."""
    candidates, output = tmp_path / "candidates.jsonl", tmp_path / "run.txt"
    rows = [
        {
            "qid": r.query.qid,
            "query": r.query.text,
            "candidates": [{"docid": c.docid, "text": c.text} for c in r.candidates],
        }
        for r in REQUESTS
    ]
    candidates.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    config = tmp_path / "engine.yaml"
    config.write_text(json.dumps(settings), encoding="utf-8")
    command = [sys.executable, "-m", "pyserini_reasonrank", "rerank", "--candidates", candidates, "--output", output]
    command += ["--rerank", "rankgpt", "--rerank.config", config]
    folders = set(Path(tempfile.gettempdir()).glob("rr-ray-*"))
    with subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True) as process:
        journal = tmp_path / "run.txt.journal.sqlite"
        until = time.monotonic() + 200
        while process.poll() is None and answered(journal) < calls:
            assert time.monotonic() < until
            time.sleep(0.1)
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert replicas()
        process.send_signal(number)
        sent = time.monotonic()
        assert process.wait(AT_MOST) == 128 + number
        until_replicas_end(sent + AT_MOST)
        assert process.stderr is not None
        lines = [line for line in process.stderr.read().splitlines() if not line.startswith(PROGRESS)]
    name = "interrupted" if number == signal.SIGINT else "terminated"
    assert lines == [f"error: {name}; run the same command again to continue from the journal"]
    assert set(Path(tempfile.gettempdir()).glob("rr-ray-*")) <= folders


@pytest.mark.soak_only
def test_sigterm_ends_the_replicas_on_a_running_cluster(cluster: Any, tmp_path: Path) -> None:
    engine = faulty(tmp_path) | {"name": "ray", "of": "faulty", "address": cluster.address, "seconds": 1.0}
    interrupted(tmp_path, signal.SIGTERM, {"engine": engine, **WINDOWS})


@pytest.mark.soak_only
def test_ctrl_c_ends_a_cluster_of_the_run(tmp_path: Path) -> None:
    engine = faulty(tmp_path) | {"name": "ray", "of": "faulty", "replicas": 2, "seconds": 1.0}
    interrupted(tmp_path, signal.SIGINT, {"engine": engine, **WINDOWS})


@pytest.mark.soak_only
@pytest.mark.vllm
@pytest.mark.model
@pytest.mark.skipif(find_spec("vllm") is None, reason="vllm is not installed")
def test_sigterm_ends_vllm_in_a_replica_on_a_running_cluster(cluster: Any, tmp_path: Path) -> None:
    args = {"dtype": "float32", "max_model_len": 2048}
    engine = {"name": "ray", "of": "vllm", "args": args, "address": cluster.address}
    settings = {"model": "smollm2-135m", "engine": engine, "max_model_len": 2048, "max_bad": 1.0, **WINDOWS}
    interrupted(tmp_path, signal.SIGTERM, settings, calls=1)


@pytest.mark.soak_only
@pytest.mark.vllm
@pytest.mark.model
@pytest.mark.skipif(find_spec("vllm") is None, reason="vllm is not installed")
def test_replicas_of_vllm_answer_as_vllm_does(run_reranker: RunReranker, tmp_path: Path) -> None:
    args = {"dtype": "float32", "max_model_len": 2048}
    local, ray, again = (tmp_path / name for name in ("local.txt", "ray.txt", "again.txt"))
    here = {"engine": {"name": "vllm", "args": args}, "max_model_len": 2048}
    run_reranker("upr", here, REQUESTS, local)
    on_ray = here | {"engine": {"name": "ray", "of": "vllm", "args": args, "replicas": 2, "concurrency": 16}}
    record = run_reranker("upr", on_ray, REQUESTS, ray)
    assert sum(part.tally.calls for part in record.parts.values()) == 72
    assert docids(ray) == docids(local)
    replayed = run_reranker("upr", here | {"journal": str(record.journal)}, REQUESTS, again)
    assert sum(part.tally.calls for part in replayed.parts.values()) == 0
    assert again.read_bytes() == ray.read_bytes()
    assert not replicas()


def docids(run: Path) -> list[list[str]]:
    return [line.split()[:4] for line in run.read_text(encoding="utf-8").splitlines()]
