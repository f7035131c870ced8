"""The judges by kind, as a reranker's YAML names them."""

from __future__ import annotations

from pyserini_reasonrank.judges import Judge
from pyserini_reasonrank.judges.best import Best
from pyserini_reasonrank.judges.bisection import Bisection
from pyserini_reasonrank.judges.first_token import BestToken, FirstToken
from pyserini_reasonrank.judges.grades import Grades
from pyserini_reasonrank.judges.likelihood import Likelihood
from pyserini_reasonrank.judges.permutation import Permutation
from pyserini_reasonrank.judges.score import RelevanceScore
from pyserini_reasonrank.judges.select import Select
from pyserini_reasonrank.judges.worst import Worst

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
        Grades,
        Likelihood,
    )
}
"""The judge classes by kind."""
