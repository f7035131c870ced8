"""SinglePlan files of a model: from a folder, the hub's cache, a hub (a stand-in on this machine), or no hub at all."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer

from pyserini_reasonrank.models.hub import Unreachable, answers, model_file

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SCRIPT = """
import json, sys, time
from pyserini_reasonrank.models.hub import Unreachable, answers, model_file
for name in sys.argv[2:]:
    began = time.monotonic()
    try:
        file = model_file(sys.argv[1], name)
        said = file and file.read_text()
    except Unreachable as error:
        said = f"unreachable: {error}"
    print(json.dumps([said, time.monotonic() - began]))
"""  # in a process of its own: the hub's client reads where the hub and the cache are when it is imported


def ask(home: Path, endpoint: str, source: str, *names: str, offline: str = "0") -> list[tuple[str | None, float]]:
    """What ``model_file`` says of each name, and its seconds."""
    environment = {"HF_HOME": str(home), "HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": offline, "PATH": "/usr/bin"}
    command = [sys.executable, "-c", SCRIPT, source, *names]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120, cwd=root)
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


@pytest.fixture
def hub(httpserver: HTTPServer) -> HTTPServer:
    """A hub with one model, ``org/model``, of one file."""
    headers = {"X-Repo-Commit": COMMIT, "ETag": '"e1"'}
    httpserver.expect_request("/org/model/resolve/main/config.json").respond_with_data('{"a": 1}', headers=headers)
    httpserver.expect_request("/org/model/resolve/main/absent.json").respond_with_data(
        "", status=404, headers={"X-Repo-Commit": COMMIT, "X-Error-Code": "EntryNotFound"}
    )
    httpserver.expect_request("/org/private/resolve/main/config.json").respond_with_data(
        "", status=401, headers={"X-Error-Code": "RepoNotFound"}
    )
    return httpserver


def endpoint(server: HTTPServer) -> str:
    return server.url_for("").rstrip("/")


def test_a_folder_is_all_there_is_to_a_local_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert model_file(str(tmp_path), "config.json") == tmp_path / "config.json"
    assert model_file(str(tmp_path), "tokenizer.json") is None


def test_from_the_hub_and_then_from_its_cache(hub: HTTPServer, tmp_path: Path) -> None:
    asked = ask(tmp_path, endpoint(hub), "org/model", "config.json", "config.json", "absent.json", "absent.json")
    assert [said for said, _ in asked] == ['{"a": 1}', '{"a": 1}', None, None]
    requests = len(hub.log)
    again = ask(tmp_path, endpoint(hub), "org/model", "config.json", "absent.json", offline="1")
    assert [said for said, _ in again] == ['{"a": 1}', None]
    assert len(hub.log) == requests


def test_a_model_that_the_hub_does_not_show_us(hub: HTTPServer, tmp_path: Path) -> None:
    [(said, _)] = ask(tmp_path, endpoint(hub), "org/private", "config.json")
    assert said == "unreachable: the hub answers 401 for org/private"


def test_a_hub_that_does_not_answer_costs_one_short_try(tmp_path: Path) -> None:
    asked = ask(tmp_path, "http://127.0.0.1:9", "org/model", "tokenizer.json", "config.json", "tokenizer.json")
    assert [said for said, _ in asked] == ["unreachable: the hub does not answer"] * 3
    assert asked[0][1] < 5  # the client alone tries for 24 seconds
    assert max(seconds for _, seconds in asked[1:]) < 0.1


def test_offline_nothing_is_tried(tmp_path: Path) -> None:
    [(said, seconds)] = ask(tmp_path, "http://127.0.0.1:9", "org/model", "tokenizer.json", offline="1")
    assert said == "unreachable: HF_HUB_OFFLINE is set"
    assert seconds < 3


def test_a_name_that_no_hub_can_have() -> None:
    began = time.monotonic()
    with pytest.raises(Unreachable, match="is not a hub id"):
        model_file("no/such/folder/here", "config.json")
    assert time.monotonic() - began < 3


def test_whether_the_hub_answers(hub: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    constants = import_module("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # set if it was first imported without a network
    monkeypatch.setattr(constants, "ENDPOINT", endpoint(hub))
    assert answers()
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert not answers()
