"""Attention of many short texts in one row, on a CPU: blocks of their positions that see as many keys are one product.

A text of the row may begin with places of others (what they share), which are attended from once. A block is 32 positions
of a text and sees all keys up to its own last one, so its product has one shape wherever the text lies and whichever texts
are beside it: its bits are the same as alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from pyserini_reasonrank.engines._packed import BLOCK, block_mask


@dataclass(frozen=True, slots=True)
class Text:
    """Where the tokens of a text lie in the row, in order, and how many of the last are attended from here."""

    places: Sequence[int]
    new: int


class Blocks:
    """The blocks of the texts of a row of ``size`` places. A place in no text is padding."""

    def __init__(self, texts: Iterable[Text], size: int) -> None:
        alike = defaultdict[int, list[tuple[Text, int]]](list)
        for text in texts:
            for begin in range((len(text.places) - text.new) // BLOCK * BLOCK, len(text.places), BLOCK):
                alike[begin + BLOCK].append((text, begin))
        back, self._groups, row = [0] * size, list[tuple[int, Tensor, Tensor]](), 0
        for end, blocks in alike.items():
            queries, keys = list[int](), list[int]()
            for text, begin in blocks:
                own = text.places[begin:end]
                for i in range(max(len(text.places) - text.new - begin, 0), len(own)):
                    back[own[i]] = row + i
                row += BLOCK
                queries += [*own, *[0] * (BLOCK - len(own))]
                keys += [*text.places[:end], *[0] * (end - len(text.places))]  # what is filled up no position sees
            self._groups.append((end, torch.tensor(queries), torch.tensor(keys)))
        self._back = torch.tensor(back)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int | None) -> Tensor:
        """Causal attention. Query (1, heads, places, size), fewer heads of keys; output (1, places, heads, size)."""
        shared, found = query.shape[1] // key.shape[1], []
        query, key, value = query[0], key[0].repeat_interleave(shared, 0), value[0].repeat_interleave(shared, 0)
        for end, queries, keys in self._groups:
            rows, seen, values = (
                x.index_select(1, places).unflatten(1, (-1, each)).transpose(0, 1)
                for x, places, each in ((query, queries, BLOCK), (key, keys, end), (value, keys, end))
            )
            product = F.scaled_dot_product_attention(rows, seen, values, block_mask(end, window), scale=scaling)
            found.append(product.transpose(1, 2).flatten(0, 1))
        return torch.cat(found).index_select(0, self._back)[None]
