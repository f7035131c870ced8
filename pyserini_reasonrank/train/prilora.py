"""PRILoRA (arXiv 2401.11316): LoRA whose rank grows with depth, and whose A matrices are pruned while they are trained.

The ranks are PEFT's ``rank_pattern``. The importance of a weight of A is its size times the running norm of the input
feature it reads; every so many steps the least important share of each row is set to zero, and may grow again.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import TrainerCallback

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.train.settings import Prilora


class Pruning(TrainerCallback):  # type: ignore[misc]
    """Watches what every ``lora_A`` reads, and prunes."""

    def __init__(self, settings: Prilora) -> None:
        self.settings = settings
        self._norms: dict[nn.Module, Tensor] = {}
        self._hooks: list[Any] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        found = [m for name, m in model.named_modules() if ".lora_A." in name and isinstance(m, nn.Linear)]
        if any(hasattr(m.weight, "ds_id") for m in found):
            raise UsageError(
                "prilora.every needs whole weights, which ZeRO-3 has in parts: set it to 0, or take ZeRO-2"
            )
        self._hooks = [m.register_forward_pre_hook(self._read) for m in found]

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.settings.every and state.global_step % self.settings.every == 0:
            for module, norm in self._norms.items():
                prune(module.weight.data, norm, self.settings.share)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        for hook in self._hooks:
            hook.remove()

    def _read(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if not module.training:
            return
        now = inputs[0].detach().float().flatten(0, -2).norm(dim=0)
        past = self._norms.get(module)
        self._norms[module] = now if past is None else self.settings.memory * past + (1 - self.settings.memory) * now


def prune(weight: Tensor, norm: Tensor, share: float) -> None:
    """Set the least important ``share`` of each row of ``weight`` (rank, features) to zero, in place.

    ``norm`` (features) is the running L2 norm of the inputs.
    """
    count = int(share * weight.shape[1])
    least = (weight.abs() * norm).topk(count, dim=1, largest=False).indices
    weight.scatter_(1, least, 0.0)
