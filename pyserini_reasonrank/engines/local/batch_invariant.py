"""Linear layers whose result for a row has the same bits alone and in a batch, on a CPU.

A matrix product on a CPU may sum in another order for another number of rows. From some unit on, any multiple of that many
rows gives the same bits; the unit depends on the CPU and is measured.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pyserini_reasonrank.engines.local.threads import threads_per_worker, using_threads


class BatchInvariantLinear(nn.Linear):  # type: ignore[misc]
    """A linear layer that pads its input rows to a multiple of ``unit``."""

    unit: int

    def forward(self, input: Tensor) -> Tensor:
        rows = input.numel() // input.shape[-1]
        missing = -rows % self.unit
        if not missing:
            return super().forward(input)
        padded = F.pad(input.reshape(rows, -1), (0, 0, 0, missing))
        return super().forward(padded)[:rows].reshape(*input.shape[:-1], -1)


def make_batch_invariant(model: nn.Module) -> None:
    """Turn the linear layers of ``model`` that are on a CPU into :class:`BatchInvariantLinear`, in place."""
    layers = [m for m in model.modules() if type(m) is nn.Linear and m.weight.device.type == "cpu"]
    unit = max((_unit(w) for w in {layer.weight.shape: layer.weight for layer in layers}.values()), default=1)
    for layer in layers:
        layer.__class__ = BatchInvariantLinear
        layer.unit = unit


@torch.inference_mode()  # type: ignore[untyped-decorator]
def _unit(weight: Tensor) -> int:
    """Measure the smallest number of which every multiple of rows gives the same bits as many rows on this CPU.

    Measured with all threads and with the threads of one worker.
    """
    rows = torch.randn(128, weight.shape[1], generator=torch.Generator().manual_seed(0)).to(weight.dtype)
    many, threads = F.linear(rows, weight), torch.get_num_threads()

    def alike(unit: int, threads: int) -> bool:
        with using_threads(threads):
            return all(torch.equal(F.linear(rows[: unit * n], weight), many[: unit * n]) for n in (1, 2, 3))

    share = threads_per_worker(threads)[1]
    return next((u for u in (1, 4, 8, 16, 32) if alike(u, threads) and alike(u, share)), 64)
