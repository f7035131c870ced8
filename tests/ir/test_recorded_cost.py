"""The cost of a run, read from its metadata."""

from pathlib import Path

import pytest

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.metadata import sidecar, write_metadata
from pyserini_reasonrank.ir.recorded_cost import RunCost, recorded_cost

LLM = {"calls": 40, "prompt tokens": 1000, "output tokens": 200, "calls answered from the journal": 2}


def test_cost_of_a_run(tmp_path: Path) -> None:
    run = tmp_path / "run.txt"
    gpu = {"model": "NVIDIA H200", "ram": "141 GB"}
    write_metadata(
        sidecar(run),
        {
            "platform": {"hardware": {"gpu": [gpu, gpu]}},
            "resources": {"runtime in seconds": {"load": 20.0, "rerank": 88.3}, "llm": LLM},
        },
    )
    assert recorded_cost(run) == RunCost(40, 2, 1000, 200, 88.3, "2 x NVIDIA H200")


def test_runs_without_a_recorded_cost(tmp_path: Path) -> None:
    run = tmp_path / "run.txt"
    assert recorded_cost(run) is None
    for fields in ({}, {"resources": None}, {"resources": {"llm": "none"}}, {"resources": ["llm"]}):
        write_metadata(sidecar(run), fields)
        assert recorded_cost(run) is None
    write_metadata(sidecar(run), {"resources": {"llm": LLM}, "platform": {"hardware": {"gpu": "H200"}}})
    assert recorded_cost(run) == RunCost(40, 2, 1000, 200, None, "")


def test_counts_that_are_not_numbers(tmp_path: Path) -> None:
    run = tmp_path / "run.txt"
    for count in ("many", float("inf")):
        write_metadata(sidecar(run), {"resources": {"llm": LLM | {"calls": count}}})
        with pytest.raises(UsageError, match=r"run\.txt\.ir-metadata\.yml: the counts below resources are not numbers"):
            recorded_cost(run)


def test_a_count_that_is_missing_is_not_read_as_none(tmp_path: Path) -> None:
    run = tmp_path / "run.txt"
    write_metadata(sidecar(run), {"resources": {"llm": {name: LLM[name] for name in LLM if name != "output tokens"}}})
    with pytest.raises(UsageError, match=r"run\.txt\.ir-metadata\.yml: resources\.llm lacks 'output tokens'"):
        recorded_cost(run)
