"""The LLM's order and the first stage's scores, fused: min-max, z-score (both as ERank and Rank-R1 report them) or RRF."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, pstdev
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from pyserini_reasonrank.orders.voting import rrf
from pyserini_reasonrank.records import Ranked


class Fusion(BaseModel):
    """How to fuse, ``--rerank.fuse.NAME``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Annotated[
        Literal["none", "min-max", "z-score", "rrf"],
        Field(description="with the first stage's scores, normalised over the list; rrf: with its ranks"),
    ] = "none"
    weight: Annotated[float, Field(ge=0, le=1, description="of the LLM; the first stage has the rest")] = 0.8
    k: Annotated[int, Field(ge=1, description="of 1 / (k + rank), for rrf")] = 60

    def order(self, ranked: Ranked, first_stage: Sequence[float]) -> tuple[int, ...]:
        """Positions by fused score, best first; ties in the LLM's order.

        ``first_stage`` holds the first stage's score of every position. The LLM's own scores count where it scored
        candidates one by one, else its ranks do.
        """
        if self.method == "none":
            return ranked.order
        if self.method == "rrf":
            first_order = sorted(range(len(first_stage)), key=lambda i: -first_stage[i])
            weights = (self.weight, 1 - self.weight)
            return tuple(rrf([ranked.order, first_order], ranked.order, k=self.k, weights=weights))
        normalised = _min_max if self.method == "min-max" else _z_score
        llm, first = normalised(_scores(ranked)), normalised(first_stage)
        fused = [self.weight * a + (1 - self.weight) * b for a, b in zip(llm, first, strict=True)]
        return tuple(sorted(ranked.order, key=lambda position: -fused[position]))


def _scores(ranked: Ranked) -> list[float]:
    """The LLM's score of every position. One it did not score counts as the one ranked above it, or at the top below it."""
    if not ranked.scores:
        return [-float(rank) for _, rank in sorted(zip(ranked.order, range(len(ranked.order)), strict=True))]
    score = next(ranked.scores[position] for position in ranked.order if position in ranked.scores)
    found = dict[int, float]()
    for position in ranked.order:
        score = found[position] = ranked.scores.get(position, score)
    return [found[i] for i in range(len(found))]


def _min_max(scores: Sequence[float]) -> list[float]:
    low, spread = min(scores), max(scores) - min(scores)
    return [(score - low) / spread if spread else 0.0 for score in scores]


def _z_score(scores: Sequence[float]) -> list[float]:
    mean, deviation = fmean(scores), pstdev(scores)
    return [(score - mean) / deviation if deviation else 0.0 for score in scores]
