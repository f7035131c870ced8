"""Attention over packed requests without a flash kernel, each request by itself, and sums that don't depend on company.

Continuous batching packs the tokens of all requests into one row. With PyTorch's attention transformers masks that row,
so every token is multiplied with every other request's keys: the cost grows with the square of the requests in flight.
Here each request attends to its own keys only. That also makes a request's numbers the same bits whoever else is in
flight, given that a matrix product treats each row alike, which :class:`SteadyLinear` sees to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pyserini_reasonrank.engines.local.attention import Blocks, Text, last_mask
from pyserini_reasonrank.engines.local.threads import computing, lanes_of

NAME = "per_request_flash"  # "flash" in the name is how transformers knows that packed rows need no mask


class SteadyLinear(nn.Linear):  # type: ignore[misc]
    """A linear layer that gives a row the same bits alone and among others: it rounds their number up."""

    unit: int

    def forward(self, input: Tensor) -> Tensor:
        rows = input.numel() // input.shape[-1]
        missing = -rows % self.unit
        if not missing:
            return super().forward(input)
        padded = F.pad(input.reshape(rows, -1), (0, 0, 0, missing))
        return super().forward(padded)[:rows].reshape(*input.shape[:-1], -1)


def steady(model: nn.Module) -> None:
    """Make the linear layers that are on a CPU steady, in place."""
    layers = [m for m in model.modules() if type(m) is nn.Linear and m.weight.device.type == "cpu"]
    unit = max((_unit(w) for w in {layer.weight.shape: layer.weight for layer in layers}.values()), default=1)
    for layer in layers:
        layer.__class__ = SteadyLinear
        layer.unit = unit


@torch.inference_mode()  # type: ignore[untyped-decorator]
def _unit(weight: Tensor) -> int:
    """The least number of which any multiple of rows gives the same bits as many rows, with all threads and with those of
    a lane, found by trying this CPU."""
    rows = torch.randn(128, weight.shape[1], generator=torch.Generator().manual_seed(0)).to(weight.dtype)
    many, threads = F.linear(rows, weight), torch.get_num_threads()

    def alike(unit: int, threads: int) -> bool:
        with computing(threads):
            return all(torch.equal(F.linear(rows[: unit * n], weight), many[: unit * n]) for n in (1, 2, 3))

    return next((u for u in (1, 4, 8, 16, 32) if alike(u, threads) and alike(u, lanes_of(threads)[1])), 64)


def register(name: str, attention: Callable[..., tuple[Tensor, None]]) -> str:
    """Make an attention that needs no mask known to transformers, and return its name there."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(name, attention)
    AttentionMaskInterface.register(name, _no_mask)
    return name


@contextmanager
def using(model: Any, attention: str) -> Iterator[None]:
    """The model with another attention, by its name, for a while."""
    own, model.config._attn_implementation = model.config._attn_implementation, attention
    try:
        yield
    finally:
        model.config._attn_implementation = own


def _no_mask(*args: Any, **kwargs: Any) -> None:
    return None


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    *,
    cache: Any,
    cu_seq_lens_q: Tensor,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface. Query (1, heads, tokens, size) to output (1, tokens, heads, size)."""
    key, value = cache.update(key_states=key, value_states=value, layer_idx=module.layer_idx, kwargs=kwargs)
    queries, keys = cu_seq_lens_q.tolist(), kwargs["cu_seq_lens_k"].tolist()
    if query.device.type == "cpu":
        blocks = _blocks(tuple(queries), tuple(keys), query.shape[2])
        return blocks.attend(query, key, value, scaling, sliding_window), None
    output = query.new_zeros(1, query.shape[2], query.shape[1], value.shape[-1])
    for i in range(len(queries) - 1):
        q, k = slice(queries[i], queries[i + 1]), slice(keys[i], keys[i + 1])
        found = causal(query[:, :, q], key[:, :, k], value[:, :, k], scaling, sliding_window)
        output[:, q] = found.transpose(1, 2)
    return output, None


@lru_cache(2)
def _blocks(queries: tuple[int, ...], keys: tuple[int, ...], size: int) -> Blocks:
    """Those of a pass, the same in every layer. ``queries``, ``keys``: where each request begins, and the end."""
    each = zip(pairwise(keys), pairwise(queries), strict=True)
    return Blocks([Text(range(*seen), range(*own)) for seen, own in each if own[0] < own[1]], size)


def causal(query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int | None) -> Tensor:
    """Causal attention of a request's last queries to its keys. Query (1, heads, queries, size), output alike."""
    queries, keys = query.shape[2], key.shape[2]
    plain = queries == keys and (window is None or keys <= window)
    mask = None if plain else last_mask(queries, keys, window, query.device)
    return F.scaled_dot_product_attention(query, key, value, mask, is_causal=plain, scale=scaling, enable_gqa=True)
