"""What gdeval accepts, the program that computes ERR for ir_measures: numbers as qids, no white space, grades up to 4."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.measure_names import measure_name
from pyserini_reasonrank.ir.qrels import Qrels

if TYPE_CHECKING:
    from ir_measures import Measure

TOP_GRADE = 4

Scores = dict[str, dict[str, float]]
"""The score of each docid, by qid."""


def computed_by_gdeval(measure: Measure) -> bool:
    """Whether ir_measures leaves ``measure`` to gdeval: ERR, and nDCG with exponential gains."""
    import ir_measures

    providers = ir_measures.DefaultPipeline.providers
    return next((each.NAME for each in providers if each.is_available() and each.supports(measure)), "") == "gdeval"


def check_grades(qrels: Qrels, qrels_path: str | os.PathLike[str], measures: Iterable[Measure]) -> None:
    """UsageError if ``qrels`` have a grade that is too high for one of ``measures``."""
    if (highest := max(grade for grades in qrels.values() for grade in grades.values())) <= TOP_GRADE:
        return
    for measure in measures:
        if computed_by_gdeval(measure):
            raise UsageError(
                f"the measure {measure_name(measure)} is computed by gdeval, whose highest grade is {TOP_GRADE}, and {qrels_path} "
                f"has grade {highest}: use another measure, such as nDCG@10"
            )


def numbered(qrels: Qrels, run: Mapping[str, Mapping[str, float]]) -> tuple[dict[str, str], Qrels, Scores]:
    """The qids by number, and ``qrels`` and the scores of ``run`` with numbers for qids and docids.

    gdeval takes the qid t-1 for 1, and rejects other qids that are not numbers, and names with white space.
    """
    qids, judged, scores = dict[str, str](), Qrels(), Scores()
    for number, (qid, grades) in enumerate(qrels.items(), 1):
        hits = run.get(qid, {})
        names = {docid: str(at) for at, docid in enumerate({**grades, **hits})}
        qids[str(number)] = qid
        judged[str(number)] = {names[docid]: grade for docid, grade in grades.items()}
        if hits:
            scores[str(number)] = {names[docid]: score for docid, score in hits.items()}
    return qids, judged, scores
