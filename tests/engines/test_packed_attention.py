"""Attention on a CPU: right, and the same bits however a text is cut, whatever follows it and whatever is beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

torch = pytest.importorskip("torch")

from pyserini_reasonrank.engines.local.packed_attention import PackedBlocks, PackedText

if TYPE_CHECKING:
    from torch import Tensor

HEADS = pytest.mark.parametrize(("heads", "groups"), [(9, 3), (8, 8), (16, 1)])
WINDOW = pytest.mark.parametrize("window", [None, 50])


def attended(q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Tensor:
    """Of a text alone: q, k, v are (1, heads, tokens, size), of q the last ones."""
    keys, queries = k.shape[2], q.shape[2]
    return (
        PackedBlocks([PackedText(range(keys), range(queries))], queries).attend(q, k, v, None, window).transpose(1, 2)
    )


@WINDOW
@HEADS
def test_a_query_s_bits_depend_on_what_it_sees_alone(heads: int, groups: int, window: int | None) -> None:
    chance = torch.Generator().manual_seed(0)
    for keys in (2, 7, 31, 32, 33, 64, 100, 191, 300, 513):
        q, k, v = (torch.randn(1, n, keys, 16, generator=chance) for n in (heads, groups, groups))
        seen = torch.ones(keys, keys, dtype=torch.bool).tril().triu(1 - (window or keys))
        whole = attended(q, k, v, window)
        plain = torch.nn.functional.scaled_dot_product_attention(q, k, v, seen, enable_gqa=True)
        assert torch.allclose(whole, plain, atol=1e-5)
        for cut in {1, 2, 5, 31, 32, 33, keys // 2, keys - 9, keys - 2, keys - 1}:
            if 0 < cut < keys:
                first = attended(q[:, :, :cut], k[:, :, :cut], v[:, :, :cut], window)
                last = attended(q[:, :, cut:], k, v, window)
                assert torch.equal(torch.cat([first, last], 2), whole), (keys, cut)


@WINDOW
@HEADS
def test_company_changes_no_bit(heads: int, groups: int, window: int | None) -> None:
    """Texts cut off at any length, in any order, their keys anywhere in the row, and queries of none."""
    chance = torch.Generator().manual_seed(1)
    sizes = [
        (70, 70),
        (33, 1),
        (64, 1),
        (40, 8),
        (64, 1),
        (1, 1),
        (130, 2),
        (95, 95),
        (96, 64),
        (70, 1),
    ]  # keys, queries
    keys, queries = sum(n for n, _ in sizes), sum(n for _, n in sizes)
    q, k, v = (
        torch.randn(1, n, m, 16, generator=chance) for n, m in ((heads, queries + 3), (groups, keys), (groups, keys))
    )
    places = torch.randperm(keys, generator=chance).tolist()
    texts, row = [], 0
    for n, own in sizes:
        seen, places = places[:n], places[n:]
        texts.append(PackedText(seen if n != 95 else sorted(seen), range(row, row + own)))
        row += own
    together = PackedBlocks(texts, queries + 3).attend(q, k, v, None, window).transpose(1, 2)
    assert together.shape == q.shape
    for text in texts:
        rows = slice(text.queries[0], text.queries[-1] + 1)
        alone = attended(q[:, :, rows], k[:, :, text.keys], v[:, :, text.keys], window)
        assert torch.equal(together[:, :, rows], alone)
