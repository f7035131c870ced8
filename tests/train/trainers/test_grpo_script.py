"""`docs/course/grpo_from_scratch.py`: its rewards, its advantages, and two steps of it.

Its loss is compared with that of TRL in test_grpo.py.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from statistics import fmean

import pytest
from conftest import ROOT

torch = pytest.importorskip("torch")

import grpo_from_scratch as script
from tiny import tiny_model

SCRIPT = ROOT / "docs" / "course" / "grpo_from_scratch.py"
QUESTION = script.Question("eat", ("stone", "bread", "cup"), relevant=2)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny")


def test_the_script_is_short_enough_to_read() -> None:
    assert len(SCRIPT.read_text(encoding="utf-8").splitlines()) < 350


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("[2] > [3] > [1]", 1.0),
        ("[1] > [2] > [3]", 0.875),
        ("[1] > [3] > [2]\n", 0.75 + 0.25 / 3),
        ("[2] > [3]", 0.25 * 2 / 3),
        ("[2] > [2] > [1]", 0.25 * 2 / 3),
        ("[2] > [3] > [1] > [4]", 0.25),
        ("[2] > [3] > [1], since bread is food", 0.25),
        ("[4]", 0.0),
        ("", 0.0),
    ],
)
def test_rewards(answer: str, expected: float) -> None:
    assert script.reward(answer, QUESTION) == pytest.approx(expected)


def test_advantages_have_mean_0_and_deviation_1_and_equal_rewards_have_none() -> None:
    found = script.advantages(torch.tensor([0.0, 0.25, 1.0, 1.0]))
    assert float(found.mean()) == pytest.approx(0.0, abs=1e-6)
    assert float(found.std()) == pytest.approx(1.0, abs=1e-3)
    assert script.advantages(torch.tensor([0.5, 0.5])).tolist() == [0.0, 0.0]


def test_the_mask_ends_with_the_end_of_the_turn(model: Path) -> None:
    loaded, tokenizer = script.load(str(model))
    group = script.rollout(loaded, tokenizer, "gem: [1] gem", script.Settings(group=16, max_tokens=30))
    answers = group.tokens[:, -group.mask.shape[1] :]
    for tokens, mask in zip(answers.tolist(), group.mask.tolist(), strict=True):
        length = tokens.index(tokenizer.eos_token_id) + 1 if tokenizer.eos_token_id in tokens else len(tokens)
        assert mask == [1.0] * length + [0.0] * (len(tokens) - length)
    assert {sum(mask) for mask in group.mask.tolist()} != {group.mask.shape[1]}  # some answers end early


def test_two_steps_change_the_upper_layers_only(model: Path) -> None:
    loaded, tokenizer = script.load(str(model))
    before = {name: weight.clone() for name, weight in loaded.state_dict().items()}
    settings = script.Settings(steps=2, group=4, first_layer=1, max_tokens=6)
    lucky = iter([0.0, 1.0] * 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(script, "reward", lambda *_: next(lucky))  # random weights earn nothing
        steps = script.train(loaded, tokenizer, settings, show=False)
    assert [step.reward for step in steps] == [0.5, 0.5]
    changed = {name for name, weight in loaded.state_dict().items() if not torch.equal(weight, before[name])}
    assert changed
    assert all(name.startswith("model.layers.1.") for name in changed)


@pytest.mark.soak_only
def test_the_model_learns_to_answer_with_a_ranking() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, check=True, timeout=3600)
    rewards = [float(line.split("reward ")[1].split()[0]) for line in done.stdout.splitlines() if "  reward " in line]
    assert len(rewards) == script.Settings().steps
    assert fmean(rewards[-4:]) > fmean(rewards[:4]) + 0.15
