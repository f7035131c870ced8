"""The objective of a distillation: target distributions, the listwise loss, and nDCG within a block."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from pyserini_reasonrank.train.rewards.measures import ndcg


def targets(gains: Sequence[Sequence[float]], cosines: Any, *, labels: float, temperature: float) -> Any:
    """The target distribution over the passages of each query, of shape (queries, passages).

    It mixes the labels (2^gain - 1, normalised) with the weight ``labels`` and the softmax of the teacher's ``cosines``
    (queries, passages). Queries without a gain use the teacher's softmax alone.
    """
    import torch

    gained = torch.tensor([[2.0**gain - 1 for gain in row] for row in gains])
    total = gained.sum(-1, keepdim=True)
    weight = labels * (total > 0)
    return weight * gained / total.clamp(min=1e-9) + (1 - weight) * (cosines / temperature).softmax(-1)


def listwise_loss(scores: Any, wanted: Any, lengths: Any) -> Any:
    """Kullback-Leibler divergence of the softmax over a query's passages from ``wanted``, averaged over the queries.

    ``scores`` (queries, passages) are sums over the tokens of a query. They are divided by the square root of its length
    (``lengths``, one for each query), because long queries would otherwise start with a nearly certain order.
    """
    from torch.nn import functional as F

    found = (scores / lengths.sqrt()[:, None]).log_softmax(-1)
    return F.kl_div(found, wanted, reduction="batchmean")


def block_ndcg(gains: Sequence[Sequence[float]], scores: Sequence[Sequence[float]]) -> float:
    """nDCG@10 within a block, averaged over the queries that have a positive; NaN if none has."""
    found = []
    for row, given in zip(gains, scores, strict=True):
        if max(row) > 0:
            found.append(ndcg(sorted(range(len(row)), key=lambda i: -given[i]), row))
    return fmean(found) if found else math.nan
