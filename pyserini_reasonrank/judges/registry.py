"""The judges by kind, as a reranker's YAML names them: ours, and those of the group ``pyserini_reasonrank.judges``."""

from __future__ import annotations

from typing import Any, cast

from pyserini_reasonrank.judges import Judge
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
from pyserini_reasonrank.plugins import Registry, check_attribute, check_options, check_subclass

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
    check_options(found, "Options", Judge.Options)
    return cast(type[Judge], found)


JUDGE_PARTS = Registry("judge", "judges", lambda: JUDGES, JUDGES.__getitem__, _checked)
"""Our judges and those of other packages."""
