"""A run whose answers are all in the journal loads no model; one that lacks an answer loads it when that is found."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import replaced
from tiny import WORDS, tiny_model

from pyserini_reasonrank.__main__ import main
from pyserini_reasonrank.engines.transformers import Transformers
from pyserini_reasonrank.ir.metadata import nested, read_metadata
from pyserini_reasonrank.journal_reader import contexts

Rerank = Callable[..., int]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models that were loaded."""
    loaded, load = list[str](), Transformers._load

    def counted(engine: Transformers) -> None:
        loaded.append(engine.model.name)
        load(engine)

    monkeypatch.setattr(Transformers, "_load", counted)
    return loaded


def line(model: Path, folder: Path, *more: object, run: str = "run") -> list[str]:
    documents = [{"docid": word, "text": word} for word in WORDS[:8]]
    rows = [{"qid": qid, "query": qid, "candidates": documents} for qid in ("gem", "bear")]
    (folder / "candidates.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    usual = [
        "rerank", "--candidates", str(folder / "candidates.jsonl"), "--output", str(folder / run), "--rerank", "setwise",
        "--rerank.engine.name", "transformers", "--rerank.engine.device", "cpu", "--rerank.model", str(model),
        "--rerank.strategy.k", "1", "--rerank.judge.repair", "none", "--rerank.sampling.max_tokens", "4",
        "--rerank.max_bad", "1", "--rerank.journal", str(folder / "journal"),
    ]  # fmt: skip
    return replaced(usual, more)


def calls(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "journal")) as connection:
        [[number]] = connection.execute("SELECT count(*) FROM calls")
    return int(number)


def test_a_second_run_loads_no_model_and_writes_the_same_bytes(
    model: Path, tmp_path: Path, loads: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line(model, tmp_path)) == 0
    assert loads == [str(model)]
    first = (tmp_path / "run").read_bytes()
    capsys.readouterr()
    assert main(line(model, tmp_path)) == 0
    assert loads == [str(model)]
    assert "from 0 LLM calls" in capsys.readouterr().out
    assert (tmp_path / "run").read_bytes() == first


def test_the_library_is_not_even_imported(model: Path, tmp_path: Path) -> None:
    assert main(line(model, tmp_path)) == 0
    code = (
        "import sys; from pyserini_reasonrank.__main__ import main; status = main(sys.argv[1:]); "
        "sys.exit(status or 9 * bool({'torch', 'transformers'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *line(model, tmp_path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, "from 0 LLM calls" in done.stdout) == (0, True), done.stderr


def test_a_load_on_the_first_call_is_no_time_of_reranking(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Transformers._load

    def slow(engine: Transformers) -> None:
        time.sleep(3)
        load(engine)

    assert main(line(model, tmp_path)) == 0
    monkeypatch.setattr(Transformers, "_load", slow)
    began = time.monotonic()
    assert main(line(model, tmp_path, "--rerank.depth", 5, run="other")) == 0
    whole = time.monotonic() - began
    seconds = nested(read_metadata(tmp_path / "other"), "resources", "runtime in seconds")
    assert seconds["load"] >= 3
    assert seconds["load"] + seconds["rerank"] < whole  # no second is counted twice


def test_the_first_missing_call_loads_the_model_once(model: Path, tmp_path: Path, loads: list[str]) -> None:
    assert main(line(model, tmp_path)) == 0
    first = (tmp_path / "run").read_bytes()
    before = calls(tmp_path)
    with closing(sqlite3.connect(tmp_path / "journal")) as connection:
        connection.execute("DELETE FROM calls WHERE number > 0")
        connection.commit()
    assert calls(tmp_path) < before
    assert main(line(model, tmp_path)) == 0
    assert loads == [str(model)] * 2
    assert (tmp_path / "run").read_bytes() == first
    assert calls(tmp_path) == before


@pytest.mark.soak_only
@pytest.mark.parametrize("change", ["weights", "settings", "query"])
def test_other_questions_load_the_model(change: str, model: Path, tmp_path: Path, loads: list[str]) -> None:
    assert main(line(model, tmp_path)) == 0
    if change == "weights":
        assert main(line(tiny_model(tmp_path / "other", seed=1), tmp_path, run="other run")) == 0
    elif change == "settings":
        assert main(line(model, tmp_path, "--rerank.sampling.max_tokens", 3, run="other run")) == 0
    else:
        words = line(model, tmp_path, run="other run")
        (tmp_path / "candidates.jsonl").write_text(
            (tmp_path / "candidates.jsonl").read_text().replace('"query": "gem"', '"query": "cloud"')
        )
        assert main(words) == 0
    assert len(loads) == 2


def test_a_context_that_has_become_smaller_is_named(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line(model, tmp_path)) == 0
    assert set(contexts(tmp_path / "journal").values()) == {512}
    with closing(sqlite3.connect(tmp_path / "journal")) as connection:
        connection.execute("UPDATE contexts SET tokens = 600")
        connection.commit()
    capsys.readouterr()
    assert main(line(model, tmp_path, "--rerank.sampling.max_tokens", 3, run="other run")) == 1
    assert "has a context of 512 tokens here, less than the 600 of the earlier run" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, b"", b"not a journal", b"SQLite format 3\x00 cut"])
def test_a_file_without_contexts_records_none(content: Any, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "journal").write_bytes(content)
    assert contexts(tmp_path / "journal") == {}
