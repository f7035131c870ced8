"""Where the client spends its CPU: the share of each layer in a run of 430 topics against the stub server.

    python tests/benchmarks/layers.py [--replicas 10]

A timer of the process's CPU interrupts the command every 2 ms and notes what its main thread does. CPU of other threads
arrives while the main thread waits for the network. Imports are left out.
"""

from __future__ import annotations

import argparse
import json
import runpy
import shlex
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import FrameType

SECONDS = 0.002
OTHERS = "other threads (journal, preparation of passages)"
LOOP = "event loop of asyncio"
LAYERS = {
    "HTTP, by aiohttp": ("/aiohttp/", "/yarl/", "/multidict/", "/asyncio/selector_events.py"),
    "requests and replies": ("/engines/",),
    "prompts": ("/prompts/", "/jinja2/"),
    "reading of answers": ("/parsing/", "/judges/"),
    "journal": ("/journal.py",),
    "files: run, corpus, topics, output": ("/ir/", "/run/candidates.py"),
    "scheduling": ("/rerankers/", "/strategies/", "/run/", "/records.py"),
}


def layer(frame: FrameType | None) -> str:
    """The layer of a stack: that of the innermost frame which belongs to one."""
    found, innermost = "", frame
    while frame is not None:
        name = frame.f_code.co_filename
        if "importlib" in name:
            return "imports"
        if not found:
            found = next((layer for layer, parts in LAYERS.items() if any(part in name for part in parts)), "")
        frame = frame.f_back
    if innermost is not None and innermost.f_code.co_name == "select":
        return OTHERS
    return found or LOOP


def sample(seen: str, command: list[str]) -> None:
    """Run the module ``command[0]`` with its arguments in this process; write the samples by layer to ``seen``."""
    samples = Counter[str]()
    signal.signal(signal.SIGPROF, lambda number, frame: samples.update([layer(frame)]))
    signal.setitimer(signal.ITIMER_PROF, SECONDS, SECONDS)
    sys.argv = command
    try:
        runpy.run_module(command[0], run_name="__main__", alter_sys=True)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        Path(seen).write_text(json.dumps(samples))


def measure_layers(replicas: int) -> dict[str, float]:
    """The share of each layer, the largest first."""
    from bench import Harness, ours

    from pyserini_reasonrank.models.embedded import ensure_embedded

    with tempfile.TemporaryDirectory() as folder:
        seen = Path(folder, "samples.json")
        command = ours().replace(" -m ", f" {shlex.quote(__file__)} --sampled {seen} ", 1)
        Harness(ensure_embedded(None, progress=True)).run("cmd", 128, replicas, command)
        samples = Counter[str](json.loads(seen.read_text()))
    del samples["imports"]
    return {name: count / samples.total() for name, count in samples.most_common()}


def main() -> int:
    if sys.argv[1:2] == ["--sampled"]:
        sample(sys.argv[2], sys.argv[3:])
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicas", type=int, default=10, help="copies of the 43 topics")
    for name, share in measure_layers(parser.parse_args().replicas).items():
        print(f"{share:5.0%}  {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
