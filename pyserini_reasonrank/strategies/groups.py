"""Candidates graded in groups, all groups side by side (GroupRank, arXiv 2511.11653)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from pyserini_reasonrank.strategies.pointwise import by_score
from pyserini_reasonrank.strategies.protocols import Grade


async def groups(
    n: int,
    judge: Grade,
    prior: Sequence[int] | None = None,
    *,
    window_size: Annotated[int, Field(ge=1, description="candidates in a group, at most")] = 20,
) -> list[int]:
    """Order ``n`` candidates by falling grade, ties in first-stage order. ceil(n / window_size) questions in a chain of 1.

    Candidates are dealt to the groups in turn, so that each group has good ones and bad ones and a grade means the same
    in all of them. A candidate without a grade keeps its rank, and the others are sorted around it.
    """
    count = -(-n // window_size)
    members = [list(range(group, n, count)) for group in range(count)]
    asked = (judge(group, f"group {number}") for number, group in enumerate(members, 1))
    grades: list[float | None] = [None] * n
    for group, found in zip(members, await asyncio.gather(*asked), strict=True):
        for candidate, grade in zip(group, found, strict=True):
            grades[candidate] = grade
    return by_score(grades, prior)
