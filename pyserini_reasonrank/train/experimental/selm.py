"""TRL's DPOTrainer on tokenised pairs, with SELM's optimism term (arXiv 2405.19332, equation 7)."""

from __future__ import annotations

from typing import Any

import torch
from trl import DPOTrainer

from pyserini_reasonrank.train.trainers.fit import WholeCheckpoint

OWN = ("own_ids", "own_mask", "own_labels")


class PairTrainer(WholeCheckpoint, DPOTrainer):  # type: ignore[misc]
    """Adds ``optimism`` times beta log pi(own) to DPO's loss: the policy's own first answer becomes less likely.

    The reference's log-probability, which the paper subtracts, is constant and has no gradient, so it is left out.
    """

    def __init__(self, *args: Any, optimism: float, **kwargs: Any) -> None:
        self._optimism = optimism
        super().__init__(*args, **kwargs)
        self._pad: Any = self.data_collator  # type: ignore[has-type]
        self.data_collator = self._collate

    def _prepare_dataset(self, dataset: Any, *args: Any) -> Any:
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        self._signature_columns = [*self._signature_columns, "own_ids"]  # type: ignore[has-type]

    def _collate(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = self._pad(examples)
        if self._optimism:
            rows = [[*e["prompt_ids"], *e["own_ids"]] for e in examples]
            width, pad = max(map(len, rows)), self._tokenizer.pad_token_id
            batch["own_ids"] = torch.tensor([row + [pad] * (width - len(row)) for row in rows])
            batch["own_mask"] = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
            batch["own_labels"] = torch.tensor(
                [[-100] * len(e["prompt_ids"]) + e["own_ids"] + [-100] * (width - len(row))
                 for e, row in zip(examples, rows, strict=True)]
            )  # fmt: skip
        return batch

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
        own = [inputs.pop(name) for name in OWN if name in inputs]
        loss = super()._compute_loss(model, inputs, return_outputs)
        if not own:
            return loss
        ids, mask, labels = own
        output = model(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False, fused_lm_head=True)
        logprob = output.log_probs.sum(1).mean()
        self._metrics["train" if self.model.training else "eval"]["logps/own"].append(float(logprob.detach()))
        return loss + self._optimism * self.beta * logprob
