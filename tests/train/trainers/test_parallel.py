"""Two processes (gloo) do what one does with twice the batch, and one continues what two have begun."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from tiny import best_rows, tiny_dev, tiny_model

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.train.data.rows import write_rows
from pyserini_reasonrank.train.folder import RECORD, read_record
from pyserini_reasonrank.train.trainers import sft


def logged(output: Path, name: str) -> list[float]:
    record = read_record(output)
    assert record is not None
    return [entry[name] for entry in record["log"] if name in entry]


def test_two_processes_learn_as_one_and_one_continues(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    model, data = tiny_model(tmp_path / "tiny"), tmp_path / "rows.jsonl"
    write_rows(data, best_rows(16))

    def config(name: str, batch: int) -> dict[str, Any]:
        args = {"learning_rate": 3e-3, "max_steps": 5, "per_device_train_batch_size": batch, "save_steps": 3}
        watched = tiny_dev(tmp_path, every=3)
        return {"model": str(model), "data": [str(data)], "output": str(tmp_path / name), "args": args, "dev": watched}

    sft.run(sft.Config.model_validate(config("one", 16)))
    file = tmp_path / "two.yaml"
    file.write_text(json.dumps(config("two", 8)), encoding="utf-8")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
              "-m", "pyserini_reasonrank", "train", "sft", "--config", str(file)]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(launch, capture_output=True, text=True, timeout=600, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("16 of 16 rows") == 2  # said once, by the first process: the file's and the examples'
    for name in ("loss", "dev/nDCG@10"):
        assert logged(tmp_path / "two", name) == pytest.approx(logged(tmp_path / "one", name), abs=1e-4)
    assert len(logged(tmp_path / "two", "dev/nDCG@10")) == 2
    for folder in ("", "best"):
        assert (tmp_path / "two" / folder / "model.safetensors").is_file()
    again = tmp_path / "two"
    interrupt(again, after=3)
    with pytest.raises(
        UsageError, match=r"with 16 rows in an update and 16 in a generation, now 8 and 8 \(number of processes: 1\)"
    ):
        sft.run(sft.Config.model_validate(config("two", 8)))
    sft.run(sft.Config.model_validate(config("two", 16)))
    assert logged(again, "loss") == pytest.approx(logged(tmp_path / "one", "loss"), abs=1e-4)


def interrupt(folder: Path, *, after: int) -> None:
    """Leave a finished run as an interruption after a step would have left it."""
    for checkpoint in folder.glob("checkpoint-*"):
        if int(checkpoint.name.removeprefix("checkpoint-")) > after:
            shutil.rmtree(checkpoint)
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    assert record.pop("finished")
    (folder / RECORD).write_text(json.dumps(record), encoding="utf-8")
