"""Flags of all commands: numbers have bounds, and a flag with one value is given once."""

from __future__ import annotations

import pytest

from pyserini_reasonrank.__main__ import main
from pyserini_reasonrank.cli.arguments import command_parser
from pyserini_reasonrank.cli.reproduce.steps import with_flags
from pyserini_reasonrank.settings.flags import lift

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


@pytest.mark.parametrize(
    ("line", "flag"),
    [
        (["rerank", "--run", "a", "--run", "b"], "--run"),
        (["rerank", "--run=a", "--output", "c", "--run=a"], "--run"),
        (["rerank", "--rerank", "upr", "--rerank", "rank1"], "--rerank"),
        (["rerank", "--rerank", "upr", "--rerank.depth", "5", "--rerank.depth=3"], "--rerank.depth"),
        (
            ["rerank", "--rerank", "upr", "--rerank.strategy.k", "5", "--rerank.strategy", "{k: 3}"],
            "--rerank.strategy.k",
        ),
        (["rewrite", "--rewrite", "keywords", "--rewrite.rounds", "1", "--rewrite.rounds", "2"], "--rewrite.rounds"),
        (["trace", "pack", "run.txt", "-o", "a", "--output", "b"], "--output"),
        (["explain", "--rerank", "upr", "--queries", "1", "--queries", "2"], "--queries"),
        (["train", "data", "--output", "a", "--output", "b"], "--output"),
    ],
)
def test_a_flag_with_one_value_is_given_once(line: list[str], flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line) == 2
    assert f"error: {flag} is given twice; give it once" in capsys.readouterr().err


def test_flags_that_may_be_repeated() -> None:
    tree = lift(["--rerank", "upr", "--rerank.strategy", "{k: 3}", "--rerank.strategy", "{seed: 4}"])[1]
    assert tree == {"strategy": {"k": 3, "seed": 4}}
    parser = command_parser("report")
    parser.add_argument("--journal", action="append")
    parser.add_argument("--full", action="store_true")
    options = parser.parse_args(["--journal", "a", "--full", "--journal", "b", "--full"])
    assert options.journal == ["a", "b"]


def test_flags_added_to_a_reproduction_replace_its_own() -> None:
    command = "python -m x --rerank upr --rerank.model 'a b' --rerank.depth=5 --rerank.depths 7 --output out.txt"
    assert with_flags(command, ["--rerank.model", "c d", "--rerank.depth", "9"]) == (
        "python -m x --rerank upr --rerank.depths 7 --output out.txt --rerank.model 'c d' --rerank.depth 9"
    )
    assert with_flags(command, []) == command
