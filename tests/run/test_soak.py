"""A great many calls in one process: memory, open files and threads do not grow with their number."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

import pytest
from conftest import ROOT

CALLS = int(os.environ.get("REASONRANK_CALLS", "1000000"))
"""The calls of `make soak`."""
QUERIES = 500
"""The queries that are recorded; their answers are asked for again and again."""
WINDOWS = 9
PROGRAM = """
    import asyncio, gc, json, os, sys, threading
    from pathlib import Path

    from pyserini_reasonrank.rerankers.call_store import MemoryStore
    from pyserini_reasonrank.records import Candidate, Query, Request
    from pyserini_reasonrank.run.plan import plan
    from pyserini_reasonrank.run.session import Session
    from pyserini_reasonrank.settings import layers

    path, rounds, queries = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    candidates = tuple(Candidate(f"d{i}", float(-i), f"passage {i}") for i in range(100))
    planned = plan(*layers.load("rankgpt", {"engine": {"name": "recorded", "path": path}}))

    async def requests(number):
        for i in range(queries):
            yield Request(Query(f"q{i}", f"query {i} of round {number}"), candidates, i)

    def held():
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return {"memory": pages * os.sysconf("SC_PAGE_SIZE"), "files": len(os.listdir("/proc/self/fd")),
                "threads": threading.active_count(), "tasks": len(asyncio.all_tasks())}

    async def main():
        for engine in planned.engines:
            await engine.start()
        session, ranked = Session(planned, MemoryStore()), 0

        def done(ranking):
            nonlocal ranked
            ranked += sorted(ranking.order) == list(range(100))

        for number in range(rounds):
            await session.rerank_all(requests(number), done)
            tally = session.tally
            print(json.dumps({"calls": tally.calls, "bad": tally.bad, "ranked": ranked, **held()}), flush=True)

    asyncio.run(main())
"""


def measured(folder: Path, rounds: int, queries: int) -> list[Mapping[str, int]]:
    """What the process holds after each round of ``queries`` queries."""
    answers = folder / "answers.jsonl"
    order = " > ".join(f"[{i}]" for i in range(20, 0, -1))
    rows = [{"qid": f"q{i}", "call": call, "response": order} for i in range(queries) for call in range(WINDOWS)]
    answers.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), str(answers), str(rounds), str(queries)],
        capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def check(found: list[Mapping[str, int]], queries: int) -> None:
    rounds, last = len(found), found[-1]
    assert last["calls"] == rounds * queries * WINDOWS
    assert last["ranked"] == rounds * queries
    assert last["bad"] == 0
    settled = found[len(found) // 3]
    for name in ("files", "threads", "tasks"):
        assert last[name] == settled[name], name
    assert last["memory"] <= settled["memory"] * 1.1, found


@pytest.mark.soak_only
def test_a_million_calls_hold_no_more_than_thousands(tmp_path: Path) -> None:
    found = measured(tmp_path, max(CALLS // (QUERIES * WINDOWS), 6), QUERIES)
    check(found, QUERIES)
    print(f"{found[-1]['calls']:,} calls: {found[0]} at first, {found[-1]} at the end")
