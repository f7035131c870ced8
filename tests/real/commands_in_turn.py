"""Runs commands of the package in one process, one after the other: libraries are imported once for all of them.

``python commands_in_turn.py < commands.json > results.json``: a list of argument lists, and their exit statuses and outputs.
"""

from __future__ import annotations

import io
import json
import sys
from contextlib import redirect_stderr, redirect_stdout

from pyserini_reasonrank.__main__ import main


def run(arguments: list[str]) -> tuple[int, str, str]:
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        status = main(arguments)
    return status, out.getvalue(), err.getvalue()


if __name__ == "__main__":
    results = [run(arguments) for arguments in json.load(sys.stdin)]
    json.dump(results, sys.stdout)
