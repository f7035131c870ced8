"""The results of an evaluation: means, comparisons, costs and similarities of runs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from pyserini_reasonrank.ir.rank_similarity import Similarity
from pyserini_reasonrank.ir.recorded_cost import RunCost
from pyserini_reasonrank.ir.significance import Interval


class SignificanceTest(StrEnum):
    """The test that gives ``p``. The first two have Holm's correction, Tukey's HSD corrects for all pairs of runs."""

    T = "t"
    RANDOMISATION = "randomisation"
    TUKEY = "tukey"


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """What an evaluation has besides means and comparisons with the first run.

    ``all_pairs`` compares every run with every other one; ``intervals`` adds bootstrap intervals, ``similarity`` RBO and
    Kendall's tau between the compared runs, and ``per_query`` the values of each query.
    """

    test: SignificanceTest = SignificanceTest.T
    all_pairs: bool = False
    intervals: bool = False
    similarity: bool = False
    per_query: bool = False


@dataclass(frozen=True, slots=True)
class Comparison:
    """A run compared with another one (its base), by one measure.

    ``change`` is the difference of the means over all judged queries, run minus base, and ``interval`` its 95% bootstrap
    interval. ``p`` is None for fewer than two queries. ``corrected`` is p with the correction for the number of comparisons
    by this measure. ``won``, ``tied`` and ``lost`` count the queries on which the run is better, equal or worse.
    """

    change: float
    p: float | None
    corrected: float | None
    won: int
    tied: int
    lost: int
    interval: Interval | None = None


@dataclass(frozen=True, slots=True)
class MeasureScore:
    """The means of a measure, and its comparison with the first run (None for that run, and with ``all_pairs``).

    ``value`` is the mean over all judged queries, where a query without documents in the run counts 0;
    ``answered_value`` is the mean over the judged queries that the run has documents for. ``interval`` is the 95%
    bootstrap interval of ``value``; None unless it was asked for, for sums, and for fewer than two queries.
    """

    measure: str
    value: float
    answered_value: float
    comparison: Comparison | None = None
    interval: Interval | None = None


@dataclass(frozen=True, slots=True)
class EmptyQueries:
    """The judged queries for which a run has no documents because its judge found none relevant: ``found``.

    Of these, ``right`` have no relevant document in the qrels, of which ``without_relevant`` queries have none.
    """

    found: int
    right: int
    without_relevant: int


@dataclass(frozen=True, slots=True)
class RunScores:
    """The scores of a run, by measure.

    ``answered`` counts the judged queries that it has documents for, ``unjudged`` its other queries. ``cost`` is None
    without metadata. ``similarity`` compares its rankings with those of the first run. ``empty`` is None for a run that keeps
    all candidates.
    """

    run: str
    answered: int
    unjudged: int
    scores: tuple[MeasureScore, ...]
    cost: RunCost | None = None
    similarity: Similarity | None = None
    empty: EmptyQueries | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """Two runs and their comparisons, by measure. Positive changes are in favour of ``run``."""

    base: str
    run: str
    comparisons: tuple[Comparison, ...]
    similarity: Similarity | None = None


@dataclass(frozen=True, slots=True)
class QueryScores:
    """The values of a measure for one query, in the order of the runs, the first run first."""

    measure: str
    qid: str
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The first run and the runs after it. ``queries`` counts the queries of the qrels.

    ``cutoff`` says which measures use a cut-off that the collection prescribes; None if none does. ``warnings`` are
    sentences about runs that are not comparable.
    """

    qrels: str
    queries: int
    test: SignificanceTest
    first: RunScores
    runs: tuple[RunScores, ...]
    pairs: tuple[Pair, ...] = ()
    per_query: tuple[QueryScores, ...] = ()
    cutoff: str | None = None
    warnings: tuple[str, ...] = ()

    @property
    def every(self) -> tuple[RunScores, ...]:
        """All runs, the first run first."""
        return (self.first, *self.runs)

    def label(self, path: str) -> str:
        """The file name of a run, or its path if another run has the same name."""
        names = [Path(each.run).name for each in self.every]
        name = Path(path).name
        return name if names.count(name) == 1 else path

    def as_json(self) -> dict[str, Any]:
        """The evaluation as mappings and lists for ``json.dumps``. Numbers are not rounded."""
        return asdict(self)
