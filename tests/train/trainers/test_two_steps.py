"""Each published training starts: two steps of its preset, with TRL, on a tiny model of the same architecture."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from conftest import more
from safetensors.torch import load_file
from tiny import WORDS, tiny_model

from pyserini_reasonrank.records import Candidate, Query
from pyserini_reasonrank.resources import yaml_names
from pyserini_reasonrank.settings.overlay import merge
from pyserini_reasonrank.train import command
from pyserini_reasonrank.train.data.lists import LabelledList
from pyserini_reasonrank.train.data.row_builder import RowBuilder
from pyserini_reasonrank.train.data.rows import Row, write_rows
from pyserini_reasonrank.train.folder import read_record

PRESETS = [name for name in yaml_names("train") if name.startswith(("sft-", "grpo-", "dpo-"))]
QUICK = "sft-rank-r1"
RERANKERS = {
    "sft-first": "first", "sft-rank-r1": "setwise", "sft-erank": "erank", "grpo-erank": "erank", "grpo-dranker": "dranker",
    "grpo-iranker": "iranker", "grpo-rank-r1": "rank-r1", "grpo-rank-r1-32b": "rank-r1",
}  # fmt: skip
"""The reranker whose rows a preset learns from, if it is not reasonrank."""
ARGS = {"max_steps": 2, "bf16": False}
ROLLOUTS = {"use_vllm": False, "max_completion_length": 6, "generation_kwargs": None}
FEWER: dict[str, dict[str, int]] = {
    "grpo-dranker": {"gradient_accumulation_steps": 2},
    "grpo-iranker": {"gradient_accumulation_steps": 2},
    "grpo-rank-r1-32b": {"per_device_train_batch_size": 4},
    "grpo-erank": {"per_device_train_batch_size": 5},
    "dpo-adjuster": {"gradient_accumulation_steps": 2},
    "grpo-gr2": {"mask_truncated_completions": False},  # all answers of a random model are cut
}
"""Batches that fit one process, of which a generation still serves as many updates as published."""


def length(prompts: Sequence[str], completions: Sequence[str], **columns: Any) -> list[float]:
    """A reward by which the answers of a random model differ."""
    return [float(len(text) % 3) for text in completions]


def architecture(model: str) -> str:
    """The architecture of a preset's model, by its name."""
    named = model.lower()
    return "mistral" if "zephyr" in named else "qwen3" if "qwen3" in named or "erank" in named else "qwen2"


def rows_for(name: str, model: Path) -> list[Row]:
    """Rows of the preset's reranker over two queries of 20 short passages."""
    erank = "erank" in name
    made = RowBuilder(RERANKERS.get(name, "reasonrank"), str(model), {"sampling": {"max_tokens": 64}}, widest=20)
    found: list[Row] = []
    for number in range(2 if erank else 8):
        texts = [f"{word} {other}" for word in WORDS for other in ("gem", "bear")]
        hits = tuple(Candidate(f"d{i}", 20.0 - i, text) for i, text in enumerate(texts))
        gains = tuple(float(i == number + 3) for i in range(20))
        teacher = tuple(9.0 if gain else i / 4 for i, gain in enumerate(gains)) if erank else None
        listed = LabelledList(
            Query(f"q{number}", f"gem {WORDS[number]}"), hits, gains, tuple(range(1, 21)), "s", teacher=teacher
        )
        found += made.rows(listed)
    return found


def pairs_of(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """A pair for each row: the answer to imitate, and another."""
    return [
        {
            "qid": row.qid,
            "source": row.source,
            "prompt": [asdict(turn) for turn in row.prompt],
            "prefill": row.prefill,
            "chosen": row.demonstration,
            "rejected": "gem bear",
            "own": "gem",
            "rewards": [1.0, 0.0],
        }
        for row in rows
    ]


def two_steps(name: str, model: Path, output: Path) -> list[dict[str, Any]]:
    """Train ``model`` by the preset for two steps, on rows of its reranker. The trainer's log."""
    torch.set_num_threads(1)
    preset: dict[str, Any] = dict(command.read_settings(name))
    step = name.partition("-")[0]
    data, rows = output.with_suffix(".jsonl"), rows_for(name, model)
    if step == "dpo":
        data.write_text("".join(json.dumps(pair) + "\n" for pair in pairs_of(rows)), encoding="utf-8")
    else:
        write_rows(data, rows)
    changes: dict[str, Any] = {"model": str(model), "data": [str(data)], "output": str(output)}
    changes["args"] = ARGS | FEWER.get(name, {}) | (ROLLOUTS if step == "grpo" else {})
    changes["model_args"] = {"attn_implementation": "sdpa", "dtype": "bfloat16" if preset.get("lora") else "float32"}
    if step == "grpo":
        changes["rewards"] = [*preset.get("rewards", []), {"path": "test_two_steps.length"}]
    file = output.with_suffix(".yaml")
    file.write_text(json.dumps(merge(preset, changes)), encoding="utf-8")
    assert command.main([step, "--config", str(file)]) == 0
    record = read_record(output)
    assert record is not None
    assert (record["finished"], record["steps"]) == (True, 2)
    log: list[dict[str, Any]] = record["log"]
    return log


@pytest.mark.parametrize("name", [QUICK, *more(*(name for name in PRESETS if name != QUICK))])
def test_two_steps_of_a_preset(name: str, tmp_path: Path) -> None:
    kind = architecture(command.read_settings(name)["model"])
    model = tiny_model(tmp_path / "tiny", kind=kind, context=8192, more=ascii_uppercase)
    log = two_steps(name, model, tmp_path / "run")
    assert sum("loss" in entry for entry in log) == 2
    assert all(math.isfinite(entry["loss"]) for entry in log if "loss" in entry)
    assert max(entry["grad_norm"] for entry in log if "grad_norm" in entry) > 0


@pytest.mark.soak_only
def test_the_path_of_the_32b_recipe(tmp_path: Path) -> None:
    """An adapter by imitation, merged; another one by rewards on the result, merged."""
    tiny = tiny_model(tmp_path / "tiny-32b", kind="qwen2", context=8192, more=ascii_uppercase)
    folder = tiny
    for name in ("sft-reasonrank-32b", "grpo-reasonrank-32b"):
        two_steps(name, folder, tmp_path / name)
        assert (tmp_path / name / "adapter_config.json").is_file()
        words = ["--model", str(tmp_path / name), "--output", str(tmp_path / f"{name}-merged")]
        assert command.main(["export", *words, "--reranker", "reasonrank"]) == 0
        before, folder = folder, tmp_path / f"{name}-merged"
        old, new = (load_file(where / "model.safetensors") for where in (before, folder))
        assert old.keys() == new.keys()
        assert any(not torch.equal(old[key].float(), new[key].float()) for key in old)
