"""``train plan``: rows, tokens, steps, memory and hours of every recipe, and its differences from the published run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import ROOT

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.records import Message
from pyserini_reasonrank.resources import yaml_names
from pyserini_reasonrank.train import command
from pyserini_reasonrank.train.data.rows import Row, write_rows
from pyserini_reasonrank.train.forecast import GPUS, size_of, training

PRESETS = [name for name in yaml_names("train") if name.startswith(("sft-", "grpo-", "dpo-"))]


def plan(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, str]:
    assert command.main(["plan", *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    return dict(line.split(": ", 1) for line in lines if ": " in line and not line.startswith(" "))


@pytest.mark.parametrize("name", PRESETS)
def test_every_recipe_has_a_plan_and_names_its_publication(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = plan(capsys, "--config", name, "--gpu", "H200", "--rows", "1000")
    assert found["step"] == name.partition("-")[0]
    assert found["rows"] == "1,000"
    assert re.match(r"[\d,]+ of [\d,]+ (rows|answers)", found["steps"])
    assert re.match(r"\d+ of 141 GB per GPU \(weights", found["memory"])
    assert re.match(r"(less than )?[\d,.]+ on \d x H200, at most", found["hours"])
    assert re.match(r"arXiv \d{4}\.\d{5}|no paper", found["published run"])


@pytest.mark.parametrize("name", PRESETS)
def test_every_recipe_fits_its_gpus(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = plan(capsys, "--config", name, "--gpu", "A100-80GB")
    assert re.match(r"\d+ of 80 GB per GPU \(.*\)$", found["memory"])
    assert int(found["memory"].split()[0]) <= 80


def test_what_zero_3_does_not_run_is_planned_with_zero_2(capsys: pytest.CaptureFixture[str]) -> None:
    """FIRST's loss needs whole weights: 4 bytes of 7.6 billion on each GPU, gradients and optimiser over eight."""
    found = plan(capsys, "--config", "sft-first")
    assert "(weights 30, gradients and optimiser 11," in found["memory"]
    assert "weights 4," in plan(capsys, "--config", "sft-first", "--rank_loss", "null")["memory"]


def test_activations_are_kept_only_without_checkpointing(capsys: pytest.CaptureFixture[str]) -> None:
    """The trainers compute them again by default. A pair has two answers."""

    def activations(*words: str) -> int:
        found = re.search(r"activations (\d+)", plan(capsys, *words)["memory"])
        assert found is not None
        return int(found[1])

    words = ("--model", "x-3B", "--args.per_device_train_batch_size", "1", "--max_length", "8192")
    kept = activations(*words, "--args.gradient_checkpointing", "false")
    assert (activations(*words), kept) == (9, 27)
    assert activations(*words, "--args.beta", "0.1") == 17


OTHERS = [name for name in yaml_names("train") if name not in PRESETS]


