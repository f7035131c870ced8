"""A server of this package in a process of its own, for tests and benchmarks."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def served(*arguments: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The URL and the process of ``python -m pyserini_reasonrank ARGUMENTS``, which is killed if it still runs at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pyserini_reasonrank", *arguments], stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if found := re.search(r"serving .* on (http://\S+)", line):
                yield found[1], process
                return
        raise AssertionError(f"the server ended with {process.wait()}")
    finally:
        process.kill()
        process.wait()
