"""The shipped settings of accelerate start trainings: two steps on two processes (gloo), with FSDP2 and with DeepSpeed."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from safetensors.torch import load_file
from test_parallel import interrupt, logged
from tiny import best_rows, tiny_model

from pyserini_reasonrank.train import command
from pyserini_reasonrank.train.data.rows import write_rows

ARGS: dict[str, Any] = {
    "learning_rate": 3e-3,
    "max_steps": 2,
    "per_device_train_batch_size": 8,
    "save_steps": 1,
    "bf16": False,
    "gradient_checkpointing": False,
}
SHARDED: dict[str, Any] = {"use_cpu": False, "ddp_backend": "gloo"}
GRPO: dict[str, Any] = {"num_generations": 4, "max_completion_length": 6, "beta": 0.01}
REWARDS = [{"path": "test_two_steps.length"}]
FSDP2 = [str(ROOT / "tests" / "train" / "trainers" / "gloo_as_gpus.py")]
DEEPSPEED = ["-m", "pyserini_reasonrank"]

needs_deepspeed = pytest.mark.skipif(
    not find_spec("deepspeed"), reason="DeepSpeed is not installed; it compiles a part for CPUs, which takes minutes"
)


def settings(folder: Path, name: str, **changes: Any) -> dict[str, Any]:
    """Settings of a training of a tiny Qwen3 in ``folder``; model and rows are made once."""
    model, data = folder / "tiny", folder / "rows.jsonl"
    if not model.is_dir():
        torch.set_num_threads(1)
        tiny_model(model, kind="qwen3")
        write_rows(data, best_rows(16))
    return {"model": str(model), "data": [str(data)], "output": str(folder / name), **changes}


def launch(file: str, program: Sequence[str], step: str, given: dict[str, Any], *, machines: int = 1) -> None:
    """Run the step on two processes with conf/train/accelerate/FILE.yaml, started by one command or by one each."""
    path = Path(given["output"]).with_suffix(".yaml")
    path.write_text(json.dumps(given), encoding="utf-8")
    config = ROOT / "conf" / "train" / "accelerate" / f"{file}.yaml"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    words = [
        "--config_file",
        str(config),
        "--num_processes",
        "2",
        "--mixed_precision",
        "no",
        "--main_process_port",
        port,
    ]
    there = [str(ROOT / "tests"), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    own = {"OMP_NUM_THREADS": "1", "ACCELERATE_TORCH_DEVICE": "cpu", "DS_ACCELERATOR": "cpu"}
    environment = {**os.environ, **own, "PYTHONPATH": os.pathsep.join(filter(None, there))}
    started = []
    for rank in range(machines):
        place = ["--main_process_ip", "127.0.0.1", "--machine_rank", str(rank)] if machines > 1 else []
        line = [sys.executable, "-m", "accelerate.commands.launch", *words, *place, *program, "train", step]
        log = path.with_suffix(f".{rank}.log").open("w+", encoding="utf-8")
        started.append((subprocess.Popen([*line, "--config", str(path)], stdout=log, stderr=log, env=environment), log))
    for process, log in started:
        with log:
            status = process.wait(timeout=600)
            log.seek(0)
            assert status == 0, log.read()


def one_process(folder: Path) -> Path:
    """The folder of the same ``sft`` by this process, with twice the batch."""
    given = settings(folder, "one", args=ARGS | {"per_device_train_batch_size": 16})
    path = folder / "one.yaml"
    path.write_text(json.dumps(given), encoding="utf-8")
    assert command.main(["sft", "--config", str(path)]) == 0
    return folder / "one"


@pytest.mark.soak_only
def test_fsdp2_learns_as_one_process_and_saves_the_whole_model(tmp_path: Path) -> None:
    one = one_process(tmp_path)
    two = settings(tmp_path, "two", args=ARGS | SHARDED)
    launch("fsdp2", FSDP2, "sft", two)
    output = tmp_path / "two"
    assert (output / "checkpoint-1" / "pytorch_model_fsdp_0").is_dir()  # sharded
    assert logged(output, "loss") == pytest.approx(logged(one, "loss"), abs=1e-4)
    alone, saved = (load_file(folder / "model.safetensors") for folder in (one, output))
    tied = saved.pop("lm_head.weight")
    assert torch.equal(tied, saved["model.embed_tokens.weight"])
    assert alone.keys() == saved.keys()
    # Adam's steps are of 3e-3, also where a gradient is rounding noise
    assert all((alone[name] - saved[name]).abs().mean() < 1e-4 for name in alone)
    assert json.loads((output / "config.json").read_text())["architectures"] == ["Qwen3ForCausalLM"]


@pytest.mark.soak_only
def test_fsdp2_continues_from_a_sharded_checkpoint(tmp_path: Path) -> None:
    given = settings(tmp_path, "two", args=ARGS | SHARDED)
    launch("fsdp2", FSDP2, "sft", given)
    before = logged(tmp_path / "two", "loss")
    interrupt(tmp_path / "two", after=1)
    launch("fsdp2", FSDP2, "sft", given)
    assert logged(tmp_path / "two", "loss") == pytest.approx(before, abs=1e-5)


@pytest.mark.soak_only
def test_fsdp2_saves_an_adapter(tmp_path: Path) -> None:
    launch("fsdp2", FSDP2, "sft", settings(tmp_path, "run", args=ARGS | SHARDED, lora={"r": 4, "alpha": 8}))
    assert (tmp_path / "run" / "adapter_model.safetensors").is_file()


@pytest.mark.soak_only
def test_grpo_starts_with_fsdp2(tmp_path: Path) -> None:
    launch("fsdp2", FSDP2, "grpo", settings(tmp_path, "run", args=ARGS | SHARDED | GRPO, rewards=REWARDS))
    check_two_updates(tmp_path / "run")


@needs_deepspeed
@pytest.mark.soak_only
@pytest.mark.parametrize("step", ["sft", "grpo"])
@pytest.mark.parametrize("file", ["zero2", "zero3"])
def test_deepspeed_starts(file: str, step: str, tmp_path: Path) -> None:
    changes = {"args": ARGS | SHARDED | GRPO, "rewards": REWARDS} if step == "grpo" else {"args": ARGS | SHARDED}
    launch(file, DEEPSPEED, step, settings(tmp_path, "run", **changes))
    check_two_updates(tmp_path / "run")
    if step == "sft":
        expected = logged(one_process(tmp_path), "loss")
        assert logged(tmp_path / "run", "loss") == pytest.approx(expected, abs=1e-3)


@needs_deepspeed
@pytest.mark.soak_only
def test_two_machines_train_together(tmp_path: Path) -> None:
    """The command of both machines, here on one."""
    given = settings(tmp_path, "run", args=ARGS | SHARDED)
    launch("two-nodes-zero3", DEEPSPEED, "sft", given, machines=2)
    check_two_updates(tmp_path / "run")
    expected = logged(one_process(tmp_path), "loss")
    assert logged(tmp_path / "run", "loss") == pytest.approx(expected, abs=1e-3)


def check_two_updates(output: Path) -> None:
    assert len(logged(output, "loss")) == 2
    assert max(logged(output, "grad_norm")) > 0
    assert (output / "model.safetensors").is_file()
