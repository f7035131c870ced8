"""The folder of a run: which settings may differ when a run is continued."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.train.folder import Folder

BATCH, PASSES, GENERATION = "per_device_train_batch_size", "gradient_accumulation_steps", "steps_per_generation"


def folder(path: Path, **args: Any) -> Folder:
    return Folder(path / "run", "sft", {"model": "m", "data": [], "args": args})


def begun_by_two(path: Path, monkeypatch: pytest.MonkeyPatch, **args: Any) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    folder(path, **args).open()


@pytest.mark.parametrize(
    ("processes", "args"),
    [(2, {BATCH: 8}), (1, {BATCH: 16}), (1, {BATCH: 8, PASSES: 2}), (4, {BATCH: 4}), (2, {BATCH: 4, PASSES: 2})],
)
def test_a_run_continues_with_the_same_batch(
    processes: int, args: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun_by_two(tmp_path, monkeypatch, **{BATCH: 8})
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    assert folder(tmp_path, **args).begin()


@pytest.mark.parametrize(
    ("processes", "args", "said"),
    [
        (
            1,
            {BATCH: 8, PASSES: 2},
            "16 rows in an update and 32 in a generation, now 16 and 16 (number of processes: 1)",
        ),
        (1, {BATCH: 8, PASSES: 1, GENERATION: 4}, "now 8 and 32"),
        (2, {BATCH: 8, GENERATION: 2, "seed": 3}, "a run with a different args.seed (None, now 3)"),
    ],
)
def test_another_batch_is_rejected(
    processes: int, args: dict[str, int], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun_by_two(tmp_path, monkeypatch, **{BATCH: 8, GENERATION: 2})
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    with pytest.raises(UsageError) as raised:
        folder(tmp_path, **args).begin()
    assert said in str(raised.value)


def test_a_finished_run_is_finished_on_any_number_of_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun_by_two(tmp_path, monkeypatch, **{BATCH: 8})
    folder(tmp_path, **{BATCH: 8}).finish({})
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert not folder(tmp_path, **{BATCH: 8}).begin()
    with pytest.raises(UsageError, match=r"a run with a different args\.per_device_train_batch_size"):
        folder(tmp_path, **{BATCH: 16}).begin()
