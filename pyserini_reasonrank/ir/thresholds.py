"""The score from which a document counts as relevant, chosen on judged queries: the best mean F1 of the documents kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import floor, fsum, inf

from pyserini_reasonrank.ir.qrels import Qrels

_DIGITS = 17

Scored = Mapping[str, float | None]
"""The score of each docid of a query; None for a document without a readable score, which is always kept."""


@dataclass(frozen=True, slots=True)
class KeptAt:
    """What a threshold keeps of ``queries`` judged queries: the mean F1, and how many of the queries are empty.

    F1 is that of the documents kept as a set, over all relevant documents in the qrels. For a query without any relevant
    document it is 1 if nothing is kept, else 0. ``right`` counts these queries among the empty ones, ``without_relevant`` all.
    """

    threshold: float
    f1: float
    queries: int
    empty: int
    right: int
    without_relevant: int


def kept_at(threshold: float, scores: Mapping[str, Scored], qrels: Qrels, least: int = 1) -> KeptAt:
    """What ``threshold`` keeps of the queries that are scored and judged. Grades from ``least`` on are relevant."""
    judged = [(_relevant(qrels[qid], least), found) for qid, found in scores.items() if qid in qrels]
    f1, empty, right = list[float](), 0, 0
    for relevant, found in judged:
        kept = {docid for docid, score in found.items() if score is None or score >= threshold}
        f1.append(_f1(len(kept & relevant), len(kept), len(relevant)))
        empty += not kept
        right += not kept and not relevant
    without = sum(not relevant for relevant, _ in judged)
    return KeptAt(threshold, fsum(f1) / max(len(f1), 1), len(judged), empty, right, without)


def best_threshold(scores: Mapping[str, Scored], qrels: Qrels, least: int = 1) -> float | None:
    """The threshold with the best mean F1, with few digits; of equally good ones the highest. None without a score.

    Every score of a judged query is tried, in one pass over them from the highest to the lowest.
    """
    relevant = {qid: _relevant(qrels[qid], least) for qid in scores if qid in qrels}
    kept = {qid: [docid for docid, score in scores[qid].items() if score is None] for qid in relevant}
    hits = {qid: len(relevant[qid].intersection(docids)) for qid, docids in kept.items()}
    sizes = {qid: len(docids) for qid, docids in kept.items()}
    f1 = {qid: _f1(hits[qid], sizes[qid], len(found)) for qid, found in relevant.items()}
    total, best = fsum(f1.values()), (-inf, inf, inf)
    levels = list(_levels(scores, relevant))
    for place, (score, found) in enumerate(levels):
        for qid, docid in found:
            hits[qid] += docid in relevant[qid]
            sizes[qid] += 1
            total -= f1[qid]
            f1[qid] = _f1(hits[qid], sizes[qid], len(relevant[qid]))
            total += f1[qid]
        if total > best[0] + 1e-9:
            best = (total, score, levels[place + 1][0] if place + 1 < len(levels) else -inf)
    return None if best[1] == inf else _shortest(best[1], best[2])


def _levels(
    scores: Mapping[str, Scored], qids: Mapping[str, object]
) -> Iterator[tuple[float, Sequence[tuple[str, str]]]]:
    """The distinct scores, highest first, with the queries and documents that have them."""
    found = sorted(
        ((score, qid, docid) for qid in qids for docid, score in scores[qid].items() if score is not None),
        key=lambda each: -each[0],
    )
    for score, group in groupby(found, key=lambda each: each[0]):
        yield score, [(qid, docid) for _, qid, docid in group]


def _relevant(grades: Mapping[str, int], least: int) -> set[str]:
    return {docid for docid, grade in grades.items() if grade >= least}


def _f1(hits: int, kept: int, relevant: int) -> float:
    return 2 * hits / (kept + relevant) if kept + relevant else 1.0


def _shortest(score: float, below: float) -> float:
    """The number with the fewest decimals that is at most ``score`` and above ``below``."""
    for digits in range(_DIGITS):
        shorter = floor(score * 10.0**digits) / 10.0**digits
        if below < shorter <= score:
            return shorter
    return score
