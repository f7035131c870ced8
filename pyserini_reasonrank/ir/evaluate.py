"""First stage against reranked: measures over every judged query, and whether the difference is more than chance."""

from __future__ import annotations

import ast
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyserini_reasonrank.errors import UsageError, nearest
from pyserini_reasonrank.ir.runs import Run, read_lines, read_run, trec_eval_order
from pyserini_reasonrank.tables import table

if TYPE_CHECKING:
    from ir_measures import Measure

MEASURES = ("nDCG@10", "R@100", "AP")

Qrels = dict[str, dict[str, int]]
"""For each qid, the relevance of each judged docid."""

TIED = 1e-9
"""Scores of a query closer than this are the same: what lies below is rounding in the measure."""


@dataclass(frozen=True, slots=True)
class Score:
    """A measure of a run over all judged queries and, unless the run is the first stage, how it compares with that.

    ``change`` is the difference of the means; ``p`` that of a paired two-sided t-test over the queries, None with
    fewer than two; ``won``, ``tied`` and ``lost`` count the queries on which the run is better, the same or worse.
    """

    measure: str
    value: float
    change: float | None = None
    p: float | None = None
    won: int = 0
    tied: int = 0
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A run's scores. ``answered`` counts the judged queries it has documents for, ``unjudged`` its other queries."""

    run: str
    answered: int
    unjudged: int
    scores: tuple[Score, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """An evaluation: the first stage, then each run against it, over the ``queries`` of the qrels."""

    qrels: str
    queries: int
    first: Evaluated
    runs: tuple[Evaluated, ...]

    def __str__(self) -> str:
        """The report as a plain-text table: for each measure the first stage, then each run."""
        rows = []
        for i, baseline in enumerate(self.first.scores):
            for run in (self.first, *self.runs):
                measure = baseline.measure if run is self.first else ""
                answered = f"{run.answered} of {self.queries}"
                rows.append((measure, self._label(run), *_cells(run.scores[i]), answered))
        header = ("measure", "run", "score", "change", "p", "won", "tied", "lost", "answered")
        notes = [f"Means over all {self.queries:,} queries of {self.qrels}; a query a run does not answer counts 0."]
        if self.runs:
            notes.append("p: paired two-sided t-test against the first stage, not corrected for several comparisons.")
        notes += [
            f"Queries of {self._label(run)} without judgments, not counted: {run.unjudged:,}."
            for run in (self.first, *self.runs)
            if run.unjudged
        ]
        return "\n".join([table(header, rows, left=(0, 1)), "", *notes])

    def as_json(self) -> dict[str, Any]:
        """The whole report as plain mappings and lists, ready for ``json.dumps``, numbers unrounded."""
        return asdict(self)

    def _label(self, run: Evaluated) -> str:
        """A run's file name, or its whole path where another run has the same name."""
        names = [Path(each.run).name for each in (self.first, *self.runs)]
        name = Path(run.run).name
        return name if names.count(name) == 1 else run.run


def _cells(score: Score) -> tuple[str, ...]:
    if score.change is None:
        return (f"{score.value:.4f}", "", "", "", "", "")
    p = "n/a" if score.p is None else "<0.0001" if score.p < 0.0001 else f"{score.p:.4f}"
    change = f"{score.change:+.4f}"
    if not float(change):
        change = "0.0000"
    return (f"{score.value:.4f}", change, p, str(score.won), str(score.tied), str(score.lost))


def evaluate(
    qrels_path: str | os.PathLike[str],
    first_path: str | os.PathLike[str],
    run_paths: Sequence[str | os.PathLike[str]] = (),
    measures: Sequence[str] = MEASURES,
) -> Report:
    """Score a first-stage run and any number of reranked runs of it.

    The mean is over every query of the qrels, as with ``trec_eval -c``: a query a run has nothing for counts 0, and
    queries without judgments are left out. Documents are ordered as trec_eval does, by falling score in single
    precision and ties by falling docid; the rank column is ignored. UsageError for unreadable files, for a measure
    ir_measures does not know or can't compute here, and for a run that answers no query of the qrels.
    """
    qrels = read_qrels(qrels_path)
    parsed = [parse_measure(measure) for measure in measures]
    first_run = read_run(first_path)
    baseline = per_query(qrels, qrels_path, first_run, first_path, parsed)
    evaluated = []
    for path in run_paths:
        run = read_run(path)
        values = per_query(qrels, qrels_path, run, path, parsed)
        scores = tuple(_compare(measure, values[measure], baseline[measure]) for measure in parsed)
        evaluated.append(_evaluated(path, run, qrels, scores))
    first = tuple(Score(measure_name(measure), _aggregate(measure, baseline[measure])) for measure in parsed)
    return Report(str(qrels_path), len(qrels), _evaluated(first_path, first_run, qrels, first), tuple(evaluated))


def _evaluated(path: str | os.PathLike[str], run: Run, qrels: Qrels, scores: tuple[Score, ...]) -> Evaluated:
    answered = len(run.keys() & qrels.keys())
    return Evaluated(str(path), answered, len(run) - answered, scores)


def _compare(measure: Measure, values: Mapping[str, float], baseline: Mapping[str, float]) -> Score:
    differences = [values[qid] - baseline[qid] for qid in baseline]
    before, after = _aggregate(measure, baseline), _aggregate(measure, values)
    won = sum(difference > TIED for difference in differences)
    lost = sum(difference < -TIED for difference in differences)
    return Score(
        measure_name(measure), after, after - before, t_test(differences), won, len(differences) - won - lost, lost
    )


def t_test(differences: Sequence[float]) -> float | None:
    """p of a paired two-sided t-test from the differences by query: 1 if there are none, None for a single query."""
    if len(differences) < 2:
        return None
    if all(abs(difference) <= TIED for difference in differences):
        return 1.0
    from scipy.stats import ttest_1samp

    if all(abs(difference - differences[0]) <= TIED for difference in differences):
        return 0.0  # the same non-zero difference everywhere: no variance, t is infinite
    return float(ttest_1samp(differences, 0.0).pvalue)


def per_query(
    qrels: Qrels,
    qrels_path: str | os.PathLike[str],
    run: Run,
    path: str | os.PathLike[str],
    measures: Sequence[Measure],
) -> dict[Measure, dict[str, float]]:
    """Each measure's value for each query of the qrels."""
    import ir_measures

    if not run.keys() & qrels.keys():
        raise UsageError(f"{path} has no query that {qrels_path} judges; are these the qrels of its topics?")
    # scores by position, so that every measure, whoever computes it, sees the one order trec_eval would
    ordered = {qid: trec_eval_order(hits) for qid, hits in run.items() if qid in qrels}
    positional = {qid: {docid: float(len(ids) - i) for i, docid in enumerate(ids)} for qid, ids in ordered.items()}
    values: dict[Measure, dict[str, float]] = {measure: {} for measure in measures}
    for metric in ir_measures.iter_calc(measures, qrels, positional):
        values[metric.measure][metric.query_id] = metric.value
    return values


def _aggregate(measure: Measure, values: Mapping[str, float]) -> float:
    aggregator = measure.aggregator()
    for value in values.values():
        aggregator.add(value)
    return float(aggregator.result())


def measure_name(measure: Measure) -> str:
    """The measure's name as papers print the mean over queries: MAP and MRR for AP and RR."""
    name = repr(measure)
    return f"M{name}" if measure.NAME in ("AP", "RR") else name


def parse_measure(text: str) -> Measure:
    """An ir_measures measure from how it is written: ``nDCG@10``, ``AP(rel=2)``, ``P(rel=2)@5``.

    UsageError if there is no such measure, naming the nearest, or if nothing installed can compute it.
    """
    import ir_measures

    # ir_measures.parse_measure leans on parts of ast that Python 3.14 no longer has
    registry = ir_measures.measures.registry
    try:
        node = ast.parse(text.strip(), mode="eval").body
        parameters = {}
        cutoff = None
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
            cutoff, node = ast.literal_eval(node.right), node.left
        if isinstance(node, ast.Call) and not node.args:
            parameters = {str(word.arg): ast.literal_eval(word.value) for word in node.keywords}
            node = node.func
        name = node.id if isinstance(node, ast.Name) else None
    except (SyntaxError, ValueError):
        name = None
    if name is None:
        raise UsageError(f"{text!r} is not a measure; write it as nDCG@10, AP or P(rel=2)@5.")
    if name not in registry:
        raise UsageError(f"There is no measure {name!r}{nearest(name, registry)}")
    measure: Measure = registry[name](**parameters)
    if cutoff is not None:
        measure = measure @ cutoff
    try:
        supported = ir_measures.DefaultPipeline.supports(measure)
    except AssertionError as error:
        raise UsageError(f"The measure {text} is not complete or not right: {error}.") from None
    if not supported:
        raise UsageError(f"The measure {text} can't be computed with what is installed; see https://ir-measur.es.")
    return measure


def read_qrels(path: str | os.PathLike[str]) -> Qrels:
    """Read TREC qrels, parted by blanks or tabs, plain or gzipped: qid, iteration, docid, relevance.

    UsageError, with file and line, for a missing or empty file, another number of columns, a relevance that is not a
    whole number, and a document judged twice with different outcomes.
    """
    qrels: Qrels = {}
    for where, line in read_lines(Path(path)):
        columns = [column.decode(errors="replace") for column in line.split()]
        if len(columns) != 4:
            raise UsageError(f"{where}: {len(columns)} columns where qrels have 4: qid, iteration, docid, relevance.")
        qid, _, docid, relevance = columns
        try:
            grade = int(relevance)
        except ValueError:
            raise UsageError(f"{where}: the relevance {relevance!r} is not a whole number.") from None
        if qrels.setdefault(qid, {}).setdefault(docid, grade) != grade:
            raise UsageError(f"{where}: document {docid} is judged twice for query {qid}, with different relevance.")
    return qrels
