"""Reasonings read by a critic: the rankings of a bucket side by side, then one of each bucket (AoR, arXiv 2405.12939)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import batched
from statistics import fmean

from pyserini_reasonrank.combine.arms import Arm
from pyserini_reasonrank.combine.samples import Sample

BATCH = 5
"""Chains of one bucket that the critic reads at once, at most."""


@dataclass(slots=True)
class Chain:
    """A ranking and how the ranker came to it. ``grade``: None while it has none that could be read."""

    sample: Sample
    grade: float | None = None

    @property
    def text(self) -> str:
        """What the critic reads. Its identifiers are those that the ranker saw, where that asked a single question."""
        order = " > ".join(f"[{position + 1}]" for position in self.sample.ranked.order)
        return f"Order: {order}. Reasoning: {self.sample.ranked.reasoning or 'none was written down.'}"


@dataclass(slots=True)
class Bucket:
    """Chains that come to the same. ``voters``: those that count, best grade first; ``score``: None without such."""

    chains: list[Chain]
    voters: list[Chain] = field(default_factory=list)
    score: float | None = None


class Critic:
    """Grades chains from 0 to 10. ``unreadable`` counts the grades that could not be read."""

    def __init__(self, arm: Arm, *, enough: float, rounds: int) -> None:
        self._arm, self._enough, self._rounds = arm, enough, rounds
        self.unreadable = 0

    async def grade(self, bucket: Bucket, first: int) -> None:
        """Grade the samples of ``bucket`` from number ``first`` on, beside its best and its worst of before."""
        fresh = [chain for chain in bucket.chains if chain.sample.number >= first]
        known = sorted((chain.grade, -chain.sample.number) for chain in bucket.chains if chain.grade is not None)
        ...

    async def compare(self, buckets: Sequence[Bucket]) -> list[Bucket]:
        """Score the buckets that have voters, and put them in order: the best, of equals the largest, first."""
        ...
