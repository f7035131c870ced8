"""SIGKILL at any moment, full disks, folders that can't be written, clock jumps, two processes on one journal.

The same command continues: the run has the same bytes in the end, and no call is paid more than twice.
"""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence, Sized
from functools import partial
from pathlib import Path

import pytest
from conftest import RunReranker
from fault_server import FaultServer, serving

from pyserini_reasonrank.ir.validate import validate
from pyserini_reasonrank.records import Candidate, Query, Request

KILLS = int(os.environ.get("REASONRANK_KILLS", "100")) // 2
QUERIES, DEPTH = 3, 12


def requests() -> list[Request]:
    return [
        Request(
            Query(f"q{number}", f"list {number}"),
            tuple(
                Candidate(f"d{i}", float(DEPTH - i), f"Passage of {number} that is worth {(i * 5 + number) % 17}.")
                for i in range(DEPTH)
            ),
            number,
        )
        for number in range(QUERIES)
    ]


@pytest.fixture(scope="module")
def candidates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("input") / "candidates.jsonl"
    rows = [
        {
            "qid": request.query.qid,
            "query": request.query.text,
            "candidates": [{"docid": c.docid, "score": c.score, "text": c.text} for c in request.candidates],
        }
        for request in requests()
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def command(candidates: Path, url: str, output: str | Path = "run.txt", *more: object) -> list[str]:
    words = ["rerank", "--candidates", candidates, "--output", output, "--rerank", "reasonrank"]
    words += ["--rerank.engine.name", "openai", "--rerank.engine.base_url", url, "--rerank.engine.concurrency", 2]
    words += ["--rerank.strategy.window_size", 4, "--rerank.strategy.stride", 2, *more]
    return [sys.executable, "-m", "pyserini_reasonrank", *map(str, words)]


def finished(words: Sequence[str], folder: Path, output: str = "run.txt") -> bytes:
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert not validate(folder / output).findings
    return (folder / output).read_bytes()


def asked(server: FaultServer) -> dict[str, int]:
    """How often each prompt was asked."""
    return {key: len(times) for key, times in server.times.items()}


@pytest.mark.soak_only
def test_killed_at_a_random_moment_and_run_again(candidates: Path, tmp_path: Path) -> None:
    """From the first import to the last rename; each kill has a run of its own, which is then run again."""
    chance = random.Random(929)
    with serving(FaultServer(0.0, seconds=0.02)) as server:
        began = time.monotonic()
        whole = finished(command(candidates, server.url), tmp_path)
        whole_seconds, calls = time.monotonic() - began, server.calls
        assert set(asked(server).values()) == {1}
        again = 0
        for number in range(KILLS):
            folder = tmp_path / str(number)
            folder.mkdir()
            server.times.clear()
            process = subprocess.Popen(
                command(candidates, server.url), cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            time.sleep(chance.uniform(0.5 * (number % 2), 1.0) * whole_seconds)
            process.kill()
            process.wait()
            assert finished(command(candidates, server.url), folder) == whole
            assert len(asked(server)) == calls
            assert max(asked(server).values()) <= 2
            again += server.calls - calls
            assert server.calls - calls <= 2  # the calls in flight
            assert not [path for path in folder.iterdir() if path.suffix in (".tmp", ".lock", ".partial")]
    assert again <= 2 * KILLS


@pytest.mark.soak_only
def test_killed_again_and_again_each_call_is_paid_once_more_at_most_for_each_kill(
    candidates: Path, tmp_path: Path
) -> None:
    with serving(FaultServer(0.0, seconds=0.02)) as server:
        for kills in range(3):
            process = subprocess.Popen(
                command(candidates, server.url), cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            until(partial(len_at_least, server.times, 3 * kills + 2))
            process.kill()
            process.wait()
        finished(command(candidates, server.url), tmp_path)
        assert server.calls - len(server.times) <= 3 * QUERIES  # a query has one call that is not in the journal


@pytest.mark.soak_only
def test_two_processes_on_one_journal(candidates: Path, tmp_path: Path) -> None:
    """They write two runs at the same time and share calls: each call is paid twice at most, and both runs are the same."""
    with serving(FaultServer(0.0, seconds=0.02)) as server:
        words = [
            command(candidates, server.url, name, "--rerank.journal", "shared.sqlite") for name in ("a.txt", "b.txt")
        ]
        both = [subprocess.Popen(line, cwd=tmp_path, stderr=subprocess.PIPE, text=True) for line in words]
        said = [process.communicate(timeout=300)[1] for process in both]
        assert [process.returncode for process in both] == [0, 0], said
        assert max(asked(server).values()) <= 2
        paid = server.calls
        assert (tmp_path / "a.txt").read_bytes() == (tmp_path / "b.txt").read_bytes()
        assert finished(
            command(candidates, server.url, "c.txt", "--rerank.journal", "shared.sqlite"), tmp_path, "c.txt"
        )
        assert server.calls == paid  # nothing of the journal is lost


@pytest.mark.soak_only
def test_a_disk_that_fills_up_ends_in_one_sentence_and_the_run_continues(candidates: Path, tmp_path: Path) -> None:
    """The largest file of the process is limited, so the journal can't grow; then there is room again."""

    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))

    with serving(FaultServer(0.0, padding=4_000)) as server:
        words = command(candidates, server.url)
        done = subprocess.run(
            words, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False, preexec_fn=little_room
        )
        assert done.returncode == 1, done.stderr
        assert done.stderr.count("error: ") == 1
        assert "can't be written" in done.stderr
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "run.txt").exists()
        stored = server.calls
        resumed = finished(words, tmp_path)
        assert server.calls - len(server.times) <= 4
        assert stored
        (tmp_path / "other").mkdir()
        assert finished(words, tmp_path / "other") == resumed


