"""``serve`` as a process: addresses and tokens, errors before anything is loaded, and what a signal does."""

from __future__ import annotations

import re
import signal
import socket
import threading
import time
from pathlib import Path

import httpx
import pytest
from conftest import Collection, Command, replaced
from serving import served

from pyserini_reasonrank.serve.command import TOKEN, _listening

BODY = {"query": "q", "documents": ["a", "b"]}
SLOW = {"query": "slow", "documents": [f"document {i}" for i in range(30)]}


def words(collection: Collection, *more: str) -> list[str]:
    oracle = ["--rerank.engine.name", "oracle", "--rerank.engine.qrels", str(collection.qrels)]
    return replaced(["serve", "--rerank", "reasonrank", *oracle, "--port", "0"], more)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_once_its_requests_are_served(collection: Collection, number: signal.Signals) -> None:
    slow = ("--rerank.engine.name", "faulty", "--rerank.engine.inner.name", "oracle",
            "--rerank.engine.inner.qrels", str(collection.qrels), "--rerank.engine.seconds", "0.5")  # fmt: skip
    with served("serve", "--rerank", "reasonrank", *slow, "--port", "0") as (url, process):
        answers: list[httpx.Response] = []
        asking = threading.Thread(target=lambda: answers.append(httpx.post(f"{url}/v1/rerank", json=SLOW, timeout=30)))
        asking.start()
        while httpx.get(f"{url}/health").json()["active"] == 0:
            time.sleep(0.02)
        process.send_signal(number)
        asking.join()
        assert answers[0].status_code == 200
        assert process.wait(10) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_a_reranker_in_a_file_is_served_under_its_name(collection: Collection, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"reranker: setwise\nengine: {{name: oracle, qrels: {collection.qrels}}}\n", encoding="utf-8")
    with served("serve", "--rerank", str(file), "--port", "0") as (url, _):
        assert httpx.post(f"{url}/v2/rerank", json=BODY | {"model": "mine"}).json()["model"] == "mine"


def test_a_short_answer_leaves_at_once() -> None:
    """Without TCP_NODELAY the second packet of an answer waits for the client's acknowledgement: 40 ms a request."""
    with _listening("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_several_rerankers(collection: Collection, tmp_path: Path) -> None:
    settings = tmp_path / "setwise.yaml"
    settings.write_text("depth: 5\n", encoding="utf-8")
    with served(*words(collection, "--also", "rank-r1", "--also", f"setwise={settings}")) as (url, _):
        for name in ("reasonrank", "rank-r1", "setwise"):
            assert httpx.post(f"{url}/v2/rerank", json=BODY | {"model": name}).json()["model"] == name


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--host", "0.0.0.0"], rf"--host 0\.0\.0\.0 can be reached from other machines: set .*{TOKEN}"),
        (["--host", "no.such.name.invalid"], "can be reached from other machines"),
        (["--prot", "1"], "has no flag --prot; did you mean '--port'"),
        (["--also", "reasonrank"], "reasonrank is already served"),
        (["--also", "rank-r3"], "unknown reranker 'rank-r3'|no reranker"),
        (["--port", "99999999"], "--port: 99999999 is not a number from 0 to 65535"),
    ],
)
def test_an_error_is_one_sentence(
    flags: list[str], says: str, command: Command, collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(TOKEN, raising=False)
    done = command(*words(collection, *flags))
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"error: .+\n", done.stderr)
    assert re.search(says, done.stderr)


def test_a_port_in_use_is_named(command: Command, collection: Collection) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = command(*words(collection, "--port", str(port)))
    assert done.returncode == 2
    assert f"127.0.0.1:{port} can't be used" in done.stderr


def test_a_reranker_is_required(command: Command) -> None:
    assert command("serve").stderr == "error: serve needs --rerank NAME\n"
