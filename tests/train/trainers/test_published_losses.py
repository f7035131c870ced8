"""The losses and schedules of the recipes are those of the published runs: TRL's loss against the formulas, in figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from test_grpo import trainer
from tiny import tiny_model

from pyserini_reasonrank.train import command
from pyserini_reasonrank.train.trainers.ranking_trainer import Grouping

ADVANTAGES, LENGTHS = (1.0, -1.0), (1, 3)
SEQUENCES = 0.0  # the mean over answers of the means over their tokens: -(1 - 1) / 2
TOKENS = 0.5  # the mean over all tokens: -(1 * 1 - 3 * 1) / 4


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny")


def preset(name: str) -> dict[str, Any]:
    found: dict[str, Any] = command.read_settings(name)["args"]
    return found


def losses(model: Path, output: Path, loss_type: str, passes: Sequence[Sequence[int]]) -> list[float]:
    """TRL's loss of each pass of one update; a pass is the answers in it. The policy has not changed: all ratios are 1."""
    made = trainer(model, output, Grouping(drop_equal=False), loss_type=loss_type, beta=0.0,
                   gradient_accumulation_steps=len(passes), steps_per_generation=len(passes))  # fmt: skip
    made.model.train()
    made.current_gradient_accumulation_steps = len(passes)
    found, longest = [], max(LENGTHS)
    for answers in passes:
        mask = torch.tensor([[int(token < LENGTHS[answer]) for token in range(longest)] for answer in answers])
        batch = {
            "prompt_ids": torch.ones((len(answers), 2), dtype=torch.long),
            "prompt_mask": torch.ones((len(answers), 2), dtype=torch.long),
            "completion_ids": torch.full((len(answers), longest), 5),
            "completion_mask": mask,
            "advantages": torch.tensor([ADVANTAGES[answer] for answer in answers]),
            "num_items_in_batch": torch.tensor(sum(LENGTHS)),
        }
        found.append(made._compute_loss(made.model, batch).item())
    return found


@pytest.mark.parametrize(
    ("name", "effective"),
    [
        ("grpo-reasonrank-7b", SEQUENCES),
        ("grpo-reasonrank-32b", SEQUENCES),
        ("grpo-rank-r1", SEQUENCES),
        ("grpo-rank-r1-32b", TOKENS),
        ("grpo-gr2", TOKENS),
    ],
)
def test_the_loss_of_a_recipe_is_its_papers(model: Path, tmp_path: Path, name: str, effective: float) -> None:
    assert losses(model, tmp_path, preset(name)["loss_type"], [(0, 1)]) == [pytest.approx(effective, abs=1e-6)]


@pytest.mark.parametrize(("loss_type", "effective"), [("grpo", SEQUENCES), ("bnpo", SEQUENCES), ("dapo", TOKENS)])
def test_one_answer_a_pass_makes_a_mean_over_answers_unless_dapo(
    model: Path, tmp_path: Path, loss_type: str, effective: float
) -> None:
    """Passes of one answer, as in ReasonRank's recipe: only dapo still weighs by tokens."""
    assert sum(losses(model, tmp_path, loss_type, [(0,), (1,)])) == pytest.approx(effective, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "last"),
    [("grpo-reasonrank-7b", 1.0), ("grpo-rank-r1", 1.0), ("grpo-gr2", 1.0), ("grpo-rank-r1-32b", 0.0)],
)
def test_the_rate_at_the_last_step(name: str, last: float) -> None:
    """Rank-R1 v0.1 stopped at 94 % of its rate; a linear schedule over its 9,000 steps would have reached 0."""
    from transformers import get_scheduler

    args = preset(name)
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=float(args["learning_rate"]))
    schedule = get_scheduler(args["lr_scheduler_type"], optimiser, num_warmup_steps=0, num_training_steps=20)
    for _ in range(20):
        optimiser.step()
        schedule.step()
    assert schedule.get_last_lr() == [pytest.approx(last * float(args["learning_rate"]))]
