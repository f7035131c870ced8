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
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pyserini_reasonrank.engines._lanes import computing, lanes_of

NAME = "per_request_flash"  # "flash" in the name is how transformers knows that packed rows need no mask
BLOCK = 32
"""Positions that are attended from together. PyTorch's own blocks on a CPU are of 32 queries at the least."""
_FEW = 8
"""Of fewer rows a CPU sums in another order (measured)."""


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
    output = query.new_zeros(1, query.shape[2], query.shape[1], value.shape[-1])
    for i in range(len(queries) - 1):
        q, k = slice(queries[i], queries[i + 1]), slice(keys[i], keys[i + 1])
        found = causal(query[:, :, q], key[:, :, k], value[:, :, k], scaling, sliding_window)
        output[:, q] = found.transpose(1, 2)
    return output, None


def causal(query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int | None) -> Tensor:
    """Causal attention of a request's last queries to its keys. Query (1, heads, queries, size), output alike.

    On a CPU a query's bits depend on what it sees alone: not on how many queries come at once, nor on what follows them.
    """
    if query.device.type == "cpu":
        return (_last if query.shape[2] == 1 else _by_block)(query, key, value, scaling, window)
    queries, keys = query.shape[2], key.shape[2]
    plain = queries == keys and (window is None or keys <= window)
    mask = None if plain else _mask(queries, keys, window, query.device)
    return F.scaled_dot_product_attention(query, key, value, mask, is_causal=plain, scale=scaling, enable_gqa=True)


def _by_block(query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int | None) -> Tensor:
    """As many products as there are blocks of positions, each of one shape wherever the queries begin and end."""
    queries, keys = query.shape[2], key.shape[2]
    before, after = (keys - queries) % BLOCK, -keys % BLOCK
    query = F.pad(query, (0, 0, before, after))
    shared = query.shape[1] // key.shape[1]
    key, value = (F.pad(x, (0, 0, 0, after)).repeat_interleave(shared, 1) for x in (key, value))
    start = key.shape[2] - query.shape[2]
    found = []
    for i in range(0, query.shape[2], BLOCK):
        end = start + i + BLOCK
        rows, keys_seen, values_seen = query[:, :, i : i + BLOCK], key[:, :, :end], value[:, :, :end]
        mask = block_mask(end, window)
        found.append(F.scaled_dot_product_attention(rows, keys_seen, values_seen, mask, scale=scaling))
    return torch.cat(found, 2)[:, :, before : before + queries]


def _last(query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int | None) -> Tensor:
    """Of one query, whose row in its block this is: the heads that share keys are rows of one product."""
    heads, groups, keys = query.shape[1], key.shape[1], key.shape[2]
    shared = heads // groups
    rows = F.pad(query.reshape(1, groups, shared, -1), (0, 0, 0, max(_FEW - shared, 0)))
    key, value = (F.pad(x, (0, 0, 0, -keys % BLOCK)) for x in (key, value))
    mask = block_mask(key.shape[2], window)[(keys - 1) % BLOCK]
    found = F.scaled_dot_product_attention(rows, key, value, mask.expand(rows.shape[2], -1), scale=scaling)
    return found[:, :, :shared].reshape(1, heads, 1, -1)


@lru_cache(4096)
def block_mask(keys: int, window: int | None) -> Tensor:
    """That of a whole block on a CPU: few and small, as keys come in whole blocks, and asked for in every layer."""
    with torch.inference_mode(False):  # it outlives this pass, and the next may be of training
        return _mask(BLOCK, keys, window, torch.device("cpu"))


def _mask(queries: int, keys: int, window: int | None, device: torch.device) -> Tensor:
    """(queries, keys): which keys the last queries see."""
    mask = torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)
    return mask if window is None else mask.triu(keys - queries - window + 1)
