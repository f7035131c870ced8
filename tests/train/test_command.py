"""``train STEP``: settings from YAML and flags, help, and faults in one sentence."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.resources import yaml_names
from pyserini_reasonrank.settings.flags import typed
from pyserini_reasonrank.train import command, recipe
from pyserini_reasonrank.train.trainers import grpo, sft

PRESETS = [name for name in yaml_names("train") if name.startswith(("sft-", "grpo-", "dpo-"))]
UPDATES = {"grpo-reasonrank-7b": 2, "grpo-reasonrank-32b": 2, "grpo-erank": 4}
"""Optimiser steps on each generation, where the paper has more than one."""

TEXTS = {"docs": "*.md", "conf": "*.yaml", "pyserini_reasonrank": "*.py"}
NAMED_STEP = re.compile(r"(?:`train|pyserini_reasonrank train|^ {4}train(?= \w+ --)) ([a-z]\w*)", re.MULTILINE)
NAMED_FILE = re.compile(r"\b(?:conf|docs|tests)/[\w./-]*\w")


def write(folder: Path, text: str) -> str:
    path = folder / "step.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_flags_go_over_the_file(tmp_path: Path) -> None:
    file = write(
        tmp_path, "model: a/b\ndata: [rows.jsonl]\noutput: out\nargs: {learning_rate: 1e-5, seed: 7}\nlora: {r: 4}"
    )
    words = ["--config", file, "--args.learning_rate", "2e-4", "--lora.alpha=8", "--data", "[x.jsonl, y.jsonl]"]
    config = command.load("sft", sft.Config, words)
    assert config.args == {"learning_rate": 2e-4, "seed": 7}
    assert config.lora is not None
    assert (config.lora.r, config.lora.alpha) == (4, 8)
    assert config.data == [Path("x.jsonl"), Path("y.jsonl")]


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-5", 1e-5), ("3", 3), ("true", True), ("null", None), ("0123", "0123"), ("a: b", "a: b"), ("{a: 1e3}", {"a": 1e3}),
     ("[1, x]", [1, "x"]), ("2024-01-01", "2024-01-01"), ("[half", "[half"), ("1-2", "1-2")],
)  # fmt: skip
def test_flag_values(text: str, value: Any) -> None:
    assert typed(text) == value


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", "m"], "needs --data and --output"),
        (["--config", "nowhere.yaml"], "--config nowhere.yaml: no such file, and conf/train has no nowhere; known: "),
        (["--config"], "--config needs a value"),
        (["--config", "--model", "m"], "--config needs a value"),
        (
            ["--model", "m", "--data", "[r]", "--output", "o", "--lora.r", "x"],
            "sft.lora.r 'x': input should be a valid integer",
        ),
        (["model", "m"], "'model' is not a flag"),
        (["--lora", "x", "--lora.r", "3"], "--lora.r and --lora can't both be given"),
    ],
)
def test_faults_of_the_command_line(words: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        command.load("sft", sft.Config, words)


def test_null_resets_a_key_of_the_file(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        "model: m\ndata: [r]\noutput: o\nrevision: abc\nlora: {r: 4, dropout: 0.5, targets: [q_proj]}\n"
        "model_args: {dtype: float16}\nargs: {seed: 7, max_steps: 3}",
    )

    def load(*words: str) -> sft.Config:
        return command.load("sft", sft.Config, ["--config", file, *words])

    def lora(*words: str) -> Any:
        return load(*words).lora

    assert (lora().r, lora().dropout, load().revision) == (4, 0.5, "abc")
    assert lora("--lora", "null") is None
    assert (lora("--lora.r", "null").r, lora("--lora.dropout=null").dropout) == (16, 0.0)
    assert lora("--lora.targets", "null").targets is None  # a value of its own: PEFT's choice
    assert load("--revision", "null").revision is None
    assert load("--model_args", "null").model_args == {}
    assert load("--args", "null").args == {}
    assert load("--args.seed", "null").args == {"seed": None, "max_steps": 3}  # TRL's keys know their own null
    with pytest.raises(UsageError, match="train sft needs --model"):
        load("--model", "null")


def test_an_unknown_setting_names_the_nearest(tmp_path: Path) -> None:
    file = write(tmp_path, "model: m\ndata: [r]\noutput: o\nmax_lenght: 3")
    with pytest.raises(UsageError, match=r"sft.max_lenght is not known; did you mean 'max_length'\?"):
        command.load("sft", sft.Config, ["--config", file])


def test_an_unknown_step_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'grpo'"):
        command.main(["gpro"])


@pytest.mark.parametrize("text", ["- a\n- b", "a: [", ""])
def test_a_file_that_is_no_mapping(text: str, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"step\.yaml(, line 1, column 5: invalid YAML| does not contain a YAML mapping)"
    ):
        command.read_settings(write(tmp_path, text))


def test_the_overview_lists_every_step(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--help"]) == 0
    said = capsys.readouterr().out
    for name in command.STEPS:
        assert f"\n  {name} " in said
    assert command.main([]) == 2


@pytest.mark.parametrize("name", command.STEPS)
def test_every_step_describes_its_settings(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([name, "--help"]) == 0
    said = capsys.readouterr().out
    for field in command.step(name).Config.model_fields:
        assert f"\n  --{field}" in said


def test_help_shows_settings_below_a_key(capsys: pytest.CaptureFixture[str]) -> None:
    command.main(["sft", "--help"])
    said = capsys.readouterr().out
    assert "--lora.prilora.every" in said
    assert "--dev.qrels" in said
    assert "ranknet that of permutation distillation; weighted-ranknet | ranknet" in said  # the values of a choice


RECIPES = [name for name in yaml_names("train") if "steps" in command.read_settings(name)]


def preset(name: str) -> Any:
    step = name.partition("-")[0]
    return command.load(
        step, command.step(step).Config, ["--config", name, "--data", "[rows.jsonl]", "--output", "out"]
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", PRESETS)
def test_shipped_settings_are_accepted_by_us_and_by_trl(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("trl")
    from trl import DPOConfig, GRPOConfig, SFTConfig

    from pyserini_reasonrank.train.trainers import policy

    config = preset(name)
    kind = {"sft": SFTConfig, "grpo": GRPOConfig, "dpo": DPOConfig}[name.partition("-")[0]]
    monkeypatch.setattr(kind, "world_size", 8)
    args = policy.arguments(kind, {**config.args, "bf16": False, "fp16": False}, output_dir=str(tmp_path))
    assert args.learning_rate == config.args["learning_rate"]
    if isinstance(config, grpo.Config):
        assert [grpo.function(reward) for reward in config.rewards] or config.latro is not None
        slices = args.steps_per_generation * args.num_iterations
        assert slices == UPDATES.get(name, 1) * args.gradient_accumulation_steps


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted((ROOT / "conf" / "train" / "accelerate").glob("*.yaml")), ids=lambda p: p.stem)
def test_configurations_of_accelerate_are_whole(path: Path) -> None:
    pytest.importorskip("accelerate")
    from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
    from accelerate.utils import FullyShardedDataParallelPlugin

    found = load_config_from_file(str(path))
    assert isinstance(found, ClusterConfig)
    assert found.num_processes >= 8
    assert found.mixed_precision == "bf16"
    known = inspect.signature(FullyShardedDataParallelPlugin).parameters
    given = {key.removeprefix("fsdp_") for key in found.fsdp_config or {}}
    aliases = {"version": "fsdp_version", "offload_params": "cpu_offload"}
    assert {aliases.get(key, key) for key in given} <= set(known)


@pytest.mark.parametrize("name", [name for name in PRESETS if name.startswith("grpo-")])
def test_a_shipped_kl_term_has_the_published_gradient(name: str) -> None:
    """LaTRO has the KL in the reward, whose gradient TRL's correction gives; the others add the plain k3 estimate."""
    assert preset(name).args.get("use_bias_correction_kl") is (name == "grpo-latro")


