"""Figures are printed and kept as they come, whatever ends the measurement."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from figures import Row, measure

pytest.importorskip("psutil", reason="the benchmarks need psutil")
from bench import main, sections


def fast() -> Iterator[Row]:
    yield Row("seconds of a", 2.0, "s", 1.0)
    yield Row("calls of a", 30_000, "calls/s", 20_000)


def failing() -> Iterator[Row]:
    yield Row("of b", 1.0, "ratio")
    raise RuntimeError("the server is gone")


def rows(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text())
    return found


def test_each_figure_has_its_target_and_whether_it_was_met(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert measure({"a": fast}, [], tmp_path / "build" / "bench.json")
    assert [(row["section"], row["name"], row["met"]) for row in rows(tmp_path / "build" / "bench.json")] == [
        ("a", "seconds of a", False),
        ("a", "calls of a", True),
    ]
    _, first, second, last = capsys.readouterr().out.splitlines()
    assert first.split() == ["seconds", "of", "a", "2", "s", "1", "MISSED"]
    assert second.split() == ["calls", "of", "a", "3e+04", "calls/s", "20000", "met"]
    assert last.startswith("2 figures, 1 of them missed")


def test_a_section_that_fails_keeps_its_figures_and_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bench.json"
    assert not measure({"b": failing, "a": fast}, [], path)
    assert [row["section"] for row in rows(path)] == ["b", "a", "a"]
    assert "b: RuntimeError: the server is gone" in capsys.readouterr().err


def test_only_measures_again_and_keeps_the_others(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    measure({"b": failing, "a": fast}, [], path)
    assert measure({"b": failing, "a": fast}, ["a"], path)
    assert [row["section"] for row in rows(path)] == ["b", "a", "a"]
    measure({"b": failing, "a": fast}, [], path)  # a whole measurement begins anew
    assert [row["section"] for row in rows(path)] == ["b", "a", "a"]


KILLED = """
import os, sys
from pathlib import Path
from figures import Row, measure

def first():
    yield Row("kept", 1.0, "s", 2.0)

def second():
    os.kill(os.getpid(), 9)
    yield

measure({"first": first, "second": second}, [], Path(sys.argv[1]))
"""


def test_a_measurement_that_is_killed_leaves_its_figures(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    search = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "benchmarks")])
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(path)],
        capture_output=True, text=True, env=os.environ | {"PYTHONPATH": search}, check=False,
    )  # fmt: skip
    assert done.returncode == -9
    assert [row["name"] for row in rows(path)] == ["kept"]
    assert done.stdout.splitlines()[-1].split() == ["kept", "1", "s", "2", "met"]


def test_an_unknown_section_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["bench.py", "--quick", "--only", "startup,streamed"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "--only streamed: the sections are startup, in-process, one-query, client-43" in capsys.readouterr().err
    assert list(sections(quick=False))[-1] == "wide"
