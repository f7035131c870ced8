"""TRL's GRPOTrainer for ranking: served prompts, complete queries in a batch, incomparable groups left out of the loss."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from trl import GRPOTrainer

from pyserini_reasonrank.train.trainers.batching import PromptSampler
from pyserini_reasonrank.train.trainers.fit import WholeCheckpoint

log = logging.getLogger(__name__)

SAME = 1e-6  # rewards of a group closer than this are equal


class Rewrite(Protocol):
    """Changes completions between generation and reward: TRL's generation output in and out, with the batch's rows."""

    def __call__(self, trainer: Any, rows: Sequence[Mapping[str, Any]], found: tuple[Any, ...]) -> tuple[Any, ...]: ...


@dataclass(frozen=True, slots=True)
class Grouping:
    """How rows are grouped in batches and in the loss.

    ``per_query`` is the number of rows of a query that share a batch. With ``drop_equal``, groups with equal rewards are
    left out of the loss including their KL term; without it, TRL gives them no advantage and keeps the KL term.
    """

    per_query: int | None = None
    drop_equal: bool = True


class RankingTrainer(WholeCheckpoint, GRPOTrainer):  # type: ignore[misc]
    """Trains on prompts that are texts and already include chat template and prefill.

    ``rewrite`` changes all completions, ``mutation`` only those to train on.
    """

    def __init__(
        self,
        *args: Any,
        grouping: Grouping,
        rewrite: Rewrite | None = None,
        mutation: Rewrite | None = None,
        **kwargs: Any,
    ) -> None:
        self.grouping, self.rewrite, self.mutation = grouping, rewrite, mutation
        self._rows: list[dict[str, Any]] = []
        self._left_out = torch.zeros(0, dtype=torch.bool)
        super().__init__(*args, **kwargs)

    @property
    def steps_per_batch(self) -> int:
        """Optimiser steps between two generations. A run can't be resumed exactly from a checkpoint in between."""
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
        if self.rewrite is not None:
            found = self.rewrite(self, self._rows, found)
        if self.mutation is not None and self.model.training:
            found = self.mutation(self, self._rows, found)
        return found

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> Tensor:
        rewards: Tensor = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        generations = self.num_generations if self.model.training else self.num_generations_eval
        here = slice(self.accelerator.process_index * len(prompts), (self.accelerator.process_index + 1) * len(prompts))
        total = self.totals(rewards)
        lost = total.isnan()
        self._warn_of_lost(inputs, rewards[here], lost[here])
        groups = total.view(-1, generations)
        spread = groups.nan_to_num(-torch.inf).amax(1) - groups.nan_to_num(torch.inf).amin(1)
        equal = ~(spread > SAME)  # includes groups without any reward
        metrics = self._metrics["train" if self.model.training else "eval"]
        metrics["groups/equal"].append(equal.float().mean().item())
        metrics["completions/no_reward"].append(lost.float().mean().item())
        left_out = lost | equal.repeat_interleave(generations) if self.grouping.drop_equal else lost
        self._left_out = left_out[here]
        return rewards.masked_fill(lost.unsqueeze(1), torch.nan)

    def totals(self, rewards: Tensor) -> Tensor:
        """The weighted sum of each completion's rewards; NaN if one of them is not finite.

        TRL would sum the others, which gives that completion an advantage relative to its group.
        """
        total = (rewards * self.reward_weights.to(rewards.device)).sum(1)
        return total.masked_fill(~total.isfinite(), torch.nan)

    def _warn_of_lost(self, rows: Any, rewards: Tensor, lost: Tensor) -> None:
        if not lost.any():
            return
        qids = sorted({row["qid"] for row, without in zip(rows, lost.tolist(), strict=True) if without})
        faulty = (~rewards.isfinite()).any(0).tolist()
        names = [name for name, fault in zip(self.reward_func_names, faulty, strict=True) if fault]
        log.warning("%d of %d completions have no finite reward from %s and are left out of the loss (queries %s)",
                    int(lost.sum()), len(lost), ", ".join(names) or "the sum", qids[:5])  # fmt: skip
