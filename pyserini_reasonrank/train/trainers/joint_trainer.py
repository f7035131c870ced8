"""FIRST's joint loss on TRL's SFTTrainer: language modelling of the answer, and ranking by the first identifier's logits.

FIRST (arXiv 2406.15657), section 3: L = L_LM + weight * L_rank. The scores are the logits of the passages' identifiers
at the position of the first identifier.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from trl import SFTTrainer

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.train.data.rows import Audit
from pyserini_reasonrank.train.settings import RankLoss
from pyserini_reasonrank.train.trainers.examples import Example, Unfit, first_id, labelled
from pyserini_reasonrank.train.trainers.losses import LOSSES
from pyserini_reasonrank.train.trainers.policy import Policy


def dataset(examples: Sequence[Example], policy: Policy, audit: Audit) -> Dataset:
    """Token ids and labels, the position that predicts the first identifier, the identifiers' tokens, and the ranks.

    ``audit`` counts the rows; those without a first identifier are left out. UsageError if none can be used.
    """
    records = []
    for example in examples:
        first = first_id(example, policy)
        if audit.note(None if first else Unfit.NO_FIRST_ID, f"{example.row.source} {example.row.qid}") and first:
            place = len(example.prompt) + first.index - 1
            records.append({**labelled(example), "place": place, "tokens": first.tokens, "ranks": first.ranks})
    if not records:
        raise UsageError(f"no row has a first identifier for the ranking loss: {audit}")
    return Dataset.from_list(records)


class JointTrainer(SFTTrainer):  # type: ignore[misc]
    """SFTTrainer with an additional ranking loss. A batch whose ranking loss is not finite omits it; the log counts these.

    Needs the complete output layer, so it does not work with ZeRO-3 or FSDP.
    """

    def __init__(self, *args: Any, rank_loss: RankLoss, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._loss, published = LOSSES[rank_loss.name]
        self._weight = published if rank_loss.weight is None else rank_loss.weight
        self._pad: Any = self.data_collator  # type: ignore[has-type]
        self.data_collator = self._collate
        self._hidden: Tensor | None = None
        backbone = self.accelerator.unwrap_model(self.model).get_decoder()
        backbone.register_forward_hook(self._keep)

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        self._signature_columns = [*self._signature_columns, "place", "tokens", "ranks"]  # type: ignore[has-type]

    def _collate(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        width = max(len(e["tokens"]) for e in examples)

        def padded(name: str) -> Tensor:
            return torch.tensor([e[name] + [0] * (width - len(e[name])) for e in examples])

        batch: dict[str, Any] = self._pad([{k: e[k] for k in ("input_ids", "labels")} for e in examples])
        place = torch.tensor([e["place"] for e in examples])
        return batch | {"place": place, "tokens": padded("tokens"), "ranks": padded("ranks")}

    def _keep(self, module: Any, inputs: Any, output: Any) -> None:
        self._hidden = output.last_hidden_state

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        place, tokens, ranks = (inputs.pop(name) for name in ("place", "tokens", "ranks"))
        loss = super().compute_loss(model, inputs, num_items_in_batch=num_items_in_batch)
        assert self._hidden is not None
        rows = torch.arange(len(place), device=place.device)
        head = self.accelerator.unwrap_model(model).get_output_embeddings().weight
        scores = torch.einsum("bh,bnh->bn", self._hidden[rows, place].float(), head[tokens].float())
        self._hidden = None
        rank = self._loss(scores, ranks)
        finite = bool(torch.isfinite(rank))
        metrics = self._metrics["train" if self.model.training else "eval"]
        metrics["rank_loss_skipped"].append(float(not finite))
        if not finite:
            return loss
        metrics["rank_loss"].append(float(rank.detach()))
        steps = self.current_gradient_accumulation_steps if num_items_in_batch is not None else 1
        return loss + self._weight * rank / steps
