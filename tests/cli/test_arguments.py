"""Flags of all commands: numbers have bounds."""

from __future__ import annotations

import pytest

from pyserini_reasonrank.__main__ import main

OUTPUT = ["--output", "p.html"]


@pytest.mark.parametrize(
    ("line", "flag"),
    [
        (["explain", "--rerank", "upr", "--rerank.engine.name", "oracle"], "--queries"),
        (["explain", "--rerank", "upr", "--rerank.engine.name", "oracle"], "--document-tokens"),
        (["report", "run.txt", *OUTPUT], "--depth"),
        (["report", "run.txt", *OUTPUT], "--passage-words"),
        (["report", "run.txt", *OUTPUT], "--megabytes"),
        (["threshold", "run.txt", "--qrels", "qrels.txt"], "--relevant"),
        (["index", "--corpus", "c.jsonl", "--index", "new"], "--threads"),
        (["demo"], "--queries"),
        (["serve", "--rerank", "upr"], "--max-requests"),
        (["serve", "--rerank", "upr"], "--max-documents"),
        (["serve", "--rerank", "upr"], "--max-body-mb"),
        (["serve", "--rerank", "upr"], "--body-seconds"),
    ],
)
@pytest.mark.parametrize("value", ["0", "-5"])
def test_numbers_are_above_0(line: list[str], flag: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*line, flag, value]) == 2
    assert f"argument {flag}: {value} is not a number above 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flag", "value", "says"),
    [
        ("--port", "-1", "-1 is not a number from 0 to 65535"),
        ("--port", "65536", "65536 is not a number from 0 to 65535"),
        ("--port", "http", "invalid int value: 'http'"),
        ("--drain-seconds", "-1", "-1 is not a number from 0 to 86400"),
    ],
)
def test_numbers_of_a_server(flag: str, value: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--rerank", "upr", flag, value]) == 2
    assert f"argument {flag}: {says}" in capsys.readouterr().err
