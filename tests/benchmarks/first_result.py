"""Run a command and note when the first finished query stands in ``OUTPUT.partial``.

    first_result.py SEEN.json OUTPUT COMMAND...

Times count from the first look after the journal is there, that is, from the first question on.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path


def main(seen: str, output: str, *command: str) -> int:
    journal, partial = Path(f"{output}.journal.sqlite"), Path(f"{output}.partial")
    process = subprocess.Popen(command)
    began = first = 0.0
    while process.poll() is None:
        now = time.monotonic()
        began = began or (now if journal.exists() else 0.0)
        first = first or (now if partial.exists() and partial.stat().st_size else 0.0)
        time.sleep(0.02)
    whole = time.monotonic() - began
    Path(seen).write_text(json.dumps({"first": (first or time.monotonic()) - began, "whole": whole}))
    return process.returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
