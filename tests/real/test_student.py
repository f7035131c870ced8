"""The recipe that a student runs, whole, with the embedded model: about nine minutes of two cores, so only where asked for.

    REASONRANK_STUDENT=/tmp/student pytest tests/real/test_student.py

The folder may hold a run that was stopped or is finished: the recipe goes on there.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from statistics import fmean

import pytest

from pyserini_reasonrank.train.folder import read_record

FOLDER = os.environ.get("REASONRANK_STUDENT")
pytestmark = pytest.mark.skipif(FOLDER is None, reason="REASONRANK_STUDENT=FOLDER runs it there")


@pytest.fixture(scope="module")
def output() -> Path:
    assert FOLDER is not None
    words = ["-m", "pyserini_reasonrank", "train", "recipe", "--config", "student", "--output", FOLDER]
    done = subprocess.run([sys.executable, *words], check=False, timeout=3600)
    assert done.returncode == 0
    return Path(FOLDER)


def logged(folder: Path, name: str) -> list[float]:
    record = read_record(folder)
    assert record is not None
    return [entry[name] for entry in record["log"] if name in entry]


def test_loss_falls(output: Path) -> None:
    loss = logged(output / "sft", "loss")
    assert loss[-1] < 0.5 * loss[0]


def test_reward_rises(output: Path) -> None:
    reward = logged(output / "grpo", "reward")
    assert fmean(reward[-6:]) > fmean(reward[:6]) + 0.15  # a third's standard error is about 0.04


def test_the_reranked_run_is_whole_and_the_answers_can_be_read(output: Path) -> None:
    sidecar = (output / "reranked.txt.ir-metadata.yml").read_text(encoding="utf-8")
    assert str(output / "model") in sidecar
    lines = (output / "reranked.txt").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1600
