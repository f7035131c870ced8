"""The judges by kind, as a reranker's YAML names them: ours, and those of the group ``pyserini_reasonrank.judges``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from math import isfinite
from numbers import Real
from typing import Any, cast

from pyserini_reasonrank.errors import Failure, UsageError, first_of
from pyserini_reasonrank.judges import Ask, Judge
from pyserini_reasonrank.judges.best import Best
from pyserini_reasonrank.judges.bisection import Bisection
from pyserini_reasonrank.judges.first_token import BestToken, FirstToken
from pyserini_reasonrank.judges.grades import Grades
from pyserini_reasonrank.judges.likelihood import Likelihood
from pyserini_reasonrank.judges.permutation import Permutation
from pyserini_reasonrank.judges.rating import Rating
from pyserini_reasonrank.judges.score import RelevanceScore
from pyserini_reasonrank.judges.select import Select
from pyserini_reasonrank.judges.worst import Worst
from pyserini_reasonrank.plugins import (
    PACKAGE,
    Registry,
    check_attribute,
    check_options,
    check_subclass,
    dotted,
    failure_of,
)
from pyserini_reasonrank.records import Judgement, Prompt

JUDGES: dict[str, type[Judge]] = {
    judge.kind: judge
    for judge in (
        Permutation,
        FirstToken,
        Select,
        Best,
        BestToken,
        Worst,
        RelevanceScore,
        Bisection,
        Rating,
        Grades,
        Likelihood,
    )
}
"""Our judge classes by kind."""


def _checked(kind: str, found: Any) -> type[Judge]:
    """The judge class of another package. Unsuitable unless it can be used as ours are."""
    check_subclass(found, Judge, "class Mine(Judge)")
    check_attribute(found, "kind", kind)
    check_options(found, "Options", Judge.Options, "kind")
    return cast(type[Judge], found)


JUDGE_PARTS = Registry("judge", "judges", lambda: JUDGES, JUDGES.__getitem__, _checked)
"""Our judges and those of other packages."""


async def judgement_of(judge: Judge, ask: Ask, prompt: Prompt, shown: Sequence[str]) -> Judgement:
    """``judge.judge(ask, prompt, shown)``. If the judge is another package's: Failure, in one sentence, if it raises, or
    returns anything but a judgement of the passages shown. Numbers of other libraries become Python's."""
    if type(judge).__module__.startswith(f"{PACKAGE}."):
        return await judge.judge(ask, prompt, shown)
    who = f"the judge {judge.kind} ({dotted(type(judge))})"
    try:
        return _valid(await judge.judge(ask, prompt, shown), len(shown), who)
    except Exception as raised:
        error = first_of(raised)
        if sys.flags.dev_mode or isinstance(error, UsageError | Failure):
            raise
        fault = f"{who} failed: {type(error).__name__}: {error}"
        raise Failure(failure_of(error, JUDGE_PARTS.origin(judge.kind)) or fault) from error


def _valid(found: Any, n: int, who: str) -> Judgement:
    """``found`` as a judgement of ``n`` passages. Failure if it can't be one."""
    if not isinstance(found, Judgement):
        raise Failure(f"{who} returned {found!r:.60}: expected a Judgement")
    order = tuple(map(int, found.order))
    if not found.status.bad and sorted(order) != list(range(n)):
        raise Failure(f"{who} returned the order {order!r:.60} of {n} passages: expected each position from 0 once")
    for score in (found.score, *found.scores):
        if score is not None and not (isinstance(score, Real) and isfinite(score)):
            raise Failure(f"{who} returned the score {score!r:.60}: expected a finite number, or None if there is none")
    return replace(found, order=order, score=_float(found.score), scores=tuple(map(_float, found.scores)))


def _float(score: float | None) -> float | None:
    return None if score is None else float(score)
