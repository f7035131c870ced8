"""PRILoRA (arXiv 2401.11316): LoRA whose rank grows with depth, and whose A matrices are pruned during training.

The ranks are PEFT's ``rank_pattern``. The importance of a weight of A is its magnitude times the running norm of its
input feature. At regular intervals the least important share of each row is set to zero; these weights can grow again.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.train.settings import Prilora


class Pruning(TrainerCallback):  # type: ignore[misc]
    """Tracks the input norms of every ``lora_A`` and prunes it. The running norms are saved with each checkpoint."""

    def __init__(self, settings: Prilora) -> None:
        self.settings = settings
        self._modules: dict[str, nn.Module] = {}
        self._norms: dict[str, Tensor] = {}
        self._hooks: list[Any] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        named = model.named_modules()
        self._modules = {name: m for name, m in named if ".lora_A." in name and isinstance(m, nn.Linear)}
        if any(hasattr(m.weight, "ds_id") for m in self._modules.values()):
            raise UsageError(
                "prilora.every needs complete weights, which ZeRO-3 partitions: set it to 0, or use ZeRO-2"
            )
        saved = _norms_file(args, state)
        if saved.is_file():
            self._norms = torch.load(saved, map_location=model.device, weights_only=True)
        self._hooks = [m.register_forward_pre_hook(partial(self._read, name)) for name, m in self._modules.items()]

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.settings.every and state.global_step % self.settings.every == 0:
            for name, norm in self._norms.items():
                _average(norm)
                weight: Any = self._modules[name].weight
                prune(weight.data, norm, self.settings.share)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            torch.save(self._norms, _norms_file(args, state))

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        for hook in self._hooks:
            hook.remove()

    def _read(self, name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if not module.training or not torch.is_grad_enabled():
            return  # the model also generates and serves as its own reference
        now = inputs[0].detach().float().flatten(0, -2).norm(dim=0)
        past = self._norms.get(name)
        self._norms[name] = now if past is None else self.settings.memory * past + (1 - self.settings.memory) * now


def _norms_file(args: Any, state: Any) -> Path:
    return Path(args.output_dir, f"checkpoint-{state.global_step}", "prilora.pt")


def _average(norm: Tensor) -> None:
    """Average over all processes, in place, so that they prune the same weights."""
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(norm)
        norm /= torch.distributed.get_world_size()


def prune(weight: Tensor, norm: Tensor, share: float) -> None:
    """Set the least important ``share`` of each row of ``weight`` (rank, features) to zero, in place.

    ``norm`` (features) is the running L2 norm of the inputs.
    """
    count = int(share * weight.shape[1])
    least = (weight.abs() * norm).topk(count, dim=1, largest=False).indices
    weight.scatter_(1, least, 0.0)
