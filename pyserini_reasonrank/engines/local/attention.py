"""Causal attention of many texts packed into one row, on a CPU.

Blocks of positions that see as many keys are one product, whichever texts they are of; of texts that go on by one token, as in
decoding, the heads that share keys are. A block is 32 positions of a text and sees all keys up to its own last one, so its
product has one shape wherever the text lies and whatever is beside it: a token's bits depend on what it sees alone, not on
how many tokens come at once, nor on what follows them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

BLOCK = 32
"""Positions that are attended from together. PyTorch's own blocks on a CPU are of 32 queries at the least."""
_FEW = 8
"""Of fewer rows a CPU sums in another order (measured)."""

type _Places = slice | Tensor


@dataclass(frozen=True, slots=True)
class Text:
    """Where the keys of a text lie among the row's, in order, and where its last tokens, which attend, among the queries."""

    keys: Sequence[int]
    queries: Sequence[int]


class Blocks:
    """How the texts of a row with ``size`` queries are attended from. A query of no text is padding."""

    def __init__(self, texts: Iterable[Text], size: int) -> None:
        blocks, ones = defaultdict[int, list[tuple[Text, int]]](list), defaultdict[int, list[Text]](list)
        for text in texts:
            length = len(text.keys)
            if len(text.queries) == 1:
                ones[length + -length % BLOCK].append(text)
                continue
            for begin in range((length - len(text.queries)) // BLOCK * BLOCK, length, BLOCK):
                blocks[begin + BLOCK].append((text, begin))
        self._blocks = list[tuple[int, Tensor, _Places]]()
        self._ones = list[tuple[int, Tensor, _Places, list[int]]]()
        rows = list[int | None]()  # of the products one after the other: the query of each
        for end, cut in blocks.items():
            asked = [query for text, begin in cut for query in _block(text, begin)]
            self._blocks.append((end, _index(asked), _keys([text for text, _ in cut], end)))
            rows += asked
        for end, last in ones.items():
            asked = [text.queries[0] for text in last]
            self._ones.append((end, _index(asked), _keys(last, end), [(len(t.keys) - 1) % BLOCK for t in last]))
            rows += asked
        at = {query: row for row, query in enumerate(rows) if query is not None}
        self._order = torch.tensor([at.get(query, 0) for query in range(size)])

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int | None) -> Tensor:
        """Query (1, heads, queries, size), fewer heads of keys; output (1, queries, heads, size)."""
        query, key, value = query[0], key[0], value[0]
        shared, found = query.shape[0] // key.shape[0], []
        if self._blocks:
            alike = [x.repeat_interleave(shared, 0) for x in (key, value)]
        for end, queries, keys in self._blocks:
            rows = query.index_select(1, queries).unflatten(1, (-1, BLOCK)).transpose(0, 1)
            seen, values = (_taken(x, keys, end) for x in alike)
            product = F.scaled_dot_product_attention(rows, seen, values, block_mask(end, window), scale=scaling)
            found.append(product.transpose(1, 2).flatten(0, 1))
        for end, queries, keys, at in self._ones:
            rows = query.index_select(1, queries).transpose(0, 1).unflatten(1, (-1, shared))
            rows = F.pad(rows, (0, 0, 0, max(_FEW - shared, 0)))
            mask = block_mask(end, window)[at][:, None, None].expand(-1, 1, rows.shape[2], -1)
            seen, values = (_taken(x, keys, end) for x in (key, value))
            product = F.scaled_dot_product_attention(rows, seen, values, mask, scale=scaling)
            found.append(product[:, :, :shared].flatten(1, 2))
        return torch.cat(found).index_select(0, self._order)[None]


def _block(text: Text, begin: int) -> list[int | None]:
    """The queries at the 32 positions from ``begin``; None at those of keys alone, and behind the text."""
    before = len(text.keys) - len(text.queries)
    return [text.queries[p - before] if before <= p < len(text.keys) else None for p in range(begin, begin + BLOCK)]


def _index(queries: Iterable[int | None]) -> Tensor:
    return torch.tensor([query or 0 for query in queries])


def _keys(texts: Sequence[Text], end: int) -> _Places:
    """The first ``end`` keys of every text; what is filled up no position sees."""
    only = texts[0].keys
    if len(texts) == 1 and isinstance(only, range) and len(only) >= end:
        return slice(only.start, only.start + end)
    return torch.tensor([place for text in texts for place in (*text.keys[:end], *[0] * (end - len(text.keys)))])


def _taken(x: Tensor, places: _Places, end: int) -> Tensor:
    """(heads, keys, size) to (texts, heads, ``end``, size)."""
    taken: Tensor = x[:, places] if isinstance(places, slice) else x.index_select(1, places)
    return taken.unflatten(1, (-1, end)).transpose(0, 1)


@lru_cache(4096)
def block_mask(keys: int, window: int | None) -> Tensor:
    """(32, keys): few and small, as keys come in whole blocks, and asked for in every layer."""
    with torch.inference_mode(False):  # it outlives this pass, and the next may be of training
        return last_mask(BLOCK, keys, window, torch.device("cpu"))


def last_mask(queries: int, keys: int, window: int | None, device: torch.device) -> Tensor:
    """(queries, keys): which keys the last queries see."""
    mask = torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)
    return mask if window is None else mask.triu(keys - queries - window + 1)
