"""Candidates are graded in groups; the groups are independent (GroupRank, arXiv 2511.11653)."""

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
    window_size: Annotated[int, Field(ge=1, description="maximum number of candidates in a group")] = 20,
) -> list[int]:
    """Order ``n`` candidates by falling grade; ties keep first-stage order. ceil(n / window_size) independent questions.

    Candidate i goes to group i modulo the number of groups: each group has candidates of high and of low rank, so that
    grades are comparable between groups. A candidate without a grade keeps its rank; the others are sorted around it.
    """
    count = -(-n // window_size)
    members = [list(range(group, n, count)) for group in range(count)]
    questions = (judge(group, f"group {number}") for number, group in enumerate(members, 1))
    grades: list[float | None] = [None] * n
    for group, found in zip(members, await asyncio.gather(*questions), strict=True):
        for candidate, grade in zip(group, found, strict=True):
            grades[candidate] = grade
    return by_score(grades, prior)