READ_ONLY = Path("/sys")


@pytest.mark.soak_only
@pytest.mark.skipif(not READ_ONLY.is_dir(), reason=f"no {READ_ONLY}, a folder that even root can't write to")
def test_a_folder_that_cannot_be_written_is_refused_before_a_call(candidates: Path, tmp_path: Path) -> None:
    with serving(FaultServer(0.0)) as server:
        words = command(candidates, server.url, READ_ONLY / "run.txt")
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 2, done.stderr
        assert done.stderr.startswith("error: ")
        assert f"{READ_ONLY}" in done.stderr
        assert done.stderr.count("\n") == 1
        assert not server.calls


def test_clock_jumps_change_nothing(run_reranker: RunReranker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of day jumps by years in both directions at each look: waits and times are those of a monotonic clock."""
    jumps, real = random.Random(7), time.time
    first = tmp_path / "first.txt"
    first.write_text(
        "".join(
            f"{r.query.qid} Q0 {c.docid} {i} {c.score} f\n" for r in requests() for i, c in enumerate(r.candidates, 1)
        )
    )
    flags = {"strategy": {"window_size": 4, "stride": 2}}

    def run(name: str, url: str) -> bytes:
        engine = {"name": "openai", "base_url": url, "concurrency": 2}
        outcome = run_reranker("reasonrank", {"engine": engine, **flags}, requests(), tmp_path / name, first)
        assert all(0 <= seconds < 60 for seconds in outcome.seconds.values())
        return outcome.output.read_bytes()

    with serving(FaultServer(0.2, ("429 with a time", "500"))) as server:
        straight = run("straight.txt", server.url)
        monkeypatch.setattr(time, "time", lambda: real() + jumps.uniform(-3e8, 3e8))
        began = time.monotonic()
        assert run("jumping.txt", server.url) == straight
        assert time.monotonic() - began < 60


def len_at_least(items: Sized, least: int) -> bool:
    return len(items) >= least


def until(condition: Callable[[], object]) -> None:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < 60
        time.sleep(0.005)
