"""A key is in no file, line or page that a command writes, and no command reaches the network unless it is asked to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Collection, more
from fault_server import FaultServer, serving

KEYS = {
    "OPENAI_API_KEY": "sk-planted-0123456789",
    "HF_TOKEN": "hf_planted0123456789",
}
IN_TURN = """
    import io, json, sys
    from contextlib import redirect_stderr, redirect_stdout
    from pyserini_reasonrank.__main__ import main

    results = []
    for arguments in json.loads(sys.argv[1]):
        with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
            status = main(arguments)
        results.append((status, out.getvalue(), err.getvalue()))
    json.dump(results, sys.stdout)
"""
OFFLINE = """
    import socket, sys

    def refuse(event, arguments):
        if event == "socket.connect" and isinstance(arguments[1], tuple) or event == "socket.getaddrinfo":
            raise OSError(f"connection attempted: {event} {arguments}")

    sys.addaudithook(refuse)
    try:
        socket.create_connection(("127.0.0.1", 9), 1)
    except OSError as error:
        assert "connection attempted" in str(error)  # so that this test can fail
"""


def in_turn(commands: Sequence[Sequence[object]], folder: Path, before: str = "") -> list[Any]:
    """The status, the standard output and the standard error of each command, in one process."""
    lists = json.dumps([[str(word) for word in command] for command in commands])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(before) + textwrap.dedent(IN_TURN), lists],
        capture_output=True, text=True, cwd=folder, env=os.environ | KEYS | {"PYTHONPATH": str(ROOT)}, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: list[Any] = json.loads(done.stdout)
    return [*found, (0, "", done.stderr)]


def after_a_run(collection: Collection) -> list[list[object]]:
    """The commands that read a run."""
    return [
        ["evaluate", "--qrels", collection.qrels, "run.txt"],
        ["report", "run.txt", "--output", "report.html", "--topics", collection.topics, "--corpus", collection.corpus],
        ["trace", "export", "run.txt"],
        ["trace", "pack", "run.txt", "-o", "packed.jsonl.gz"],
        ["trace", "pack", "run.txt", "-o", "packed.jsonl"],
    ]


@pytest.mark.parametrize("rate", [0.3, *more(1.0)])
def test_a_planted_key_is_in_no_artefact(rate: float, collection: Collection, tmp_path: Path) -> None:
    faults = ("500", "empty", "refusal") if rate < 1 else ("400",)
    with serving(FaultServer(rate, faults)) as server:
        rerank = ["rerank", *collection.inputs, "--output", "run.txt", "--rerank", "reasonrank", "--rerank.engine.name"]
        rerank += ["openai", "--rerank.engine.base_url", server.url, "--rerank.strategy.window_size", "4"]
        rerank += ["--rerank.max_bad", "1", "--rerank.engine.max_retries", "8" if rate < 1 else "0"]
        commands = [rerank, *(after_a_run(collection) if rate < 1 else [])]
        results = in_turn(commands, tmp_path)
        assert server.calls
        assert set(server.authorizations) == {f"Bearer {KEYS['OPENAI_API_KEY']}"}
    assert [status for status, *_ in results[: len(commands)]] == [int(rate == 1)] * len(commands), results
    written = {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert len(written) >= (5 if rate < 1 else 2)
    written |= {f"output {number}": "\n".join(said).encode() for number, (_, *said) in enumerate(results)}
    for name, content in written.items():
        assert not [key for key in KEYS.values() if key.encode() in content], name


def test_no_command_connects_to_the_network_unasked(collection: Collection, tmp_path: Path) -> None:
    oracle = ["--rerank.engine.name", "oracle", "--rerank.engine.qrels", collection.qrels]
    commands = [
        ["--help"],
        ["models"],
        ["doctor"],
        ["explain", "--rerank", "reasonrank", *oracle],
        ["rerank", *collection.inputs, "--output", "run.txt", "--rerank", "reasonrank", *oracle],
        *after_a_run(collection),
        ["validate", "run.txt"],
    ]
    for status, printed, said in in_turn(commands, tmp_path, OFFLINE):
        assert status == 0, said
        assert "connection attempted" not in printed + said
