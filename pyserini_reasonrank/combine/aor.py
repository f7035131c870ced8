"""Aggregation of reasoning: only the rankings whose reasoning a critic finds best vote (AoR, arXiv 2405.12939).

Rankings with the same candidates at the top form a bucket. The critic grades the rankings in each bucket, then compares the
buckets. As long as no bucket is clearly the best, more rankings are sampled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from pyserini_reasonrank.combine.arms import Arm
from pyserini_reasonrank.combine.critic import Bucket, Chain, Critic
from pyserini_reasonrank.combine.repeats import Sample, Shuffle, decided, draw, outcome
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.voting import borda, distance
from pyserini_reasonrank.records import Ranked, Request


async def aor(
    request: Request,
    arms: Mapping[str, Arm],
    *,
    samples: Annotated[int, Field(ge=2, description="rankings in the first round")] = 4,
    step: Annotated[int, Field(ge=1, description="additional rankings per round, as long as no bucket is clearly the best")] = 2,
    limit: Annotated[int, Field(ge=2, description="maximum number of rankings")] = 8,
    bucket: Annotated[
        Literal["top", "distance"],
        Field(description="rankings share a bucket if they have the same set of top candidates (top), or a small Kendall distance"),
    ] = "top",
    top: Annotated[int, Field(ge=1, description="number of top candidates in that set")] = 3,
    threshold: Annotated[float, Field(ge=0, le=1, description="maximum distance to the first ranking of a bucket")] = 0.15,
    enough: Annotated[float, Field(ge=0, le=10, description="minimum grade of a ranking that votes")] = 6,
    rounds: Annotated[int, Field(ge=1, description="comparisons of the buckets, each with one ranking per bucket")] = 3,
    margin: Annotated[float, Field(ge=0, description="lead of the best bucket, in points, at which sampling stops")] = 2,
    shuffle: Shuffle = 20,
    seed: Annotated[int, Field(description="seed of the shuffled orders")] = 929,
) -> Ranked:  # fmt: skip
    """The Borda order of the rankings by the arm ``ranker`` in the bucket that the arm ``critic`` grades best.

    The lead is the difference between the scores of the best and the second-best bucket (the score, if there is only one);
    the confidence is a tenth of the lead. The notes record both, the buckets, and the number of unreadable grades. A
    ranking whose grade is unreadable counts as below ``enough``; an unreadable comparison is ignored.
    """
    n = len(request.candidates)
    if n < 2:
        return Ranked(tuple(range(n)), confidence=(1.0,) * n)

    def share_bucket(a: Sequence[int], b: Sequence[int]) -> bool:
        return set(a[:top]) == set(b[:top]) if bucket == "top" else distance(a, b) <= threshold

    critic, drawn = Critic(arms["critic"], enough=enough, rounds=rounds), list[Sample]()
    buckets, best, lead, settled = list[Bucket](), list[Bucket](), 0.0, False
    while not settled and len(drawn) < limit:
        since = len(drawn)
        more = range(since, min(since + (step if drawn else samples), limit))
        drawn += await draw(arms["ranker"], request, more, shuffle=shuffle, seed=seed)
        for sample in decided(drawn[since:]):
            home = next((b for b in buckets if share_bucket(sample.order, b.chains[0].sample.order)), None)
            if home is None:
                buckets.append(home := Bucket([]))
            home.chains.append(Chain(sample))
        await asyncio.gather(*(critic.grade(b, since) for b in buckets))
        best = await critic.compare(buckets)
        first, second, *_ = *(b.score or 0.0 for b in best), 0.0, 0.0
        lead = round(first - second, 4)
        settled = len(best) == 1 or (len(best) > 1 and lead >= margin)
    voters = best[0].voters if best else []
    return outcome(
        drawn,
        borda([chain.sample.order for chain in voters], range(n)),
        voters[0].sample.ranked.reasoning if voters else "",
        buckets=[_described(b) for b in buckets],
        settled=settled,
        lead=lead,
        confidence=round(lead / 10, 4),
        unreadable=critic.unreadable,
    )


def check(arms: Collection[str], where: str, *, samples: int, limit: int, **_: Any) -> list[str]:
    """UsageError if the first round has more than ``limit`` rankings."""
    if limit < samples:
        raise UsageError(f"{where}.combine.limit {limit} is less than {where}.combine.samples {samples}")
    return []


def _described(bucket: Bucket) -> dict[str, Any]:
    return {
        "samples": [chain.sample.number for chain in bucket.chains],
        "grades": [chain.grade for chain in bucket.chains],
        "score": None if bucket.score is None else round(bucket.score, 4),
    }
