"""Ctrl-C and SIGTERM at any moment: the process ends at once with one line, and leaves nothing behind but its journal."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from conftest import Collection
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from pyserini_reasonrank import _startup
from pyserini_reasonrank.journal_reader import read_answers

SIGNALS = {signal.SIGINT: (130, "interrupted"), signal.SIGTERM: (143, "terminated")}
AT_MOST = 2.0  # seconds
RESUME = "; run the same command again to continue from the journal"
ANSWER = {"choices": [{"message": {"content": "<answer>[2] > [1]</answer>"}, "finish_reason": "stop"}]}


class Server:
    """A server whose model list and answers take as long as a test says, and that counts what it is asked."""

    def __init__(self, http: HTTPServer) -> None:
        self.listed, self.asked, self.answered = 0, 0, 0
        self.list_seconds = self.answer_seconds = 0.0
        self.ended = threading.Event()
        http.expect_request("/v1/models").respond_with_handler(self._list)
        http.expect_request("/v1/chat/completions").respond_with_handler(self._chat)
        self.url = http.url_for("/v1")

    def _list(self, request: Request) -> Response:
        self.listed += 1
        self.ended.wait(self.list_seconds)
        return Response(json.dumps({"data": [{"id": "m"}]}), mimetype="application/json")

    def _chat(self, request: Request) -> Response:
        self.asked += 1
        self.ended.wait(self.answer_seconds)
        self.answered += 1
        return Response(json.dumps(ANSWER), mimetype="application/json")


@pytest.fixture
def server() -> Iterator[Server]:
    with HTTPServer(threaded=True) as http:
        served = Server(http)
        yield served
        served.ended.set()


@pytest.fixture
def words(collection: Collection, tokenizer_file: Path) -> Callable[[str], list[str]]:
    """A command with a server; it warns of nothing."""
    return lambda url: [*_words(collection, url), "--rerank.tokenizer", str(tokenizer_file.parent)]


def _words(collection: Collection, url: str) -> list[str]:
    return [
        "rerank", *collection.inputs, "--output", "run.txt", "--rerank", "reasonrank", "--rerank.engine.name", "openai",
        "--rerank.engine.base_url", url, "--rerank.engine.concurrency", "1",
        "--rerank.strategy.window_size", "4",
    ]  # fmt: skip


def begin(command: list[str], folder: Path, **environment: str) -> subprocess.Popen[str]:
    (folder / "temporary").mkdir(exist_ok=True)
    # a shell's background jobs ignore SIGINT, and so would their children
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"TMPDIR": str(folder / "temporary"), **environment},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip


def until(condition: Callable[[], object]) -> None:
    waited = time.monotonic()
    while not condition():
        assert time.monotonic() - waited < 60
        time.sleep(0.005)


def handles_signals(process: subprocess.Popen[str]) -> bool:
    """Whether the process has a handler for SIGTERM: Python itself installs none."""
    caught = re.search(r"^SigCgt:\s*(\w+)", Path(f"/proc/{process.pid}/status").read_text(), re.MULTILINE)
    return bool(caught and int(caught[1], 16) & 1 << (signal.SIGTERM - 1))


def ended_at_once(process: subprocess.Popen[str], number: signal.Signals, folder: Path, remedy: str) -> None:
    """Send the signal and check what is left."""
    status, word = SIGNALS[number]
    began = time.monotonic()
    process.send_signal(number)
    printed, said = process.communicate(timeout=30)
    assert time.monotonic() - began < AT_MOST
    assert (process.returncode, printed) == (status, "")
    assert said == f"error: {word}{remedy}\n"
    assert list((folder / "temporary").iterdir()) == []
    finished = (folder / "run.txt").exists()  # without its metadata: the lock says whose it is
    assert bool(list(folder.glob("*.lock"))) == finished
    assert not list(folder.glob("*.tmp"))


def python(*command: str) -> list[str]:
    return [sys.executable, "-m", "pyserini_reasonrank", *command]


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("delay", [0.0, 0.05, 0.15, 0.4])
def test_in_the_first_second(
    number: signal.Signals, delay: float, words: Callable[[str], list[str]], tmp_path: Path
) -> None:
    """While Python imports the package, plans the run, or reaches a server that does not exist."""
    process = begin(python(*words("http://192.0.2.1/v1")), tmp_path)
    until(lambda: handles_signals(process))
    time.sleep(delay)
    began = time.monotonic()
    process.send_signal(number)
    printed, said = process.communicate(timeout=30)
    assert time.monotonic() - began < AT_MOST
    assert (process.returncode, printed) == (SIGNALS[number][0], "")
    assert said in (f"error: {SIGNALS[number][1]}\n", f"error: {SIGNALS[number][1]}{RESUME}\n")
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize("number", SIGNALS)
def test_while_the_engine_starts(
    number: signal.Signals, server: Server, words: Callable[[str], list[str]], tmp_path: Path
) -> None:
    server.list_seconds = 60
    process = begin(python(*words(server.url)), tmp_path)
    until(lambda: server.listed)
    ended_at_once(process, number, tmp_path, RESUME)


@pytest.mark.parametrize("number", SIGNALS)
def test_while_a_server_does_not_answer(
    number: signal.Signals, server: Server, words: Callable[[str], list[str]], tmp_path: Path
) -> None:
    server.answer_seconds = 60
    process = begin(python(*words(server.url)), tmp_path)
    until(lambda: server.asked)
    ended_at_once(process, number, tmp_path, RESUME)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_journal_keeps_what_was_paid(
    number: signal.Signals, server: Server, words: Callable[[str], list[str]], tmp_path: Path
) -> None:
    server.answer_seconds = 0.05
    process = begin(python(*words(server.url)), tmp_path)
    until(lambda: server.answered >= 4)
    ended_at_once(process, number, tmp_path, RESUME)
    before = server.answered
    kept = len(read_answers(tmp_path / "run.txt.journal.sqlite"))
    assert before - 2 <= kept <= before  # one may be on its way, another one may be asked after the signal
    done = subprocess.run(
        python(*words(server.url)), cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True
    )
    assert f"{kept} journal entries" in done.stdout
    assert len((tmp_path / "run.txt").read_text().splitlines()) == 33


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("written", ["run.txt", "run.txt.ir-metadata.yml"])
def test_while_an_output_is_written(
    number: signal.Signals, written: str, collection: Collection, tmp_path: Path
) -> None:
    code = f"""
        import os, pathlib, sys, time
        from pyserini_reasonrank import interrupts
        interrupts.install()
        from pyserini_reasonrank.__main__ import main
        def slow(descriptor):
            if os.readlink(f"/proc/self/fd/{{descriptor}}").endswith("/{written}.tmp"):
                pathlib.Path("writing").touch()
                time.sleep(60)
        os.fsync = slow
        sys.exit(main(sys.argv[1:]))
    """
    oracle = ["--rerank.engine.name", "oracle", "--rerank.engine.qrels", str(collection.qrels)]
    line = ["rerank", *collection.inputs, "--output", "run.txt", "--rerank", "reasonrank", *oracle]
    process = begin([sys.executable, "-c", textwrap.dedent(code), *line], tmp_path)
    until((tmp_path / "writing").exists)
    ended_at_once(process, number, tmp_path, RESUME)
    assert (tmp_path / "run.txt").exists() == (written != "run.txt")
    assert begin([sys.executable, "-m", "pyserini_reasonrank", *line], tmp_path).wait(60) == 0
    assert not list(tmp_path.glob("*.lock"))


@pytest.mark.parametrize("number", SIGNALS)
def test_while_pyserini_searches(
    number: signal.Signals, server: Server, collection: Collection, tmp_path: Path
) -> None:
    """The search process ignores SIGTERM, has a child, and keeps a file in its temporary folder."""
    (tmp_path / "endless_search.py").write_text(
        "import pathlib, signal, subprocess, sys, tempfile, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "folder = tempfile.mkdtemp()\n"
        "inner = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "import os\n"
        "pathlib.Path('part').write_text(f'{os.getpid()} {inner.pid}')\n"
        "pathlib.Path('part').rename('pids')\n"
        "time.sleep(600)\n"
    )
    code = """
        import sys
        from pyserini_reasonrank import interrupts
        interrupts.install()
        from pyserini_reasonrank import search
        search.FIRST_STAGE = "endless_search"
        sys.exit(search.main(sys.argv[1:], "pyserini.search.lucene"))
    """
    line = ["--index", "i", "--topics", "t", "--output", "run.txt", "--rerank", "reasonrank", "--rerank.engine.name",
            "openai", "--rerank.engine.base_url", server.url]  # fmt: skip
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    process = begin([sys.executable, "-c", textwrap.dedent(code), *line], tmp_path, PYTHONPATH=path)
    until((tmp_path / "pids").exists)
    ended_at_once(process, number, tmp_path, RESUME)
    for pid in map(int, (tmp_path / "pids").read_text().split()):
        until(partial(ended, pid))


def ended(pid: int) -> bool:
    """Whether the process has ended, also if its parent has not asked for its status."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_an_ignored_interrupt_stays_ignored(server: Server, words: Callable[[str], list[str]], tmp_path: Path) -> None:
    """As under nohup, and in the background of a shell script."""
    server.answer_seconds = 0.05
    with subprocess.Popen(
        python(*words(server.url)), cwd=tmp_path, stdout=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    ) as process:  # fmt: skip
        until(lambda: server.asked)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("line", "ends"),
    [
        ("python -m pyserini_reasonrank rerank --rerank reasonrank", True),
        ("python -Im pyserini_reasonrank.search --rerank reasonrank", True),
        ("python -m pyserini_reasonrank train sft", False),
        ("python -m pyserini.search.lucene --topics t", False),
        ("python -m pytest pyserini_reasonrank", False),
        ("python script.py -m", False),
    ],
)
def test_signals_are_handled_from_the_start_of_the_interpreter(line: str, ends: bool) -> None:
    assert _startup.ends_at_once(line.split()) is ends
