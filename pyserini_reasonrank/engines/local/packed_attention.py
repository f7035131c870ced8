"""Causal attention over many texts that are packed into one row, each text attending to its own keys only.

Continuous batching packs the tokens of all requests into one row. With PyTorch's attention, transformers masks that row,
so every query is multiplied with the keys of every other request, and the cost grows with the square of the requests in
flight. Here each text is attended separately. On a CPU its result also has the same bits whatever else is in the row:
queries are taken in blocks of 32 positions of one text, and a block sees all keys up to its own last position, so the
matrix product of a block has one shape wherever the text lies in the row. Blocks with equally many keys are computed as one
batch. Texts that continue by one token, as in decoding, are batched over the heads that share keys instead.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NAME = "per_request_flash"
"""The name of :func:`attend` in transformers, which takes "flash" in it as a sign that packed rows need no mask."""
BLOCK = 32
"""Positions in a block. PyTorch's attention on a CPU itself works in blocks of at least 32 queries."""
_FEWEST_ROWS = 8
"""With fewer rows a CPU sums in another order (measured)."""

type _Places = slice | Tensor


@dataclass(frozen=True, slots=True)
class PackedText:
    """Where one text lies in a row: the places of its keys, in order, and of its last tokens, which are the queries."""

    keys: Sequence[int]
    queries: Sequence[int]


class PackedBlocks:
    """The blocks of all texts of a row with ``size`` queries. A query that belongs to no text is padding."""

    def __init__(self, texts: Iterable[PackedText], size: int) -> None:
        blocks = defaultdict[int, list[tuple[PackedText, int]]](list)
        single = defaultdict[int, list[PackedText]](list)
        for text in texts:
            length = len(text.keys)
            if len(text.queries) == 1:
                single[length + -length % BLOCK].append(text)
                continue
            for begin in range((length - len(text.queries)) // BLOCK * BLOCK, length, BLOCK):
                blocks[begin + BLOCK].append((text, begin))
        self._blocks = list[tuple[int, Tensor, _Places]]()
        self._single = list[tuple[int, Tensor, _Places, list[int]]]()
        rows = list[int | None]()  # the query of each row of the products, one product after the other
        for end, cut in blocks.items():
            queries = [query for text, begin in cut for query in _block_queries(text, begin)]
            self._blocks.append((end, _index(queries), _key_places([text for text, _ in cut], end)))
            rows += queries
        for end, last in single.items():
            only = [text.queries[0] for text in last]
            self._single.append((end, _index(only), _key_places(last, end), [(len(t.keys) - 1) % BLOCK for t in last]))
            rows += only
        at = {query: row for row, query in enumerate(rows) if query is not None}
        self._order = torch.tensor([at.get(query, 0) for query in range(size)])

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int | None) -> Tensor:
        """Compute attention for all texts.

        ``query`` has shape (1, heads, queries, head size); ``key`` and ``value`` may have fewer heads. ``window`` is the
        length of sliding attention, None for full attention. The output has shape (1, queries, heads, head size).
        """
        query, key, value = query[0], key[0], value[0]
        shared, found = query.shape[0] // key.shape[0], []
        if self._blocks:
            repeated = [x.repeat_interleave(shared, 0) for x in (key, value)]
        for end, queries, keys in self._blocks:
            rows = query.index_select(1, queries).unflatten(1, (-1, BLOCK)).transpose(0, 1)
            seen, values = (_taken(x, keys, end) for x in repeated)
            product = F.scaled_dot_product_attention(rows, seen, values, block_mask(end, window), scale=scaling)
            found.append(product.transpose(1, 2).flatten(0, 1))
        for end, queries, keys, at in self._single:
            rows = query.index_select(1, queries).transpose(0, 1).unflatten(1, (-1, shared))
            rows = F.pad(rows, (0, 0, 0, max(_FEWEST_ROWS - shared, 0)))
            mask = block_mask(end, window)[at][:, None, None].expand(-1, 1, rows.shape[2], -1)
            seen, values = (_taken(x, keys, end) for x in (key, value))
            product = F.scaled_dot_product_attention(rows, seen, values, mask, scale=scaling)
            found.append(product[:, :, :shared].flatten(1, 2))
        return torch.cat(found).index_select(0, self._order)[None]


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
    """Attention of continuous batching, as transformers' attention interface calls it.

    ``query`` has shape (1, heads, tokens, head size), the output (1, tokens, heads, head size). ``cu_seq_lens_q`` and
    ``cu_seq_lens_k`` give where each request's queries and keys begin, and the end of the last.
    """
    key, value = cache.update(key_states=key, value_states=value, layer_idx=module.layer_idx, kwargs=kwargs)
    queries, keys = cu_seq_lens_q.tolist(), kwargs["cu_seq_lens_k"].tolist()
    if query.device.type == "cpu":
        blocks = _request_blocks(tuple(queries), tuple(keys), query.shape[2])
        return blocks.attend(query, key, value, scaling, sliding_window), None
    output = query.new_zeros(1, query.shape[2], query.shape[1], value.shape[-1])
    for i in range(len(queries) - 1):
        q, k = slice(queries[i], queries[i + 1]), slice(keys[i], keys[i + 1])
        found = causal(query[:, :, q], key[:, :, k], value[:, :, k], scaling, sliding_window)
        output[:, q] = found.transpose(1, 2)
    return output, None


