"""Effectiveness of a first-stage run and of reranked runs: measures over every judged query, with significance."""

from __future__ import annotations

import ast
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyserini_reasonrank.errors import UsageError, nearest
from pyserini_reasonrank.ir.qrels import Qrels, read_qrels
from pyserini_reasonrank.ir.runs import Run, read_run, trec_eval_order
from pyserini_reasonrank.ir.significance import t_test, wins
from pyserini_reasonrank.ir.tables import table

if TYPE_CHECKING:
    from ir_measures import Measure

MEASURES = ("nDCG@10", "R@100", "AP")


@dataclass(frozen=True, slots=True)
class MeasureScore:
    """The mean of a measure over all judged queries and, except for the first stage, the comparison with the first stage.

    ``change`` is the difference of the means; ``p`` is the p value of a paired two-sided t-test over the queries, None for
    fewer than two; ``won``, ``tied`` and ``lost`` count the queries on which the run is better, equal or worse.
    """

    measure: str
    value: float
    change: float | None = None
    p: float | None = None
    won: int = 0
    tied: int = 0
    lost: int = 0


@dataclass(frozen=True, slots=True)
class RunScores:
    """The scores of a run. ``answered`` counts the judged queries that it has documents for, ``unjudged`` its other queries."""

    run: str
    answered: int
    unjudged: int
    scores: tuple[MeasureScore, ...]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The first stage and the runs compared with it. ``queries`` counts the queries of the qrels."""

    qrels: str
    queries: int
    first: RunScores
    runs: tuple[RunScores, ...]

    def __str__(self) -> str:
        """A plain-text table: for each measure the first stage, then each run."""
        rows = []
        for i, baseline in enumerate(self.first.scores):
            for run in (self.first, *self.runs):
                measure = baseline.measure if run is self.first else ""
                answered = f"{run.answered} of {self.queries}"
                rows.append((measure, self._label(run), *_cells(run.scores[i]), answered))
        header = ("measure", "run", "score", "change", "p", "won", "tied", "lost", "answered")
        notes = [
            f"Means over all {self.queries:,} queries of {self.qrels}; queries without documents in a run count 0."
        ]
        if self.runs:
            notes.append(
                "p: paired two-sided t-test against the first stage, without correction for multiple comparisons."
            )
        notes += [
            f"{self._label(run)}: {run.unjudged:,} queries without judgments are not counted."
            for run in (self.first, *self.runs)
            if run.unjudged
        ]
        return "\n".join([table(header, rows, left=(0, 1)), "", *notes])

    def as_json(self) -> dict[str, Any]:
        """The evaluation as mappings and lists for ``json.dumps``. Numbers are not rounded."""
        return asdict(self)

    def _label(self, run: RunScores) -> str:
        """The file name of a run, or its path if another run has the same name."""
        names = [Path(each.run).name for each in (self.first, *self.runs)]
        name = Path(run.run).name
        return name if names.count(name) == 1 else run.run


def _cells(score: MeasureScore) -> tuple[str, ...]:
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
    *,
    keep_first: bool = False,
) -> Evaluation:
    """Score a first-stage run and any number of reranked runs.

    Means are over every query of the qrels, as with ``trec_eval -c``: a query without documents in a run counts 0, and
    queries without judgments are not counted. Documents have trec_eval's order: falling score in single precision, ties by
    falling docid; the rank column is ignored. ``keep_first`` accepts runs that repeat
    documents. UsageError for unreadable files, for a measure that ir_measures does not know
    or can't compute here, and for a run without any query of the qrels.
    """
    qrels = read_qrels(qrels_path)
    parsed = [parse_measure(measure) for measure in measures]
    first_run = read_run(first_path, keep_first=keep_first)
    baseline = per_query(qrels, qrels_path, first_run, first_path, parsed)
    evaluated = []
    for path in run_paths:
        run = read_run(path, keep_first=keep_first)
        values = per_query(qrels, qrels_path, run, path, parsed)
        scores = tuple(_compare(measure, values[measure], baseline[measure]) for measure in parsed)
        evaluated.append(_run_scores(path, run, qrels, scores))
    first = tuple(MeasureScore(measure_name(measure), _aggregate(measure, baseline[measure])) for measure in parsed)
    return Evaluation(str(qrels_path), len(qrels), _run_scores(first_path, first_run, qrels, first), tuple(evaluated))


def _run_scores(path: str | os.PathLike[str], run: Run, qrels: Qrels, scores: tuple[MeasureScore, ...]) -> RunScores:
    answered = len(run.keys() & qrels.keys())
    return RunScores(str(path), answered, len(run) - answered, scores)


def _compare(measure: Measure, values: Mapping[str, float], baseline: Mapping[str, float]) -> MeasureScore:
    differences = [values[qid] - baseline[qid] for qid in baseline]
    before, after = _aggregate(measure, baseline), _aggregate(measure, values)
    return MeasureScore(measure_name(measure), after, after - before, t_test(differences), *wins(differences))


def per_query(
    qrels: Qrels,
    qrels_path: str | os.PathLike[str],
    run: Run,
    path: str | os.PathLike[str],
    measures: Sequence[Measure],
) -> dict[Measure, dict[str, float]]:
    """The value of each measure for each query of the qrels. UsageError if ``run`` has none of these queries."""
    import ir_measures

    if not run.keys() & qrels.keys():
        raise UsageError(f"{path} has no query that {qrels_path} judges: pass the qrels of its topics")
    # scores by position, so that every library that computes a measure uses trec_eval's order
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
    """The name of the mean over queries: MAP and MRR for AP and RR."""
    name = repr(measure)
    return f"M{name}" if measure.NAME in ("AP", "RR") else name


def parse_measure(text: str) -> Measure:
    """The ir_measures measure that ``text`` names: ``nDCG@10``, ``AP(rel=2)``, ``P(rel=2)@5``.

    UsageError, with the nearest name, if ir_measures has no such measure; UsageError if no installed library computes it.
    """
    import ir_measures

    # ir_measures.parse_measure uses parts of ast that Python 3.14 removed
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
        raise UsageError(f"{text!r} is not a measure; write, for example, nDCG@10, AP or P(rel=2)@5")
    if name not in registry:
        raise UsageError(f"there is no measure {name!r}{nearest(name, registry)}")
    measure: Measure = registry[name](**parameters)
    if cutoff is not None:
        measure = measure @ cutoff
    try:
        supported = ir_measures.DefaultPipeline.supports(measure)
    except AssertionError as error:
        raise UsageError(f"the measure {text} is incomplete or invalid: {error}") from None
    if not supported:
        raise UsageError(f"no installed library computes the measure {text}; see https://ir-measur.es")
    return measure
