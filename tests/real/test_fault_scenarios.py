"""Faults of a server, with the default settings: no candidate is lost, and no number in an error or a thought is a ranking.

The server is the stub of the benchmarks ($REASONRANK_PEER, default ../shared/peer), which knows the right order of every
window and draws its faults from hashes. `make soak` has twelve topics, 108 windows.
"""

from __future__ import annotations

import html
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from conftest import ROOT, SOAK, more

from pyserini_reasonrank.ir.validate import validate
from pyserini_reasonrank.journal_reader import export

PEER = Path(os.environ.get("REASONRANK_PEER") or ROOT.parent / "shared" / "peer")
TOPICS, LIMIT = 12 if SOAK else 4, 240.0

pytestmark = pytest.mark.skipif(not (PEER / "stub_server.py").is_file(), reason=f"no stub server at {PEER}")


@dataclass(frozen=True)
class Scenario:
    """Arguments of the stub; ``bad``: whether calls stay bad; ``exits``: the exit statuses that are right."""

    stub: tuple[str, ...] = ()
    bad: bool = False
    exits: tuple[int, ...] = (0,)


SCENARIOS = {
    "no fault": Scenario(),
    "HTTP 500, gone on retry": Scenario(("--fault", "http500=0.2")),
    "HTTP 500, again": Scenario(("--fault", "http500=0.2", "--sticky"), True, (1,)),
    "HTTP 429, gone on retry": Scenario(("--fault", "http429=0.2", "--retry-after", "0.1")),
    "HTTP 429, again": Scenario(("--fault", "http429=0.2", "--sticky", "--retry-after", "0.1"), True, (1,)),
    "truncated thought": Scenario(("--fault", "truncated=0.2", "--sticky"), True),
    "prose": Scenario(("--fault", "prose=0.2", "--sticky"), True),
    "duplicates and identifiers out of range": Scenario(("--fault", "dup=0.1", "--fault", "oor=0.1")),
    "empty": Scenario(("--fault", "empty=0.2", "--sticky"), True),
    "no choices": Scenario(("--fault", "nochoices=1.0", "--fault-query", "flea"), True, (1,)),
    "the thought quotes passages": Scenario(("--echo",)),
    "no field for reasoning": Scenario(("--no-reasoning-field",)),
    "connection reset, gone on retry": Scenario(("--fault", "reset=0.2")),
}
QUICK = ("truncated thought",)


@pytest.fixture(scope="module")
def stub() -> ModuleType:
    """The module of the stub, for its rule of relevance."""
    spec = importlib.util.spec_from_file_location("stub_server", PEER / "stub_server.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    lines = (PEER / "candidates_clean.jsonl").read_text(encoding="utf-8").splitlines()[:TOPICS]
    return [json.loads(line) for line in lines]


@contextmanager
def served(folder: Path, arguments: tuple[str, ...]) -> Iterator[str]:
    """The address of a stub that answers a hundred times faster than the default."""
    port_file = folder / "port"
    words = [
        sys.executable,
        str(PEER / "stub_server.py"),
        "--port-file",
        str(port_file),
        "--log",
        str(folder / "log.jsonl"),
    ]
    with subprocess.Popen([*words, "--scale", "0.01", *arguments], stdout=subprocess.DEVNULL) as server:
        try:
            while not port_file.exists():
                assert server.poll() is None
                time.sleep(0.02)
            yield f"http://127.0.0.1:{port_file.read_text()}/v1"
        finally:
            server.terminate()


def rerank(rows: list[dict[str, Any]], folder: Path, url: str) -> subprocess.CompletedProcess[str]:
    """The command with its default settings, but for passages that are not cut, as the stub's rule needs them."""
    candidates = folder / "candidates.jsonl"
    with candidates.open("w", encoding="utf-8") as file:
        for row in rows:
            documents = [{"docid": c["docid"], "score": c["score"], "text": c["contents"]} for c in row["candidates"]]
            file.write(json.dumps({"qid": row["qid"], "query": row["query"], "candidates": documents}) + "\n")
    words = ["rerank", "--candidates", candidates, "--output", folder / "run.txt", "--rerank", "reasonrank"]
    words += ["--rerank.engine.name", "openai", "--rerank.engine.base_url", url, "--rerank.passage_tokens", 1024]
    return subprocess.run(
        [sys.executable, "-m", "pyserini_reasonrank", *map(str, words)],
        capture_output=True, text=True, timeout=LIMIT, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("name", [*QUICK, *more(*(name for name in SCENARIOS if name not in QUICK))])
def test_a_fault_is_counted_and_its_windows_keep_their_order(
    name: str, rows: list[dict[str, Any]], stub: ModuleType, tmp_path: Path
) -> None:
    scenario = SCENARIOS[name]
    with served(tmp_path, scenario.stub) as url:
        done = rerank(rows, tmp_path, url)
    assert done.returncode in scenario.exits, done.stdout + done.stderr
    run = tmp_path / ("run.txt" if done.returncode == 0 else "run.txt.partial")
    found = [line.split() for line in run.read_text().splitlines()]
    assert {len(line) for line in found} == {6}
    for row in rows:
        docids = [line[2] for line in found if line[0] == row["qid"]]
        assert sorted(docids) == sorted(c["docid"] for c in row["candidates"])
    assert not validate(run, [row["qid"] for row in rows], None).findings
    texts = {(row["qid"], c["docid"]): c["contents"] for row in rows for c in row["candidates"]}
    queries = {row["qid"]: row["query"] for row in rows}
    bad = sum(check(judgement, queries, texts, stub) for judgement in export(tmp_path / "run.txt.journal.sqlite"))
    if done.returncode:
        failed = [row["qid"] for row in rows if not is_right(row, found, stub)]
        assert failed
        assert failed[0] in done.stderr, done.stderr
        for row in rows:
            if row["qid"] in failed:
                assert [line[2] for line in found if line[0] == row["qid"]] == [c["docid"] for c in row["candidates"]]
    else:
        assert (bad > 0) == scenario.bad
    statuses = done.stdout + done.stderr
    assert not bad or any(word in statuses for word in ("truncated", "empty", "error", "repaired", "failed")), statuses


def is_right(row: Mapping[str, Any], found: list[list[str]], stub: ModuleType) -> bool:
    """Whether a query has the right order of a sliding window."""
    candidates = row["candidates"]
    right = stub.slide(row["query"], [html.unescape(c["contents"]) for c in candidates])
    return [line[2] for line in found if line[0] == row["qid"]] == [candidates[i]["docid"] for i in right]


def check(
    judgement: Mapping[str, Any], queries: Mapping[str, str], texts: Mapping[tuple[str, str], str], stub: ModuleType
) -> bool:
    """Whether the answer was bad. Its window then has the order shown, but for passages that the answer names rightly."""
    qid, shown, order = judgement["qid"], judgement["docids"], judgement["order"]
    passages = [html.unescape(texts[qid, docid]) for docid in shown]
    right = [shown[i] for i in stub.right_order(queries[qid], passages)]
    if order == right:
        return False
    named = next(n for n in range(len(order)) if order[n] != right[n])
    kept = [docid for docid in shown if docid not in right[:named]]
    assert order == right[:named] + kept, (judgement["status"], judgement["detail"])
    assert judgement["status"] != "ok"
    return True