def causal(query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int | None) -> Tensor:
    """Causal attention of one text's last queries to its keys; shapes (1, heads, tokens, head size), output like query."""
    queries, keys = query.shape[2], key.shape[2]
    plain = queries == keys and (window is None or keys <= window)
    mask = None if plain else last_mask(queries, keys, window, query.device)
    return F.scaled_dot_product_attention(query, key, value, mask, is_causal=plain, scale=scaling, enable_gqa=True)


def register(name: str, attention: Callable[..., tuple[Tensor, None]]) -> str:
    """Register an attention that needs no mask with transformers; return its name there."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(name, attention)
    AttentionMaskInterface.register(name, _no_mask)
    return name


@contextmanager
def using(model: Any, attention: str) -> Iterator[None]:
    """Let ``model`` use the registered attention of this name within the context."""
    own, model.config._attn_implementation = model.config._attn_implementation, attention
    try:
        yield
    finally:
        model.config._attn_implementation = own


@lru_cache(4096)
def block_mask(keys: int, window: int | None) -> Tensor:
    """The mask (32, keys) of a block. Cached: there are few and small ones, and every layer needs them."""
    with torch.inference_mode(False):  # the mask outlives this pass, and the next pass may train
        return last_mask(BLOCK, keys, window, torch.device("cpu"))


def last_mask(queries: int, keys: int, window: int | None, device: torch.device) -> Tensor:
    """The mask (queries, keys) of a text's last ``queries`` positions: True for the keys that a query sees."""
    mask = torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)
    return mask if window is None else mask.triu(keys - queries - window + 1)


def _no_mask(*args: Any, **kwargs: Any) -> None:
    return None


@lru_cache(2)
def _request_blocks(queries: tuple[int, ...], keys: tuple[int, ...], size: int) -> PackedBlocks:
    """The blocks of one forward pass, which are the same in every layer. Arguments as in :func:`attend`."""
    each = zip(pairwise(keys), pairwise(queries), strict=True)
    return PackedBlocks([PackedText(range(*seen), range(*own)) for seen, own in each if own[0] < own[1]], size)


def _block_queries(text: PackedText, begin: int) -> list[int | None]:
    """The queries at the 32 positions from ``begin``; None where a position has a key only or lies behind the text."""
    before = len(text.keys) - len(text.queries)
    return [text.queries[p - before] if before <= p < len(text.keys) else None for p in range(begin, begin + BLOCK)]


def _index(queries: Iterable[int | None]) -> Tensor:
    return torch.tensor([query or 0 for query in queries])


def _key_places(texts: Sequence[PackedText], end: int) -> _Places:
    """The places of the first ``end`` keys of every text. Shorter texts are padded with keys that the mask hides."""
    only = texts[0].keys
    if len(texts) == 1 and isinstance(only, range) and len(only) >= end:
        return slice(only.start, only.start + end)
    return torch.tensor([place for text in texts for place in (*text.keys[:end], *[0] * (end - len(text.keys)))])


def _taken(x: Tensor, places: _Places, end: int) -> Tensor:
    """Select from (heads, keys, head size) the ``places``: (texts, heads, ``end``, head size)."""
    taken: Tensor = x[:, places] if isinstance(places, slice) else x.index_select(1, places)
    return taken.unflatten(1, (-1, end)).transpose(0, 1)
