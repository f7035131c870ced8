"""Attention on a CPU: right, and the same bits however a request is cut and whatever follows it."""

import pytest

torch = pytest.importorskip("torch")

from pyserini_reasonrank.engines._packed import causal  # noqa: E402


@pytest.mark.parametrize("window", [None, 50])
@pytest.mark.parametrize(("heads", "groups"), [(9, 3), (8, 8), (16, 1)])
def test_a_query_s_bits_depend_on_what_it_sees_alone(heads, groups, window):
    chance = torch.Generator().manual_seed(0)
    for keys in (2, 7, 31, 32, 33, 64, 100, 191, 300, 513):
        q, k, v = (torch.randn(1, n, keys, 16, generator=chance) for n in (heads, groups, groups))
        seen = torch.ones(keys, keys, dtype=torch.bool).tril().triu(1 - (window or keys))
        whole = causal(q, k, v, None, window)
        plain = torch.nn.functional.scaled_dot_product_attention(q, k, v, seen, enable_gqa=True)
        assert torch.allclose(whole, plain, atol=1e-5)
        for cut in {1, 2, 5, 31, 32, 33, keys // 2, keys - 9, keys - 2, keys - 1}:
            if 0 < cut < keys:
                first = causal(q[:, :, :cut], k[:, :, :cut], v[:, :, :cut], None, window)
                last = causal(q[:, :, cut:], k, v, None, window)
                assert torch.equal(torch.cat([first, last], 2), whole), (keys, cut)
