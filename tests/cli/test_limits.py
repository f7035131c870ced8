"""Limits that hold by default: windows that overlap, and the share of bad judgements that warns or fails."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Collection

from pyserini_reasonrank.__main__ import main


@pytest.mark.parametrize("command", ["rerank", "explain"])
def test_windows_that_do_not_overlap_are_refused(
    command: str, collection: Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = [*collection.inputs, "--output", str(tmp_path / "run.txt")] if command == "rerank" else []
    oracle = ["--rerank.engine.name", "oracle", "--rerank.engine.qrels", str(collection.qrels)]
    window = ["--rerank.strategy.window_size", "4", "--rerank.strategy.stride"]
    assert main([command, *inputs, "--rerank", "reasonrank", *oracle, *window, "4"]) == 2
    printed, said = capsys.readouterr()
    assert "stride 4 equals window_size 4: windows do not overlap" in said
    assert (printed, said.count("\n")) == ("", 1)
    assert not list(tmp_path.iterdir())
    assert main([command, *inputs, "--rerank", "reasonrank", *oracle, *window, "2"]) == 0


@pytest.mark.parametrize(
    ("rate", "status", "warns"), [(0.0, 0, False), (0.05, 0, False), (0.3, 0, True), (0.8, 1, False)]
)
def test_the_share_of_bad_judgements_warns_from_a_tenth_and_fails_above_a_half(
    rate: float, status: int, warns: bool, collection: Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By default. The faults are drawn from the questions, so each rate gives the same share every time."""
    engine = ["--rerank.engine.name", "faulty", "--rerank.engine.faults", f"{{empty: {rate}}}"]
    engine += ["--rerank.engine.inner", f"{{name: oracle, qrels: {collection.qrels}}}", "--rerank.judge.repair", "none"]
    small = ["--rerank.strategy.window_size", "2"]
    words = ["--output", str(tmp_path / "run.txt"), "--rerank", "reasonrank", *engine, *small]
    assert main(["rerank", *collection.inputs, *words]) == status
    said = capsys.readouterr().err
    assert ("warning:" in said and "are bad" in said) == warns
    assert ("above --rerank.max_bad 0.5" in said) == (status == 1)
