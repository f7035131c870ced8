"""Commands of the package as a user types them, one core each, with what they cost."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended."""

    status: int
    said: str
    """What it wrote on stderr."""
    cpu: float
    """Seconds, its children's with them: unlike wall time, much the same on a busy machine."""
    memory: float
    """GB at the most, of the largest of its processes."""

    @property
    def error(self) -> str:
        """The last line of what it said."""
        return (self.said.strip().splitlines() or ["?"])[-1]


def run(module: str, *arguments: object, limit: float | None = None, cores: int = 1) -> Done:
    """``python -m module arguments``, ended after ``limit`` seconds."""
    words = [sys.executable, "-m", module, *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(cores)}
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=said, env=environment)
        timer = threading.Timer(limit or threading.TIMEOUT_MAX, process.kill)
        timer.daemon = True
        timer.start()
        _, status, spent = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        timer.cancel()
        said.seek(0)
        text = said.read().decode(errors="replace")
    return Done(process.returncode, text, spent.ru_utime + spent.ru_stime, spent.ru_maxrss / 1e6)


def must(module: str, *arguments: object) -> None:
    """The same, where a failure ends the benchmark."""
    done = run(module, *arguments)
    if done.status:
        raise SystemExit(done.said)
