"""A critic of rankings: it reads those of a bucket side by side, then one of each bucket (AoR, arXiv 2405.12939)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import batched
from statistics import fmean

from pyserini_reasonrank.combine.arms import Arm
from pyserini_reasonrank.combine.repeats import Sample

BATCH = 5
"""Chains of a bucket that the critic reads at once, at most."""


@dataclass(slots=True, eq=False)
class Chain:
    """A ranking and the thought that led to it. ``grade``: None while it has none that could be read."""

    sample: Sample
    grade: float | None = None

    @property
    def text(self) -> str:
        """What the critic reads. The order comes first: should the text be cut, then at the end of the reasoning.

        Identifiers are places in what the ranker was shown, which are those of its reasoning if it asked one question.
        """
        order = " > ".join(f"[{position + 1}]" for position in self.sample.ranked.order)
        return f"Order: {order}. Reasoning: {self.sample.ranked.reasoning or 'none was written down.'}"


@dataclass(slots=True, eq=False)
class Bucket:
    """Chains that come to the same. ``voters``: those that count, best grade first; ``score``: None without any."""

    chains: list[Chain]
    voters: list[Chain] = field(default_factory=list)
    score: float | None = None


class Critic:
    """Grades chains from 0 to 10. ``unreadable`` counts the grades that could not be read."""

    def __init__(self, arm: Arm, *, enough: float, rounds: int) -> None:
        self._arm, self._enough, self._rounds = arm, enough, rounds
        self.unreadable = 0
        self._compared: dict[tuple[Chain, ...], list[float | None]] = {}

    async def grade(self, bucket: Bucket, since: int) -> None:
        """Grade the samples of ``bucket`` from number ``since`` on, beside its best and its worst of before."""
        known = _best_first([chain for chain in bucket.chains if chain.grade is not None])
        beside = known if len(known) < 2 else [known[0], known[-1]]
        fresh = [chain for chain in bucket.chains if chain.sample.number >= since]
        batches = list(batched(fresh, BATCH - len(beside)))
        found = await asyncio.gather(*(self._ask(batch, beside) for batch in batches))
        for batch, grades in zip(batches, found, strict=True):
            for chain, grade in zip(batch, grades, strict=True):
                chain.grade = grade

    async def compare(self, buckets: Sequence[Bucket]) -> list[Bucket]:
        """Score the buckets that have voters; these, the best first, of equals the largest, then the first.

        Chains graded ``enough`` are voters; where none is, all are. In each round the critic reads one voter of every
        bucket, the buckets in another order; scores are mean grades. A bucket alone has the mean of its voters' grades.
        """
        good = [[c for c in bucket.chains if c.grade is not None and c.grade >= self._enough] for bucket in buckets]
        for bucket, chains in zip(buckets, good, strict=True):
            bucket.voters, bucket.score = _best_first(chains if any(good) else bucket.chains), None
        inside = [bucket for bucket in buckets if bucket.voters]
        if len(inside) == 1:
            inside[0].score = _mean([chain.grade for chain in inside[0].voters])
            return inside
        size, turns = len(inside), range(self._rounds if inside else 0)
        read = dict.fromkeys(tuple(_voter(inside[(turn + i) % size], turn) for i in range(size)) for turn in turns)
        new = [chains for chains in read if chains not in self._compared]
        self._compared |= zip(new, await asyncio.gather(*map(self._ask, new)), strict=True)
        found = [pair for chains in read for pair in zip(chains, self._compared[chains], strict=True)]
        for bucket in inside:
            bucket.score = _mean([grade for chain, grade in found if chain in bucket.voters])
        return sorted(inside, key=lambda bucket: (-(bucket.score or 0.0), -len(bucket.chains)))

    async def _ask(self, chains: Sequence[Chain], beside: Sequence[Chain] = ()) -> list[float | None]:
        texts = [f"Earlier grade: {chain.grade:g}. {chain.text}" for chain in beside] + [c.text for c in chains]
        grades = (await self._arm.grade(texts))[len(beside) :]
        self.unreadable += grades.count(None)
        return grades


def _voter(bucket: Bucket, turn: int) -> Chain:
    return bucket.voters[turn % len(bucket.voters)]


def _best_first(chains: Sequence[Chain]) -> list[Chain]:
    return sorted(chains, key=lambda chain: -1.0 if chain.grade is None else chain.grade, reverse=True)


def _mean(grades: Sequence[float | None]) -> float:
    """Of those that could be read; 0 where none could."""
    return fmean([grade for grade in grades if grade is not None] or [0.0])
