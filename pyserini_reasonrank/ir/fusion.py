"""Fusion of the LLM's order with the first stage's scores: min-max and z-score (ERank, Rank-R1), or RRF."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, pstdev
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from pyserini_reasonrank.ir.voting import rrf_scores
from pyserini_reasonrank.records import Ranked


class Fusion(BaseModel):
    """The settings ``--rerank.fuse.NAME``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Annotated[
        Literal["none", "min-max", "z-score", "rrf"],
        Field(
            description="min-max, z-score: normalise LLM and first-stage scores and add them; rrf: add reciprocal ranks"
        ),
    ] = "none"
    weight: Annotated[
        float, Field(ge=0, le=1, description="weight of the LLM; the weight of the first stage is 1 minus this")
    ] = 0.8
    k: Annotated[int, Field(ge=1, description="k of 1 / (k + rank), for rrf")] = 60

    USED_BY: ClassVar[Mapping[str, tuple[str, ...]]] = {"weight": ("min-max", "z-score", "rrf"), "k": ("rrf",)}
    """The methods that use each of the other settings."""

    def order(self, ranked: Ranked, first_stage: Sequence[float]) -> tuple[int, ...]:
        """Positions by fused score, best first; ties keep the LLM's order. ``first_stage`` as for ``scores``."""
        scores = self.scores(ranked, first_stage)
        return tuple(sorted(ranked.order, key=lambda position: -scores[position])) if scores else ranked.order

    def scores(self, ranked: Ranked, first_stage: Sequence[float]) -> dict[int, float]:
        """The fused score of each position; {} for the method none.

        ``first_stage`` has the first-stage score of each position. If the LLM scored candidates one by one, its scores are
        fused, otherwise its ranks.
        """
        if self.method == "none":
            return {}
        if self.method == "rrf":
            first_order = sorted(range(len(first_stage)), key=lambda i: -first_stage[i])
            weights = (self.weight, 1 - self.weight)
            return rrf_scores([ranked.order, first_order], ranked.order, k=self.k, weights=weights)
        normalised = _min_max if self.method == "min-max" else _z_score
        llm, first = normalised(_scores(ranked)), normalised(first_stage)
        return {i: self.weight * a + (1 - self.weight) * b for i, (a, b) in enumerate(zip(llm, first, strict=True))}


def _scores(ranked: Ranked) -> list[float]:
    """The LLM's score of each position. A missing score is that of the rank above; at the top, the first score below."""
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
