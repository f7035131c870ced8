"""Warnings come before the run and again in its summary; with ``strict`` they are errors. Progress without a terminal."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Collection

from pyserini_reasonrank.__main__ import main
from pyserini_reasonrank.api import Reranker
from pyserini_reasonrank.engines import Engine, EngineOptions
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.metadata import RunRecord
from pyserini_reasonrank.models.catalogue import Model
from pyserini_reasonrank.records import Call, Capability, Completion, Prompt, Sampling
from pyserini_reasonrank.run.candidates import stream
from pyserini_reasonrank.run.parts import SinglePlan
from pyserini_reasonrank.run.pipeline import Task, rerank
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.settings import layers

EARLY = "collection bright"
"""The beginning of a warning that is known before anything is loaded."""


def words(collection: Collection, output: Path, *engine: str) -> list[str]:
    given = engine or ("--rerank.engine.name", "oracle", "--rerank.engine.qrels", str(collection.qrels))
    return ["rerank", *collection.inputs, "--output", str(output), "--rerank", "reasonrank", *given]


def warned(collection: Collection, output: Path, *engine: str) -> list[str]:
    """A run whose settings give a warning."""
    return [*words(collection, output, *engine), "--rerank.as", "published", "--rerank.collection", "bright"]


def test_warnings_come_before_the_run_and_in_the_summary(
    collection: Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(warned(collection, tmp_path / "run")) == 0
    found = capsys.readouterr()
    assert f"warning: {EARLY}" in found.err
    assert f"warning: {EARLY}" in found.out

    missing = ["--rerank.engine.name", "oracle", "--rerank.engine.qrels", "no such file"]
    assert main(warned(collection, tmp_path / "other", *missing)) == 2
    assert capsys.readouterr().err.startswith(f"warning: {EARLY}")  # and then the error of the engine's start


@pytest.mark.parametrize("command", ["rerank", "explain"])
def test_strict_makes_a_warning_of_the_settings_an_error(
    command: str, collection: Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = [*warned(collection, tmp_path / "run"), "--rerank.strict", "true"]
    if command == "explain":
        line = ["explain", *line[line.index("--rerank") :]]
    assert main(line) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {EARLY}")
    assert error.endswith("(--rerank.strict true makes warnings errors)\n")
    assert not (tmp_path / "run").exists()


def test_strict_fails_a_run_with_a_warning_at_its_end(
    collection: Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = ["--rerank.engine.name", "faulty", "--rerank.engine.faults", "{empty: 1.0}", "--rerank.max_bad", "1"]
    engine += ["--rerank.engine.inner", f"{{name: oracle, qrels: {collection.qrels}}}"]
    assert main(words(collection, tmp_path / "a", *engine)) == 0
    assert re.search(r"^warning: 3 of 3 judgements .* are bad", capsys.readouterr().err, re.MULTILINE)
    assert main([*words(collection, tmp_path / "b", *engine), "--rerank.strict", "true"]) == 1
    error = capsys.readouterr().err
    assert "are bad" in error
    assert "makes warnings errors); the finished queries are in" in error
    assert not (tmp_path / "b").exists()
    assert len((tmp_path / "b.partial").read_text().splitlines()) == 33


def test_strict_without_warnings_changes_nothing(collection: Collection, tmp_path: Path) -> None:
    assert main([*words(collection, tmp_path / "run"), "--rerank.strict", "true"]) == 0


def test_strict_in_python(collection: Collection) -> None:
    engine = {"name": "oracle", "qrels": str(collection.qrels)}
    with pytest.raises(UsageError, match="makes warnings errors"):
        Reranker("reasonrank", engine=engine, strict=True, collection="bright", **{"as": "published"})


class Slow(Engine[EngineOptions]):
    """An engine whose server answers after a while."""

    name = "slow"

    def __init__(self, seconds: float, start_seconds: float = 0.0) -> None:
        super().__init__(Model("slow", "slow"), EngineOptions())
        self.capabilities = frozenset(Capability)
        self.seconds, self.start_seconds = seconds, start_seconds

    async def start(self) -> None:
        await asyncio.sleep(self.start_seconds)

    async def generate(self, prompt: Prompt, sampling: Sampling, call: Call) -> Completion:
        await asyncio.sleep(self.seconds)
        return Completion("[1]", prompt_tokens=7, output_tokens=3)


def run(engine: Engine[Any], collection: Collection, output: Path, **task: Any) -> RunRecord:
    settings = {"engine": {"name": "oracle", "qrels": str(collection.qrels)}, "judge": {"repair": "none"}, "max_bad": 1}
    made = plan(*layers.load("reasonrank", settings))
    assert isinstance(made, SinglePlan)
    request = stream(iter(collection.requests))
    return asyncio.run(rerank(replace(made, engine=engine), Task(request, output, collection.run, "t", ["r"], **task)))


def test_without_a_terminal_lines_report_progress(
    collection: Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(Slow(0.5, start_seconds=0.4), collection, tmp_path / "run", progress_seconds=0.15)
    lines = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"starting the engine slow for \d s", lines[0])
    pattern = r"reranking for \d s: (\d) of 3 judgements, \d bad, (\d) calls, (\d+) tokens read, \d+ written; (.*)"
    found = [match for line in lines if (match := re.fullmatch(pattern, line))]
    assert len(found) >= 4
    assert any(re.fullmatch(r"2 calls waiting, the oldest for \d s", match[4]) for match in found)
    assert [match[1] for match in found] == sorted(match[1] for match in found)
    counts = {(match[1], match[2], match[3]) for match in found}
    assert counts <= {("0", "0", "0"), ("1", "1", "7"), ("2", "2", "14"), ("3", "3", "21")}
    assert counts & {("1", "1", "7"), ("2", "2", "14")}


def test_a_run_shorter_than_the_interval_prints_nothing(
    collection: Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(Slow(0.0), collection, tmp_path / "run")
    assert capsys.readouterr().err == ""
