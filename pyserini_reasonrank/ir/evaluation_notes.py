"""The parts that the formats for people share: notes, and the cells of queries, intervals and similarities."""

from __future__ import annotations

from pyserini_reasonrank.ir.scores import EmptyQueries, Evaluation, SignificanceTest
from pyserini_reasonrank.ir.significance import Interval

TESTS = {
    SignificanceTest.T: "paired two-sided t-test",
    SignificanceTest.RANDOMISATION: "paired two-sided randomisation test",
    SignificanceTest.TUKEY: "randomised Tukey HSD",
}


def some_unanswered(report: Evaluation) -> bool:
    """Whether a run lacks documents for a judged query, so that the two means differ."""
    return any(run.answered < report.queries for run in report.every)


def notes(report: Evaluation) -> list[str]:
    """Sentences below text tables: what the means are over, the test, and the warnings."""
    return [
        f"score: mean {queries_of_means(report)}",
        "on answered: mean over the queries of the qrels that the run has documents for."
        if some_unanswered(report)
        else ALL_ANSWERED,
        *([f"p: {test_of(report)}."] if report.runs else []),
        *remarks(report),
    ]


def queries_of_means(report: Evaluation) -> str:
    """The end of a sentence: which queries the means are over."""
    return f"over all {report.queries:,} queries of {report.qrels}; queries without documents in a run count 0."


ALL_ANSWERED = "Every run answers all of these queries, so the mean over answered queries is the same."


def remarks(report: Evaluation) -> list[str]:
    """Sentences about the cut-off, queries without judgments, and runs that are not comparable."""
    found = [f"{report.cutoff}, as in the track; AP(rel=1) sets another cut-off."] if report.cutoff else []
    found += [
        f"{report.label(run.run)}: {_unjudged(run.unjudged)} not counted." for run in report.every if run.unjudged
    ]
    found += [f"{report.label(run.run)}: {_empty(run.empty)}" for run in report.every if run.empty is not None]
    return found + [f"Warning: {warning}." for warning in report.warnings]


def _empty(empty: EmptyQueries) -> str:
    """How often a run says that nothing is relevant, and how often it is right."""
    queries = f"nothing is relevant for {empty.found:,} {'query' if empty.found == 1 else 'queries'} by its judge"
    if not empty.without_relevant:
        return f"{queries}; all queries of the qrels have relevant documents."
    return (
        f"{queries}, rightly for {empty.right:,} of the {empty.without_relevant:,} without a relevant document in the qrels and "
        f"wrongly for {empty.found - empty.right:,}."
    )


def _unjudged(number: int) -> str:
    return "1 query without judgments is" if number == 1 else f"{number:,} queries without judgments are"


def test_of(report: Evaluation) -> str:
    """The test, what is compared, and the correction."""
    compared = "of all pairs of runs" if report.pairs else "against the first run"
    if report.test is SignificanceTest.TUKEY:
        return f"{TESTS[report.test]} {compared}, corrected for all pairs of {len(report.every)} runs"
    number = len(report.pairs) or len(report.runs)
    correction = f", with Holm's correction for {number} comparisons by each measure" if number > 1 else ""
    return f"{TESTS[report.test]} {compared}{correction}"


def queries(report: Evaluation) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The header and rows of the table of queries."""
    header = ("measure", "qid", *(report.label(run.run) for run in report.every))
    return header, [(each.measure, each.qid, *(f"{value:.4f}" for value in each.values)) for each in report.per_query]


def signed(number: float) -> str:
    """A difference with its sign and four decimals."""
    written = f"{number:+.4f}"
    return written if float(written) else "0.0000"


def limits(interval: Interval | None, *, with_sign: bool = False) -> str:
    """The two limits of an interval; empty without one."""
    if interval is None:
        return ""
    low, high = (signed(limit) if with_sign else f"{limit:.4f}" for limit in interval)
    return f"{low} to {high}"


def similarities(report: Evaluation) -> list[tuple[str, ...]]:
    """Rows of run, base, RBO, tau and the number of shared queries."""
    compared = [(pair.run, pair.base, pair.similarity) for pair in report.pairs]
    compared += [(run.run, report.first.run, run.similarity) for run in report.runs]
    return [
        (report.label(run), report.label(base), _optional(found.rbo), _optional(found.tau), f"{found.queries:,}")
        for run, base, found in compared
        if found is not None
    ]


def _optional(number: float | None) -> str:
    return "n/a" if number is None else f"{number:.4f}"
