"""A critic of rankings: it grades the rankings of a bucket together, then one of each bucket (AoR, arXiv 2405.12939)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import batched
from statistics import fmean

from pyserini_reasonrank.combine.arms import Arm
from pyserini_reasonrank.combine.repeats import Sample

BATCH = 5
"""The maximum number of rankings of a bucket in one question to the critic."""


@dataclass(slots=True, eq=False)
class Chain:
    """A ranking with its reasoning. ``grade`` is None as long as it has no readable grade."""

    sample: Sample
    grade: float | None = None

    @property
    def text(self) -> str:
        """The text that the critic reads. The order is first, so that truncation only affects the end of the reasoning.

        Identifiers are positions in the list that the ranker saw. The reasoning has the same ones if the ranker asked one
        question.
        """
        order = " > ".join(f"[{position + 1}]" for position in self.sample.ranked.order)
        return f"Order: {order}. Reasoning: {self.sample.ranked.reasoning or 'none was written down.'}"


@dataclass(slots=True, eq=False)
class Bucket:
    """Chains with similar rankings. ``voters`` are those that vote, best grade first; without any, ``score`` is None."""

    chains: list[Chain]
    voters: list[Chain] = field(default_factory=list)
    score: float | None = None


class Critic:
    """Grades chains from 0 to 10. ``unreadable`` counts the unreadable grades."""

    def __init__(self, arm: Arm, *, enough: float, rounds: int) -> None:
        self._arm, self._enough, self._rounds = arm, enough, rounds
        self.unreadable = 0
        self._compared: dict[tuple[Chain, ...], list[float | None]] = {}

    async def grade(self, bucket: Bucket, since: int) -> None:
        """Grade the samples of ``bucket`` from number ``since`` on, together with its best and worst earlier sample."""
        known = _best_first([chain for chain in bucket.chains if chain.grade is not None])
        beside = known if len(known) < 2 else [known[0], known[-1]]
        fresh = [chain for chain in bucket.chains if chain.sample.number >= since]
        batches = list(batched(fresh, BATCH - len(beside)))
        found = await asyncio.gather(*(self._ask(batch, beside) for batch in batches))
        for batch, grades in zip(batches, found, strict=True):
            for chain, grade in zip(batch, grades, strict=True):
                chain.grade = grade

    async def compare(self, buckets: Sequence[Bucket]) -> list[Bucket]:
        """Score the buckets that have voters, and return these, best first; of equal ones the largest, then the first.

        Voters are the chains with a grade of at least ``enough``, or all chains if there are none. In each round the critic
        grades one voter per bucket, with the buckets in another order; a score is a mean of grades. The score of a single
        bucket is the mean grade of its voters.
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
    """The mean of the readable grades; 0 if there are none."""
    return fmean([grade for grade in grades if grade is not None] or [0.0])
