"""Losses that rank: scores of the passages of one prompt against the order they should be in.

Each takes ``scores`` and ``ranks``, both (prompts, passages); a rank is from 1, best, and 0 marks padding. Each returns
the mean over what it compares, or zero where there is nothing to compare.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

Loss = Callable[[Tensor, Tensor], Tensor]


def ranknet(scores: Tensor, ranks: Tensor) -> Tensor:
    """RankNet over every pair, as in permutation distillation (RankGPT, arXiv 2304.09542, section 4)."""
    return _pairwise(scores, ranks, torch.ones_like(_pairs(ranks), dtype=scores.dtype))


def weighted_ranknet(scores: Tensor, ranks: Tensor) -> Tensor:
    """RankNet whose pair (i, j) weighs 1 / (rank i + rank j) (FIRST, arXiv 2406.15657, equation 3)."""
    total = ranks.unsqueeze(2) + ranks.unsqueeze(1)
    return _pairwise(scores, ranks, 1.0 / total.clamp(min=1).to(scores.dtype))


def listnet(scores: Tensor, ranks: Tensor) -> Tensor:
    """Cross-entropy of the scores' softmax to that of the gains 1 / rank."""
    real = ranks > 0
    target = gains(ranks).masked_fill(~real, -torch.inf).softmax(-1)
    predicted = scores.masked_fill(~real, -torch.inf).log_softmax(-1)
    per_prompt = -(target * predicted.masked_fill(~real, 0.0)).sum(-1)
    listed = real.any(-1)
    return per_prompt[listed].sum() / listed.sum().clamp(min=1)


def lambdarank(scores: Tensor, ranks: Tensor) -> Tensor:
    """RankNet whose pair weighs the nDCG that its exchange would cost, gains 1 / rank, ideal DCG over the list."""
    real = ranks > 0
    gain = gains(ranks)
    shown = scores.masked_fill(~real, -torch.inf).argsort(-1, descending=True).argsort(-1)
    discount = (shown + 2).log2().reciprocal()
    ideal = (gain * (ranks.clamp(min=1) + 1).log2().reciprocal()).sum(-1).clamp(min=1e-9)
    weight = (gain.unsqueeze(2) - gain.unsqueeze(1)).abs() * (discount.unsqueeze(2) - discount.unsqueeze(1)).abs()
    return _pairwise(scores, ranks, weight / ideal[:, None, None])


def gains(ranks: Tensor) -> Tensor:
    """1 / rank; 0 for padding."""
    return torch.where(ranks > 0, 1.0 / ranks.clamp(min=1), 0.0)


def _pairs(ranks: Tensor) -> Tensor:
    """Whether i should stand before j, (prompts, passages, passages)."""
    real = ranks > 0
    return real.unsqueeze(2) & real.unsqueeze(1) & (ranks.unsqueeze(2) < ranks.unsqueeze(1))


def _pairwise(scores: Tensor, ranks: Tensor, weight: Tensor) -> Tensor:
    pairs = _pairs(ranks)
    margin = (scores.unsqueeze(2) - scores.unsqueeze(1))[pairs]
    return (weight[pairs] * F.softplus(-margin)).sum() / pairs.sum().clamp(min=1)


LOSSES: dict[str, tuple[Loss, float]] = {
    "weighted-ranknet": (weighted_ranknet, 10.0),
    "ranknet": (ranknet, 1.0),
    "listnet": (listnet, 0.1),
    "lambdarank": (lambdarank, 1.0),
}
"""By name, with the weight FIRST's published code gives each beside the language-model loss."""
