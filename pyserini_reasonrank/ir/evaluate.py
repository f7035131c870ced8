"""Effectiveness of runs: measures over every judged query, and comparisons with the first run or of all pairs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean
from typing import TYPE_CHECKING, Any

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.binary_cutoffs import collection_with_cutoff, with_cutoff
from pyserini_reasonrank.ir.gdeval import check_grades, computed_by_gdeval, numbered
from pyserini_reasonrank.ir.measure_names import MEASURES, measure_name, parse_measure
from pyserini_reasonrank.ir.metadata import NO_VERDICT, read_finished_run, recorded_verdict
from pyserini_reasonrank.ir.qrels import Qrels, read_qrels
from pyserini_reasonrank.ir.rank_similarity import similarity
from pyserini_reasonrank.ir.recorded_cost import recorded_cost
from pyserini_reasonrank.ir.runs import Hit, Run, single, trec_eval_order
from pyserini_reasonrank.ir.scores import (
    Analysis,
    Comparison,
    EmptyQueries,
    Evaluation,
    MeasureScore,
    Pair,
    QueryScores,
    RunScores,
    SignificanceTest,
)
from pyserini_reasonrank.ir.significance import (
    Interval,
    bootstrap_interval,
    holm,
    randomisation_test,
    t_test,
    tukey_hsd,
    wins,
)

if TYPE_CHECKING:
    from ir_measures import Measure

PerQuery = dict[str, float]
"""The value of a measure for each judged query."""


@dataclass(frozen=True, slots=True)
class _Scored:
    """The docids of a run's judged queries in trec_eval's order, the number of its other queries, and its values.

    ``tied`` are its judged queries whose documents all have one score. ``empty`` are its judged queries without documents by
    the verdict of a judge; None if it keeps all candidates.
    """

    path: str
    ordered: Mapping[str, list[str]]
    unjudged: int
    values: Mapping[Measure, PerQuery]
    tied: Sequence[str] = ()
    empty: frozenset[str] | None = None


def evaluate(
    qrels_path: str | os.PathLike[str],
    first_path: str | os.PathLike[str],
    run_paths: Sequence[str | os.PathLike[str]] = (),
    measures: Sequence[str] = MEASURES,
    *,
    keep_first: bool = False,
    analysis: Analysis | None = None,
) -> Evaluation:
    """Score a first run and any number of other runs, and compare them.

    Means are over every query of the qrels, as with ``trec_eval -c``: a query without documents in a run counts 0, and
    queries without judgments are not counted. Documents have trec_eval's order: falling score in single precision, ties by
    falling docid; the rank column is ignored. Binary measures without ``rel`` have the cut-off of the collection, if it is
    known. ``keep_first`` accepts runs that repeat documents. UsageError for unreadable files, for a measure that ir_measures
    does not know or can't compute here, and for a run without any query of the qrels.
    """
    wanted = analysis or Analysis()
    named = [parse_measure(measure) for measure in measures]
    qrels = read_qrels(qrels_path)
    collection = collection_with_cutoff(qrels)
    # pairs, since AP equals AP(rel=1), of which only the first is adapted
    adapted = [(measure, with_cutoff(measure) if collection else measure) for measure in named]
    parsed = list(dict.fromkeys(new for _, new in adapted))
    changed = dict.fromkeys(measure_name(new) for measure, new in adapted if new is not measure)
    check_grades(qrels, qrels_path, parsed)
    scored = []
    for path in (first_path, *run_paths):
        verdict = recorded_verdict(path)
        empty = frozenset(qid for qid in verdict.without_relevant if qid in qrels)
        run = read_finished_run(path, keep_first=keep_first)
        ordered = {} if empty and not run.keys() & qrels.keys() else _judged_order(qrels, qrels_path, run, path)
        scored.append(
            _Scored(
                str(path), ordered, len(run) - len(ordered), _values(qrels, ordered, parsed),
                [qid for qid in ordered if _of_one_score(run[qid])],
                empty if verdict is not NO_VERDICT else None,
            )
        )  # fmt: skip
    if wanted.all_pairs:
        chosen = list(combinations(range(len(scored)), 2))
    else:
        chosen = [(0, index) for index in range(1, len(scored))]
    compared = {measure: _compare(measure, scored, chosen, wanted) for measure in parsed}
    alike = {(i, j): similarity(scored[i].ordered, scored[j].ordered) if wanted.similarity else None for i, j in chosen}
    evaluated = []
    for index, each in enumerate(scored):
        pair = (0, index)
        of_first = not wanted.all_pairs and index > 0
        scores = tuple(
            _score(measure, each, compared[measure][pair] if of_first else None, wanted) for measure in parsed
        )
        evaluated.append(
            RunScores(
                each.path, len(each.ordered), each.unjudged, scores,
                recorded_cost(each.path), alike[pair] if of_first else None, _empty_queries(each, qrels),
            )
        )  # fmt: skip
    pairs = tuple(
        Pair(scored[i].path, scored[j].path, tuple(compared[m][i, j] for m in parsed), alike[i, j]) for i, j in chosen
    )
    return Evaluation(
        str(qrels_path),
        len(qrels),
        wanted.test,
        evaluated[0],
        tuple(evaluated[1:]),
        pairs if wanted.all_pairs else (),
        _query_scores(parsed, scored, qrels) if wanted.per_query else (),
        f"{collection}: grades below 2 count as not relevant for {', '.join(changed)}" if changed else None,
        (*_ties(scored), *_unlike_topics(scored), *_unlike_depths(scored, parsed)),
    )


def _empty_queries(scored: _Scored, qrels: Qrels) -> EmptyQueries | None:
    if scored.empty is None:
        return None
    nothing = {qid for qid, grades in qrels.items() if all(grade <= 0 for grade in grades.values())}
    return EmptyQueries(len(scored.empty), len(scored.empty & nothing), len(nothing))


def per_query(
    qrels: Qrels,
    qrels_path: str | os.PathLike[str],
    run: Run,
    path: str | os.PathLike[str],
    measures: Sequence[Measure],
) -> dict[Measure, PerQuery]:
    """The value of each measure for each query of the qrels.

    UsageError if ``run`` has none of these queries, and for a grade that a measure does not accept.
    """
    check_grades(qrels, qrels_path, measures)
    return _values(qrels, _judged_order(qrels, qrels_path, run, path), measures)


def _judged_order(
    qrels: Qrels, qrels_path: str | os.PathLike[str], run: Run, path: str | os.PathLike[str]
) -> dict[str, list[str]]:
    """The docids of each judged query in trec_eval's order. UsageError if there is no judged query."""
    if not run.keys() & qrels.keys():
        raise UsageError(f"{path} has no query that {qrels_path} judges: pass the qrels of its topics")
    return {qid: trec_eval_order(hits) for qid, hits in run.items() if qid in qrels}


