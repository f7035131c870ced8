"""The count of injected instructions continues where it stopped. No model is loaded."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import injections
import pytest
from injections import ATTACKS, Case, attacked, interval, main, read, table

JUDGE = "best of the set"


def row(defuse: str, attack: str, qid: str, first: bool) -> dict[str, Any]:
    return {"judge": JUDGE, "defuse": defuse, "attack": attack, "qid": qid, "first": first, "bad": False}


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str]]:
    """What a command asks for, defusing, attack and qid; each attack succeeds without defusing."""
    found: list[tuple[str, str, str]] = []

    def measure(judge: str, defuse: str, cases: Sequence[tuple[str, Case]], file: TextIO) -> None:
        for attack, case in cases:
            found.append((defuse, attack, case.qid))
            file.write(json.dumps(row(defuse, attack, case.qid, defuse == "none")) + "\n")

    monkeypatch.setattr(injections, "BUILD", tmp_path / "build" / "injections.jsonl")
    monkeypatch.setattr(injections, "measure", measure)
    monkeypatch.setattr(injections, "cases", lambda topics: [Case(str(n), "q", ["a"] * 5) for n in range(topics)])
    return found


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["injections.py", *words])
    main()


def test_a_second_command_makes_only_the_missing_rankings(
    asked: list[tuple[str, str, str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, JUDGE, "--topics", "1", "--attacks", "none", "turn")
    assert asked == [(d, a, "0") for d in ("none", "all") for a in ("none", "turn")]
    with injections.BUILD.open("a") as file:
        file.write('{"judge": "best of the s')  # the command was killed
    asked.clear()
    run(monkeypatch, JUDGE, "--topics", "2", "--attacks", "turn")
    assert asked == [("none", "turn", "1"), ("all", "turn", "1")]
    assert len(read(injections.BUILD)) == 6
    asked.clear()
    run(monkeypatch, "--table")
    assert asked == []
    assert "| best of the set | 2 | 100 | - -> - | - -> - | 100 -> 0 | " in capsys.readouterr().out


def test_an_unknown_judge_is_refused(
    asked: list[tuple[str, str, str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run(monkeypatch, "best")
    assert "unknown judges: best" in capsys.readouterr().err


def test_the_attack_is_at_the_end_of_the_last_passage() -> None:
    case = Case("1", "what is it", ["a", "b", "c", "d", "e"])
    assert [d["text"] for d in attacked(case, "query")] == ["a", "b", "c", "d", "e what is it what is it"]
    assert {name: attacked(case, name)[-1]["text"][:2] for name in ATTACKS} == dict.fromkeys(ATTACKS, "e ")


def test_intervals_of_a_share() -> None:
    assert interval(0, 0) == "-"
    assert interval(80, 160) == "50 (42-58)"
    assert interval(0, 160) == "0 (0-2)"
    assert table({}).count("\n") == 1