@pytest.mark.parametrize("name", OTHERS)
def test_other_settings_have_a_plan_too(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows and the router need no GPU; a recipe is the plans of its trainings; of the rest, the numbers of one."""
    assert command.main(["plan", "--config", name, "--gpu", "L40S"]) == 0
    said = capsys.readouterr().out
    trains = name in ("student", "embedded", "embedded-thinking")
    keys = ["step", "rows", "tokens of a row", "steps", "memory", "hours", "published run"]
    for key in keys:
        assert re.search(rf"^{key}: \S", said, re.MULTILINE), key
    assert ("no GPU is used" in said) is not trains
    assert (" x L40S" in said) is trains
    assert said.count("step: ") == (2 if name == "student" else 1)


def test_the_embedded_model_has_as_many_steps_as_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    """1,022 blocks of 6 passages, four blocks a step; 245 steps are left without the evaluation's queries."""
    found = plan(capsys, "--config", "embedded")
    assert (found["step"], found["steps"]) == ("distil", "256 of 24 rows")


def test_adapters_are_partitioned_if_their_base_is_too_large(capsys: pytest.CaptureFixture[str]) -> None:
    def weights(*words: str) -> int:
        found = re.search(r"weights (\d+)", plan(capsys, "--config", "grpo-rank-r1-32b", *words)["memory"])
        assert found is not None
        return int(found[1])

    assert (weights("--zero", "0"), weights(), weights("--gpu", "B200")) == (66, 16, 66)
    words = ("--config", "grpo-rank-r1-32b", "--args.vllm_tensor_parallel_size", "1")
    assert plan(capsys, *words)["vLLM"].startswith("its 32 GB do not hold the weights of 66 GB")


def test_rows_of_unknown_number_are_an_assumption(capsys: pytest.CaptureFixture[str]) -> None:
    found = plan(capsys, "--config", "grpo-rank-r1-32b")
    assert found["rows"].startswith("10,000, an assumption")
    assert plan(capsys, "--config", "grpo-rank-r1")["rows"] == "72,000"
    assert plan(capsys, "--config", "student")["rows"] == "unknown; args.max_steps gives the steps"


def test_the_plan_of_reasonranks_two_stages(capsys: pytest.CaptureFixture[str]) -> None:
    """6,796 rows at 64 are the 106 to 107 steps an epoch that the published run had; its 200 steps are 400 updates."""
    sft = plan(capsys, "--config", "sft-reasonrank-7b", "--gpu", "A800-80GB")
    assert (sft["rows"], sft["steps"]) == ("6,796", "531 of 64 rows")
    assert (sft["tokens of a row"], sft["differences from it"]) == ("23,552 prompt and answer (at most)", "none known")
    rl = plan(capsys, "--config", "grpo-reasonrank-7b", "--gpu", "A800-80GB")
    assert rl["steps"] == "400 of 64 answers"
    assert rl["tokens of a row"] == "20,480 prompt, 3,072 answer (at most)"
    fewer = plan(capsys, "--config", "grpo-reasonrank-7b", "--args.max_steps", "40", "--gpu", "A800-80GB")
    hours = [float(found["hours"].split()[0]) for found in (rl, fewer)]
    assert hours[1] == pytest.approx(hours[0] / 10, abs=0.1)


def test_differences_are_those_that_the_recipe_lists(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["plan", "--config", "grpo-iranker"]) == 0
    said = capsys.readouterr().out
    _, settings = training(command.read_settings("grpo-iranker"))
    assert settings.published is not None
    assert settings.published.differs
    assert said.endswith("".join(f"  - {difference}\n" for difference in settings.published.differs))


def test_rows_that_are_written_are_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    turns = (Message("user", "x" * 400),)
    row = Row(qid="q", kind="best", docids=("a", "b"), gains=(1.0, 0.0), prompt=turns, first_stage=(1, 2), source="s",
              query="q", completion=(Message("assistant", "<answer>[1]</answer>"),))  # fmt: skip
    path = tmp_path / "rows.jsonl"
    write_rows(path, [row] * 10)
    found = plan(
        capsys, "--model", "x-3B", "--data", f"[{path}]", "--args", "{num_train_epochs: 2}", "--processes", "1"
    )
    assert found["rows"] == "10"
    assert found["tokens of a row"] == "100 prompt, 5 answer (as written)"
    assert found["steps"] == "3 of 8 rows"
    assert found["published run"] == "none is named in the settings"


def test_all_weights_are_shared_by_zero_3_and_not_without(capsys: pytest.CaptureFixture[str]) -> None:
    def weights(*words: str) -> int:
        found = re.search(r"weights (\d+)", plan(capsys, "--config", "sft-reasonrank-7b", *words)["memory"])
        assert found is not None
        return int(found[1])

    assert weights("--zero", "0") == 30  # 7.6 billion in float32
    assert weights() == weights("--zero", "3") == 4
    assert "more than there is" in plan(capsys, "--config", "sft-reasonrank-7b", "--zero", "0")["memory"]


@pytest.mark.parametrize(
    ("model", "billions"),
    [("Qwen/Qwen2.5-7B-Instruct", 7.6), ("runs/sft-reasonrank-32b", 32.8), ("smollm2-135m", 0.135), ("a/x-70B", 70.0)],
)
def test_a_model_s_size_is_read_from_its_name(model: str, billions: float) -> None:
    assert size_of(model) == pytest.approx(billions)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--data", "[rows.jsonl]"], "needs --config with the settings of a step, or --model with those of a training"),
        (["--config", "student", "--steps", "[{sftt: {}}]"], "a recipe can't have a step 'sftt'"),
        (["--config", "data-rank-r1", "--dev", "2"], "data.dev 2"),
        (["--config", "grpo-gr2", "--gpu", "H20"], "--gpu H20 is unknown; did you mean 'H200'"),
        (["--config", "grpo-gr2", "--model", "mine"], "the name mine does not have the model's size: set --parameters"),
        (["--config", "grpo-gr2", "--max_lenght", "3"], "grpo.max_lenght is not known"),
    ],
)
def test_plans_that_can_t_be_made(words: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        command.main(["plan", *words])


def test_the_page_lists_every_recipe() -> None:
    text = (ROOT / "docs" / "usage-train.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in yaml_names("train"))
    assert "H200" in GPUS