def _values(qrels: Qrels, ordered: Mapping[str, Sequence[str]], measures: Sequence[Measure]) -> dict[Measure, PerQuery]:
    import ir_measures

    # scores by position, so that every library that computes a measure uses trec_eval's order
    positional = {qid: {docid: float(len(ids) - i) for i, docid in enumerate(ids)} for qid, ids in ordered.items()}
    values: dict[Measure, PerQuery] = {measure: {} for measure in measures}
    of_gdeval = [measure for measure in measures if computed_by_gdeval(measure)]
    if others := [measure for measure in measures if measure not in of_gdeval]:
        for metric in ir_measures.iter_calc(others, qrels, positional):
            values[metric.measure][metric.query_id] = metric.value
    if of_gdeval:
        qids, judged, run = numbered(qrels, positional)
        for metric in ir_measures.iter_calc(of_gdeval, judged, run):
            values[metric.measure][qids[metric.query_id]] = metric.value
    return values


def _score(measure: Measure, scored: _Scored, comparison: Comparison | None, wanted: Analysis) -> MeasureScore:
    values = scored.values[measure]
    answered = {qid: value for qid, value in values.items() if qid in scored.ordered}
    interval = _interval(measure, list(values.values())) if wanted.intervals else None
    return MeasureScore(
        measure_name(measure),
        _aggregate(measure, values),
        _aggregate(measure, answered) if answered else 0.0,
        comparison,
        interval,
    )