@pytest.mark.parametrize("name", PRESETS)
def test_all_weights_are_trained_where_small_steps_count(name: str) -> None:
    config = preset(name)
    text = (ROOT / "conf" / "train" / f"{name}.yaml").read_text(encoding="utf-8")
    launched = "accelerate launch --config_file conf/train/accelerate/zero3.yaml" in text
    assert config.lora or launched or config.model_args.get("dtype", "float32") == "float32"


@pytest.mark.parametrize("folder", TEXTS)
def test_steps_and_files_that_are_named_are_there(folder: str) -> None:
    for file in [ROOT / "README.md", *(ROOT / folder).rglob(TEXTS[folder])]:
        text = file.read_text(encoding="utf-8")
        assert set(NAMED_STEP.findall(text)) <= set(command.STEPS), file
        for name in NAMED_FILE.findall(text):
            assert "NAME" in name or (ROOT / name).exists(), f"{file}: {name}"


def test_help_loads_nothing_heavy() -> None:
    heavy = {"torch", "transformers", "trl", "peft", "datasets", "sklearn", "pyserini", "vllm"}
    code = f"import sys; from pyserini_reasonrank.train import command; command.overview(); print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.strip() == "set()"


def test_a_recipe_can_alternate_pairs_and_dpo(tmp_path: Path) -> None:
    first = {"model": "m", "data": "rows.jsonl", "output": "$output/pairs.jsonl"}
    then = {"model": "m", "data": ["$output/pairs.jsonl"], "output": "$output/dpo"}
    found = recipe.check(recipe.Config(output=tmp_path, steps=[{"pairs": first}, {"dpo": then}]))
    assert [name for name, _ in found] == ["pairs", "dpo"]


@pytest.mark.parametrize("name", RECIPES)
def test_shipped_recipes_are_whole(name: str, tmp_path: Path) -> None:
    words = ["--config", name, "--output", str(tmp_path), "--data", str(tmp_path)]
    config = command.load("recipe", recipe.Config, words)
    recipe.check(config)
