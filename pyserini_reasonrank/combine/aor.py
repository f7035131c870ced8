"""Aggregation of reasoning: rankings are grouped by what they come to, and a critic reads how they came to it.

AoR (arXiv 2405.12939) for rankings. Chains (a thought and an order) with the same top form a bucket. The critic grades
the chains of each bucket, then compares buckets, one chain of each at a time; while none is clearly the best, more are
sampled. The chains of the best bucket vote.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import batched
from statistics import fmean
from typing import Annotated, Any, Literal

from pydantic import Field

from pyserini_reasonrank.combine.arms import Arm
from pyserini_reasonrank.combine.samples import Sample, Shuffle, decided, draw, outcome
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.records import Ranked, Request
from pyserini_reasonrank.voting import borda, distance

TOP_GRADE = 10
BATCH = 5
"""Chains that the critic reads at once, at most."""


@dataclass(slots=True)
class Chain:
    """A ranking, and the critic's grade of it: None while it has none that could be read."""

    sample: Sample
    grade: float | None = None

    @property
    def text(self) -> str:
        """What the critic reads, by the identifiers that the ranker saw."""
        order = " > ".join(f"[{position + 1}]" for position in self.sample.ranked.order)
        return f"Order: {order}. Reasoning: {self.sample.ranked.reasoning or 'none was written down.'}"


@dataclass(slots=True)
class Bucket:
    """Chains that come to the same. ``score`` is that of the last comparison, None for one that was not in it."""

    chains: list[Chain] = field(default_factory=list)
    score: float | None = None


async def aor(
    request: Request,
    arms: Mapping[str, Arm],
    *,
    samples: Annotated[int, Field(ge=1, description="rankings to begin with")] = 4,
    step: Annotated[int, Field(ge=1, description="more of them, each time no bucket is clearly the best")] = 2,
    limit: Annotated[int, Field(ge=1, description="of them in all, at most")] = 8,
    bucket: Annotated[
        Literal["top", "distance"],
        Field(description="what a bucket has in common: the set at the top, or a small Kendall distance to its first"),
    ] = "top",
    top: Annotated[int, Field(ge=1, description="candidates in that set")] = 3,
    threshold: Annotated[float, Field(ge=0, le=1, description="that distance, at most")] = 0.15,
    enough: Annotated[float, Field(ge=0, le=TOP_GRADE, description="grade from which a ranking counts")] = 6,
    rounds: Annotated[int, Field(ge=1, description="comparisons of the buckets, each with another ranking of each")] = 3,
    margin: Annotated[float, Field(ge=0, description="lead over the second bucket that settles it")] = 2,
    shuffle: Shuffle = 20,
    seed: Annotated[int, Field(description="of these orders")] = 929,
) -> Ranked:  # fmt: skip
    """The Borda order of the best bucket of rankings by the arm ``ranker``, as the arm ``critic`` grades them.

    Rankings below ``enough`` count for nothing, nor do those whose grade can't be read; where all are, all count. A
    bucket whose grades in a comparison can't be read scores 0. The notes hold buckets, grades and scores, the lead
    (of a bucket alone: its score) with the confidence it gives, and how many grades could not be read.
    """
    n = len(request.candidates)
    if n < 2:
        return Ranked(tuple(range(n)), confidence=(1.0,) * n)
    critic, drawn, buckets = Critic(arms["critic"]), list[Sample](), list[Bucket]()
    while True:
        more = min(step if drawn else samples, limit - len(drawn))
        new = await draw(arms["ranker"], request, range(len(drawn), len(drawn) + more), shuffle=shuffle, seed=seed)
        drawn += new
        fresh = [Chain(sample) for sample in decided(new)]
        for chain in fresh:
            same = (b for b in buckets if _alike(chain.sample.order, b, top if bucket == "top" else 0, threshold))
            ...
