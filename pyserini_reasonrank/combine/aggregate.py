"""Self-consistency: several rankings by one reranker, sampled or of shuffled candidates, are combined by voting."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Literal

from pydantic import Field

from pyserini_reasonrank.combine.arms import Arm
from pyserini_reasonrank.combine.repeats import Shuffle, decided, draw, outcome
from pyserini_reasonrank.ir.kemeny import kemeny
from pyserini_reasonrank.ir.voting import borda, distance, medoid, rrf
from pyserini_reasonrank.records import Ranked, Request

Vote = Callable[[Sequence[Sequence[int]], Sequence[int]], list[int]]


async def aggregate(
    request: Request,
    arms: Mapping[str, Arm],
    *,
    samples: Annotated[int, Field(ge=2, description="rankings to aggregate")] = 4,
    method: Annotated[
        Literal["borda", "kemeny", "rrf", "medoid"],
        Field(description="borda: sum of ranks; kemeny: the order with the fewest discordant pairs; rrf: sum of reciprocal "
              "ranks; medoid: the ranking nearest to the others"),
    ] = "borda",
    k: Annotated[int, Field(ge=1, description="k of 1 / (k + rank), for rrf")] = 60,
    shuffle: Shuffle = 20,
    seed: Annotated[int, Field(description="seed of the shuffled orders")] = 929,
) -> Ranked:  # fmt: skip
    """The order by vote of ``samples`` rankings by the arm ``ranker``; ties keep first-stage order.

    Rankings without a readable answer do not vote; without any votes, the result is the first-stage order. The notes record
    the agreement of the rankings, and Kendall's distance of each ranking to the result.
    """
    drawn = await draw(arms["ranker"], request, range(samples), shuffle=shuffle, seed=seed)
    votes = decided(drawn)
    methods: dict[str, Vote] = {"borda": borda, "kemeny": kemeny, "rrf": partial(rrf, k=k), "medoid": medoid}
    order = methods[method]([vote.order for vote in votes], range(len(request.candidates)))
    distances = {vote.number: distance(vote.order, order) for vote in votes}
    nearest = min(votes, key=lambda vote: distances[vote.number], default=None)
    return outcome(
        drawn,
        order,
        nearest.ranked.reasoning if nearest else "",
        method=method,
        distances=[round(distances[number], 4) if number in distances else None for number in range(samples)],
    )
