"""Several rankings of the same candidates by one arm, sampled anew and shown in different orders."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from pyserini_reasonrank.combine.arms import Arm, depth_of
from pyserini_reasonrank.ir.voting import agreement, support
from pyserini_reasonrank.records import Ranked, Request, Status

Shuffle = Annotated[
    int,
    Field(ge=0, description="size of the blocks of candidates that are shuffled in all samples but the first; 0: no shuffling"),
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sample:
    """One ranking. ``order`` has indices of the request's candidates; ``ranked`` has positions in the list shown."""

    number: int
    order: tuple[int, ...]
    ranked: Ranked


async def draw(arm: Arm, request: Request, numbers: Iterable[int], *, shuffle: int, seed: int) -> list[Sample]:
    """The samples ``numbers``, requested at once. The order shown depends on the query, the number and ``seed``.

    Only the candidates that the arm ranks are shuffled.
    """
    n = len(request.candidates)
    depth = depth_of(arm, n)

    async def one(number: int) -> Sample:
        shown = [*_shuffled(depth, request.query.qid, number, shuffle, seed), *range(depth, n)]
        ranked = await arm(shown, sample=number, prior=range(n))
        return Sample(number, tuple(shown[position] for position in ranked.order), ranked)

    return await asyncio.gather(*map(one, numbers))


def _shuffled(n: int, qid: str, number: int, shuffle: int, seed: int) -> Sequence[int]:
    if number == 0 or shuffle < 2:
        return range(n)
    shuffler = random.Random(f"{seed} {qid} {number}")
    blocks = [range(first, min(first + shuffle, n)) for first in range(0, n, shuffle)]
    return [candidate for block in blocks for candidate in shuffler.sample(block, len(block))]


def decided(samples: Iterable[Sample]) -> list[Sample]:
    """The samples that vote. A sample without a readable answer has the order that it was shown, and does not vote."""
    return [sample for sample in samples if not sample.ranked.undecided]


def outcome(samples: Sequence[Sample], order: Sequence[int], reasoning: str, **notes: Any) -> Ranked:
    """The result ``order`` of ``samples``, with their statuses, agreement, and the confidence in each rank."""
    votes = [sample.order for sample in decided(samples)]
    statuses: Counter[Status] = Counter()
    for sample in samples:
        statuses.update(sample.ranked.statuses)
    agreed = agreement(votes)
    counted = {
        "samples": len(samples),
        "decided": len(votes),
        "agreement": None if agreed is None else round(agreed, 4),
    }
    return Ranked(
        tuple(order),
        statuses,
        confidence=support(votes, order, samples=len(samples)),
        reasoning=reasoning,
        notes=counted | notes,
    )