def _compare(
    measure: Measure, scored: Sequence[_Scored], chosen: Sequence[tuple[int, int]], wanted: Analysis
) -> dict[tuple[int, int], Comparison]:
    """The comparison of each chosen pair of runs (base, run) by one measure."""
    qids = list(scored[0].values[measure])
    columns = [[each.values[measure][qid] for qid in qids] for each in scored]
    means = [_aggregate(measure, each.values[measure]) for each in scored]
    differences = {(i, j): [b - a for a, b in zip(columns[i], columns[j], strict=True)] for i, j in chosen}
    p_values = _p_values(columns, differences, wanted.test)
    known = {pair: p for pair, p in p_values.items() if p is not None}
    adjusted = known.values() if wanted.test is SignificanceTest.TUKEY else holm(list(known.values()))
    corrected = dict(zip(known, adjusted, strict=True))
    return {
        (i, j): Comparison(
            means[j] - means[i],
            p_values[i, j],
            corrected.get((i, j)),
            *wins(differences[i, j]),
            _interval(measure, differences[i, j]) if wanted.intervals else None,
        )
        for i, j in chosen
    }


def _p_values(
    columns: Sequence[Sequence[float]], differences: Mapping[tuple[int, int], Sequence[float]], test: SignificanceTest
) -> dict[tuple[int, int], float | None]:
    if test is SignificanceTest.TUKEY:
        found = tukey_hsd(columns) or {}
        return {pair: found.get(pair) for pair in differences}
    compute = t_test if test is SignificanceTest.T else randomisation_test
    return {pair: compute(values) for pair, values in differences.items()}


def _interval(measure: Measure, values: Sequence[float]) -> Interval | None:
    """The bootstrap interval of the mean; None for measures that are sums over queries, such as NumRel."""
    if not values or abs(_aggregate(measure, dict(enumerate(values))) - fmean(values)) > 1e-6:
        return None
    return bootstrap_interval(values)


def _aggregate(measure: Measure, values: Mapping[Any, float]) -> float:
    aggregator = measure.aggregator()
    for value in values.values():
        aggregator.add(value)
    return float(aggregator.result())


def _query_scores(measures: Sequence[Measure], scored: Sequence[_Scored], qrels: Qrels) -> tuple[QueryScores, ...]:
    return tuple(
        QueryScores(repr(measure), qid, tuple(each.values[measure][qid] for each in scored))
        for measure in measures
        for qid in qrels
    )


def _of_one_score(hits: Sequence[Hit]) -> bool:
    return len(hits) > 1 and len({single(hit.score) for hit in hits}) == 1


def _ties(scored: Sequence[_Scored]) -> list[str]:
    """Warnings about runs that give all documents of a query one score, and so no order."""
    return [
        f"{each.path} gives all documents of {len(each.tied):,} judged {'query' if len(each.tied) == 1 else 'queries'} the same "
        f"score (for example {each.tied[0]}), so they are ordered by docid, as in trec_eval: write scores that fall with the rank"
        for each in scored
        if each.tied
    ]


def _unlike_topics(scored: Sequence[_Scored]) -> list[str]:
    """Warnings about judged queries that only one of a run and the first run answers."""
    first, *others = scored
    found = []
    for other in others:
        for one, two in ((first, other), (other, first)):
            if missing := [qid for qid in one.ordered if qid not in two.ordered and qid not in (two.empty or ())]:
                queries = "query" if len(missing) == 1 else "queries"
                found.append(
                    f"{two.path} has no documents for {len(missing):,} judged {queries} that {one.path} answers "
                    f"(for example {missing[0]}), which count 0: compare runs of the same topics"
                )
    return found


def _unlike_depths(scored: Sequence[_Scored], measures: Sequence[Measure]) -> list[str]:
    """A warning if runs have different depths and a measure looks below the shallowest one."""
    if any(each.empty is not None for each in scored):  # a run is shallow because it keeps relevant documents only
        return []
    depths = [max(map(len, each.ordered.values())) for each in scored]
    low, high = min(depths), max(depths)
    deep = [measure_name(each) for each in measures if int(each.params.get("cutoff") or high) > low]
    if low == high or not deep:
        return []
    shallow, deepest = scored[depths.index(low)].path, scored[depths.index(high)].path
    return [
        f"{shallow} has at most {low:,} {'document' if low == 1 else 'documents'} per query and {deepest} has {high:,}: "
        f"{', '.join(deep)} {'favours' if len(deep) == 1 else 'favour'} the deeper run"
    ]
