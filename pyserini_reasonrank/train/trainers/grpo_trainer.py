"""TRL's GRPOTrainer with what ranking needs: served prompts, whole queries in a batch, what can't be compared left out."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from trl import GRPOTrainer

from pyserini_reasonrank.train.experimental.latro import thoughts_alone
from pyserini_reasonrank.train.experimental.rarl_trainer import Mutations
from pyserini_reasonrank.train.trainers.pooling import PromptSampler
from pyserini_reasonrank.train.trainers.resuming import WholeCheckpoint

log = logging.getLogger(__name__)

SAME = 1e-6  # rewards of a group closer than this are equal


@dataclass(frozen=True, slots=True)
class Grouping:
    """``per_query``: rows of a query that must share a batch. ``drop_equal``: groups of equal rewards take no part in
    the loss, their KL term included; without it TRL gives them no advantage and keeps the KL term.
    ``thoughts``: completions end with their thought (LaTRO)."""

    per_query: int | None = None
    drop_equal: bool = True
    mutations: Mutations | None = None
    thoughts: bool = False


class RankingTrainer(WholeCheckpoint, GRPOTrainer):  # type: ignore[misc]
    """Prompts are texts, chat template and prefill in them already."""

    def __init__(self, *args: Any, grouping: Grouping, **kwargs: Any) -> None:
        self.grouping = grouping
        self._rows: list[dict[str, Any]] = []
        self._left_out = torch.zeros(0, dtype=torch.bool)
        super().__init__(*args, **kwargs)

    @property
    def steps_per_batch(self) -> int:
        """Optimiser steps between two generations: a checkpoint in between could not be gone on from exactly."""
        substeps: int = self.args.steps_per_generation * self.num_iterations
        accumulated: int = self.args.gradient_accumulation_steps
        return max(substeps // accumulated, 1)

    def _get_train_sampler(self, dataset: Any = None) -> PromptSampler:
        data = self.train_dataset if dataset is None else dataset
        return PromptSampler(
            data["qid"],
            [max(gains) > 0 for gains in data["gains"]],
            prompts=self.args.generation_batch_size // self.num_generations,
            generations=self.num_generations,
            repeats=self.num_iterations * self.args.steps_per_generation,
            per_query=self.grouping.per_query,
            shuffle=self.shuffle_dataset,
            seed=self.args.seed,
        )

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        ids = self.processing_class(text=prompts, add_special_tokens=False)["input_ids"]
        return ids, None, {}

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self._rows = inputs
        batch: dict[str, Any] = super()._generate_and_score_completions(inputs)
        if self.model.training:
            batch["completion_mask"] = batch["completion_mask"] * (~self._left_out).unsqueeze(1)
            batch["num_items_in_batch"] = self.accelerator.gather(batch["completion_mask"].sum()).sum()
        return batch

    def _generate(self, prompts: list[str]) -> tuple[Any, ...]:
        found = tuple(super()._generate(prompts))
        if self.grouping.thoughts:
            found = thoughts_alone(self.processing_class, found)
        mutations = self.grouping.mutations
        if mutations is None or not self.model.training:
            return found
        return mutations.applied(self, self._rows, found)

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> Tensor:
        rewards: Tensor = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        generations = self.num_generations if self.model.training else self.num_generations_eval
        here = slice(self.accelerator.process_index * len(prompts), (self.accelerator.process_index + 1) * len(prompts))
        total = self.totals(rewards)
        lost = total.isnan()
        self._tell(inputs, rewards[here], lost[here])
        groups = total.view(-1, generations)
        spread = groups.nan_to_num(-torch.inf).amax(1) - groups.nan_to_num(torch.inf).amin(1)
        equal = ~(spread > SAME)  # a group without any reward has no contrast either
        metrics = self._metrics["train" if self.model.training else "eval"]
        metrics["groups/equal"].append(equal.float().mean().item())
        metrics["completions/no_reward"].append(lost.float().mean().item())
        left_out = lost | equal.repeat_interleave(generations) if self.grouping.drop_equal else lost
        self._left_out = left_out[here]
        return rewards.masked_fill(lost.unsqueeze(1), torch.nan)

    def totals(self, rewards: Tensor) -> Tensor:
        """The weighted sum of each completion's rewards; NaN where one of them is no finite number.

        TRL adds up the others, which would leave that completion an advantage against its group.
        """
        total = (rewards * self.reward_weights.to(rewards.device)).sum(1)
        return total.masked_fill(~total.isfinite(), torch.nan)

    def _tell(self, rows: Any, rewards: Tensor, lost: Tensor) -> None:
        if not lost.any():
            return
        qids = sorted({row["qid"] for row, without in zip(rows, lost.tolist(), strict=True) if without})
        faulty = (~rewards.isfinite()).any(0).tolist()
        names = [name for name, fault in zip(self.reward_func_names, faulty, strict=True) if fault]
        log.warning("%d of %d completions have no finite reward from %s and take no part in the loss (queries %s)",
                    int(lost.sum()), len(lost), ", ".join(names) or "the sum", qids[:5])  # fmt: skip
