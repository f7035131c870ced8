"""An evaluation as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.rank_similarity import Similarity
from pyserini_reasonrank.ir.scores import Comparison, Evaluation
from pyserini_reasonrank.ir.significance import Interval


def as_csv(report: Evaluation) -> str:
    """One table, not rounded: of the queries if the evaluation has them, of the pairs if it has them, else of the runs.

    UsageError if it has queries and something else: pairs, intervals or similarities.
    """
    if report.per_query:
        others = {
            "--all-pairs": bool(report.pairs),
            "--intervals": any(score.interval for run in report.every for score in run.scores),
            "--similarity": any(run.similarity for run in report.runs),
        }
        if other := next((flag for flag, given in others.items() if given), None):
            raise UsageError(
                f"CSV has one table, of the queries with --per-query: leave out {other}, or use --format json"
            )
    rows = list(_csv_queries(report) if report.per_query else _csv_pairs(report) if report.pairs else _csv_runs(report))
    written = io.StringIO()
    writer = csv.DictWriter(written, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return written.getvalue().rstrip("\n")


def _csv_runs(report: Evaluation) -> Iterator[dict[str, Any]]:
    for i in range(len(report.first.scores)):
        for run in report.every:
            score, cost = run.scores[i], run.cost
            yield {
                "measure": score.measure,
                "run": run.run,
                "score": score.value,
                "score_on_answered": score.answered_value,
                "queries": report.queries,
                "answered": run.answered,
                **_csv_interval("score", score.interval),
                **_csv_comparison(score.comparison),
                **_csv_similarity(run.similarity),
                "calls": cost and cost.calls,
                "calls_from_journal": cost and cost.from_journal,
                "prompt_tokens": cost and cost.prompt_tokens,
                "output_tokens": cost and cost.output_tokens,
                "seconds": cost and cost.seconds,
                "gpu": cost and cost.gpu,
            }


def _csv_pairs(report: Evaluation) -> Iterator[dict[str, Any]]:
    for i, score in enumerate(report.first.scores):
        for pair in report.pairs:
            names = {"measure": score.measure, "base": pair.base, "run": pair.run}
            yield names | _csv_comparison(pair.comparisons[i]) | _csv_similarity(pair.similarity)


def _csv_queries(report: Evaluation) -> Iterator[dict[str, Any]]:
    """A row per measure, query and run."""
    for each in report.per_query:
        for run, value in zip(report.every, each.values, strict=True):
            yield {"measure": each.measure, "qid": each.qid, "run": run.run, "score": value}


def _csv_comparison(comparison: Comparison | None) -> dict[str, Any]:
    names = ("change", "p", "p_corrected", "won", "tied", "lost")
    if comparison is None:
        return dict.fromkeys(names) | _csv_interval("change", None)
    values = (comparison.change, comparison.p, comparison.corrected, comparison.won, comparison.tied, comparison.lost)
    return dict(zip(names, values, strict=True)) | _csv_interval("change", comparison.interval)


def _csv_interval(of: str, interval: Interval | None) -> dict[str, Any]:
    low, high = interval or (None, None)
    return {f"{of}_low": low, f"{of}_high": high}


def _csv_similarity(found: Similarity | None) -> dict[str, Any]:
    return {"rbo": found and found.rbo, "tau": found and found.tau}
