"""Every candidate is scored once, the best of them many times (test-time scaling of Retro*, arXiv 2509.24869)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from pyserini_reasonrank.strategies.pointwise import by_score
from pyserini_reasonrank.strategies.protocols import Sample


async def staged(
    n: int,
    judge: Sample,
    prior: Sequence[int] | None = None,
    *,
    k: Annotated[int, Field(ge=1, description="top ranks of the first stage that the second stage orders")] = 30,
    samples: Annotated[
        int, Field(ge=1, le=128, description="answers of the second stage for each of them, whose scores are averaged")
    ] = 16,
) -> list[int]:
    """Order ``n`` candidates by one answer each, then the top ``k`` by the mean of ``samples`` new answers each.

    The answer of the first stage is not part of the mean, since it selected the candidate. Ties of the second stage keep
    the order of the first; candidates below the top ``k`` keep their order. n + k * samples questions in a chain of two.

    The scores of the result are the means of the top ``k`` and the single scores of the others. Both estimate the expected
    score of a candidate on the scale of the judge, a single score with ``samples`` times the variance, so a fusion with the
    first stage and a threshold may compare them. In a fusion by score, a candidate below the top ``k`` can therefore pass
    one of them whose mean fell, which the order itself never does.
    """
    order = by_score(await asyncio.gather(*(judge([i], "stage 1") for i in range(n))), prior)
    top, rest = order[:k], order[k:]
    means = await asyncio.gather(*(judge([i], "stage 2", samples=samples, again=1) for i in top))
    return [*(top[place] for place in by_score(means)), *rest]
