"""Ranking losses: the scores of the passages of a prompt against their target ranks.

Each takes ``scores`` and ``ranks``, both of shape (prompts, passages). Rank 1 is best and 0 marks padding. Each returns
the mean over the compared pairs or lists, or zero if there are none.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

Loss = Callable[[Tensor, Tensor], Tensor]


def ranknet(scores: Tensor, ranks: Tensor) -> Tensor:
    """RankNet over all pairs, as in permutation distillation (RankGPT, arXiv 2304.09542, section 4)."""
    return _pairwise(scores, ranks, torch.ones_like(_pairs(ranks), dtype=scores.dtype))


def weighted_ranknet(scores: Tensor, ranks: Tensor) -> Tensor:
    """RankNet with the weight 1 / (rank i + rank j) for the pair (i, j) (FIRST, arXiv 2406.15657, equation 3)."""
    total = ranks.unsqueeze(2) + ranks.unsqueeze(1)
    return _pairwise(scores, ranks, 1.0 / total.clamp(min=1).to(scores.dtype))


def listnet(scores: Tensor, ranks: Tensor) -> Tensor:
    """Cross-entropy between the softmax of the gains 1 / rank and the softmax of the scores."""
    real = ranks > 0
    target = gains(ranks).masked_fill(~real, -torch.inf).softmax(-1)
    predicted = scores.masked_fill(~real, -torch.inf).log_softmax(-1)
    per_prompt = -(target * predicted.masked_fill(~real, 0.0)).sum(-1)
    listed = real.any(-1)
    return per_prompt[listed].sum() / listed.sum().clamp(min=1)


def lambdarank(scores: Tensor, ranks: Tensor) -> Tensor:
    """RankNet with the nDCG change of swapping a pair as its weight; gains are 1 / rank, the ideal DCG is the list's."""
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
    """Whether i should rank before j: shape (prompts, passages, passages)."""
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
"""The losses by name, with their weight relative to the language-model loss in FIRST's published code."""
