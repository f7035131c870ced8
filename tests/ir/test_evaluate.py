"""Evaluation: trec_eval's order and means, the table, and JSON."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from scipy.stats import ttest_rel

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.evaluate import evaluate
from pyserini_reasonrank.ir.evaluation_formats import as_text
from pyserini_reasonrank.ir.scores import Analysis, SignificanceTest


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.fixture
def qrels(tmp_path: Path) -> Path:
    return write(tmp_path / "qrels", "1\t0\ta\t2\n1 0 b 0\n2 0 c 1\n3 0 d 1\n4 0 e 0\n")


@pytest.fixture
def first(tmp_path: Path) -> Path:
    return write(tmp_path / "first.txt", "1 Q0 b 1 9 x\n1 Q0 a 2 8 x\n2 Q0 z 1 3 x\n2 Q0 c 2 1 x\n9 Q0 c 1 1 x\n")


@pytest.fixture
def reranked(tmp_path: Path) -> Path:
    return write(tmp_path / "reranked.txt", "1 Q0 a 1 2 y\n1 Q0 b 2 1 y\n2 Q0 z 1 2 y\n2 Q0 c 2 1 y\n")


SECOND = 1 / math.log2(3)


def test_means_are_over_all_judged_queries(qrels: Path, first: Path, reranked: Path) -> None:
    report = evaluate(qrels, first, [reranked], ["nDCG@10", "AP", "R@100", "MRR@10"])
    (run,) = report.runs
    assert (report.queries, run.answered, run.unjudged, report.first.unjudged) == (4, 2, 0, 1)
    assert [score.value for score in report.first.scores] == pytest.approx([2 * SECOND / 4, 1 / 4, 2 / 4, 1 / 4])
    assert [score.value for score in run.scores] == pytest.approx([(1 + SECOND) / 4, 1.5 / 4, 2 / 4, 1.5 / 4])
    ndcg, _, recall, _ = run.scores
    assert [score.answered_value for score in run.scores] == pytest.approx([(1 + SECOND) / 2, 1.5 / 2, 1, 1.5 / 2])
    assert ndcg.comparison is not None
    assert recall.comparison is not None
    assert ndcg.comparison.change == pytest.approx((1 - SECOND) / 4)
    assert (ndcg.comparison.won, ndcg.comparison.tied, ndcg.comparison.lost) == (1, 3, 0)
    assert ndcg.comparison.p == pytest.approx(ttest_rel([1, SECOND, 0, 0], [SECOND, SECOND, 0, 0]).pvalue)
    assert (recall.comparison.change, recall.comparison.p, recall.comparison.tied) == (0, 1, 4)


def test_ties_are_broken_as_in_trec_eval_by_every_library(qrels: Path, tmp_path: Path) -> None:
    tied = write(tmp_path / "tied", "1 Q0 a 1 1.00000001 x\n1 Q0 b 2 1.0 x\n")
    assert [score.value for score in evaluate(qrels, tied, measures=["RR", "RR@10"]).first.scores] == [1 / 8, 1 / 8]


@pytest.mark.parametrize("qid", ["7", "test-7", "007", "q7", "qä"])
@pytest.mark.parametrize("docid", ["d", "a  b", "ß"])
def test_err_is_computed_for_names_of_any_form(qid: str, docid: str, tmp_path: Path) -> None:
    qrels = write(tmp_path / "qrels", f"{qid}\t0\t{docid}\t3\n{qid}\t0\te\t1\nother-7\t0\tf\t2\n")
    run = write(tmp_path / "run", f"{qid}\tQ0\te\t1\t2\tx\n{qid}\tQ0\t{docid}\t2\t1\tx\n")
    report = evaluate(qrels, run, [run], ["ERR@10", "RR", "nDCG(dcg='exp-log2')@1"], analysis=Analysis(per_query=True))
    err = 1 / 16 + 15 / 16 * 7 / 16 / 2
    assert [each.values[0] for each in report.per_query] == pytest.approx([err, 0, 1, 0, 1 / 7, 0], abs=1e-5)


def test_a_grade_that_a_measure_does_not_accept(tmp_path: Path, first: Path) -> None:
    qrels = write(tmp_path / "qrels", "1 0 a 5\n")
    assert evaluate(qrels, first, measures=["nDCG@10"]).queries == 1
    with pytest.raises(
        UsageError, match=r"ERR@10 is computed by gdeval, whose highest grade is 4, and .*qrels has grade 5"
    ):
        evaluate(qrels, first, measures=["nDCG@10", "ERR@10"])


def test_graded_thresholds(qrels: Path, first: Path) -> None:
    scores = evaluate(qrels, first, measures=["AP(rel=2)", "P(rel=2)@1", "AP@1"]).first.scores
    assert [(score.measure, score.value) for score in scores] == [
        ("MAP(rel=2)", 1 / 8),
        ("P(rel=2)@1", 0),
        ("MAP@1", 0),
    ]


def test_table(qrels: Path, first: Path, reranked: Path) -> None:
    assert as_text(evaluate(qrels, first, [reranked], ["nDCG@10", "AP"])).splitlines() == [
        "measure  run            score  on answered   change       p  won  tied  lost  answered",
        "-------  ------------  ------  -----------  -------  ------  ---  ----  ----  --------",
        "nDCG@10  first.txt     0.3155       0.6309                                      2 of 4",
        "         reranked.txt  0.4077       0.8155  +0.0923  0.3910    1     3     0    2 of 4",
        "MAP      first.txt     0.2500       0.5000                                      2 of 4",
        "         reranked.txt  0.3750       0.7500  +0.1250  0.3910    1     3     0    2 of 4",
        "",
        f"score: mean over all 4 queries of {qrels}; queries without documents in a run count 0.",
        "on answered: mean over the queries of the qrels that the run has documents for.",
        "p: paired two-sided t-test against the first run.",
        "first.txt: 1 query without judgments is not counted.",
    ]


def test_table_distinguishes_runs_of_the_same_name(qrels: Path, first: Path) -> None:
    assert as_text(evaluate(qrels, first, [first])).count(str(first)) >= 6


def test_table_of_one_query_has_no_p(tmp_path: Path, reranked: Path, first: Path) -> None:
    qrels = write(tmp_path / "qrels", "1 0 a 1\n")
    assert " n/a " in as_text(evaluate(qrels, first, [reranked]))


def test_json(qrels: Path, first: Path, reranked: Path) -> None:
    report = json.loads(json.dumps(evaluate(qrels, first, [reranked]).as_json()))
    assert report["runs"][0]["scores"][0]["measure"] == "nDCG@10"
    assert report["runs"][0]["scores"][0]["comparison"]["won"] == 1
    assert report["first"]["scores"][2] == {
        "measure": "MAP", "value": 0.25, "answered_value": 0.5, "comparison": None, "interval": None,
    }  # fmt: skip


def test_qrels_of_other_topics_are_rejected(tmp_path: Path, first: Path) -> None:
    with pytest.raises(UsageError, match="has no query that"):
        evaluate(write(tmp_path / "qrels", "77 0 a 1\n"), first)


def test_runs_are_read_and_written_without_importing_evaluation_libraries() -> None:
    code = "import sys, pyserini_reasonrank.ir.runs, pyserini_reasonrank.ir.evaluate; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "pyserini_reasonrank.ir.runs" in loaded
    assert not {"scipy", "ir_measures", "numpy"} & {*loaded}


# --- several runs


@pytest.fixture
def three(tmp_path: Path) -> tuple[Path, list[Path]]:
    """Qrels of 8 queries and three runs: the relevant document first always, in every second query, and never."""
    qids = range(1, 9)
    qrels = write(tmp_path / "eight.qrels", "".join(f"{qid} 0 a 1\n" for qid in qids))
    runs = []
    for name, good in (("never", []), ("half", [1, 3, 5, 7]), ("always", list(qids))):
        lines = [
            f"{qid} Q0 {docid} {rank} {2 - rank} x\n"
            for qid in qids
            for rank, docid in enumerate("ab" if qid in good else "ba", 1)
        ]
        runs.append(write(tmp_path / f"{name}.txt", "".join(lines)))
    return qrels, runs


def test_holm_corrects_for_the_runs(three: tuple[Path, list[Path]]) -> None:
    qrels, (never, half, always) = three
    report = evaluate(qrels, never, [half, always], ["P@1"], analysis=Analysis(test=SignificanceTest.RANDOMISATION))
    first, second = (run.scores[0].comparison for run in report.runs)
    assert first is not None
    assert second is not None
    assert (first.change, first.p, first.corrected) == (0.5, 2 / 2**4, 2 / 2**4)
    assert (second.change, second.p, second.corrected) == (1.0, 2 / 2**8, 2 * 2 / 2**8)


@pytest.mark.parametrize("test", SignificanceTest)
def test_all_pairs(three: tuple[Path, list[Path]], test: SignificanceTest) -> None:
    qrels, (never, half, always) = three
    report = evaluate(qrels, never, [half, always], ["P@1"], analysis=Analysis(test=test, all_pairs=True))
    assert [(Path(pair.base).stem, Path(pair.run).stem) for pair in report.pairs] == [
        ("never", "half"), ("never", "always"), ("half", "always"),
    ]  # fmt: skip
    assert [pair.comparisons[0].change for pair in report.pairs] == [0.5, 1.0, 0.5]
    assert [(pair.comparisons[0].won, pair.comparisons[0].tied) for pair in report.pairs] == [(4, 4), (8, 0), (4, 4)]
    corrected = [pair.comparisons[0].corrected for pair in report.pairs]
    assert all(
        p is not None and p >= (pair.comparisons[0].p or 0) for p, pair in zip(corrected, report.pairs, strict=True)
    )
    assert corrected[1] is not None
    assert corrected[1] < 0.05
    assert all(score.comparison is None for run in report.every for score in run.scores)


def test_intervals_similarity_and_queries(three: tuple[Path, list[Path]]) -> None:
    qrels, (never, half, _) = three
    wanted = Analysis(intervals=True, similarity=True, per_query=True)
    report = evaluate(qrels, never, [half], ["P@1", "NumRet"], analysis=wanted)
    share, total = report.runs[0].scores
    assert share.interval is not None
    assert 0.1 < share.interval.low < 0.5 < share.interval.high < 0.9
    assert share.comparison is not None
    assert share.comparison.interval == share.interval
    assert (total.value, total.interval) == (16, None)
    alike = report.runs[0].similarity
    assert alike is not None
    assert (alike.queries, alike.tau) == (8, 0)
    assert alike.rbo == pytest.approx((4 * 1 + 4 * 0.9) / 8)
    assert [(each.qid, each.values) for each in report.per_query if each.measure == "P@1"][:2] == [
        ("1", (0, 1)), ("2", (0, 0)),
    ]  # fmt: skip


# --- runs that are not comparable


def test_documents_of_one_score_have_a_warning(qrels: Path, first: Path, tmp_path: Path) -> None:
    tied = write(
        tmp_path / "tied.txt", "1 Q0 a 1 1 y\n1 Q0 b 2 1.00000001 y\n2 Q0 c 1 1 y\n9 Q0 c 1 1 y\n9 Q0 d 2 1 y\n"
    )
    assert evaluate(qrels, first, [tied], ["P@1"]).warnings == (
        f"{tied} gives all documents of 1 judged query the same score (for example 1), so they are ordered by docid, as in "
        "trec_eval: write scores that fall with the rank",
    )


def test_runs_of_other_topics_have_a_warning(qrels: Path, first: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other.txt", "1 Q0 a 1 2 y\n3 Q0 d 1 2 y\n")
    assert evaluate(qrels, first, [other], ["P@1"]).warnings == (
        f"{other} has no documents for 1 judged query that {first} answers (for example 2), which count 0: "
        "compare runs of the same topics",
        f"{first} has no documents for 1 judged query that {other} answers (for example 3), which count 0: "
        "compare runs of the same topics",
    )


def test_runs_of_other_depths_have_a_warning_if_a_measure_sees_it(qrels: Path, first: Path, tmp_path: Path) -> None:
    shallow = write(tmp_path / "shallow.txt", "1 Q0 a 1 2 y\n2 Q0 z 1 2 y\n")
    assert evaluate(qrels, first, [shallow], ["P@1"]).warnings == ()
    assert evaluate(qrels, first, [shallow], ["P@1", "R@100", "AP"]).warnings == (
        f"{shallow} has at most 1 document per query and {first} has 2: R@100, MAP favour the deeper run",
    )


@pytest.mark.parametrize("score", ["nan", "inf", "-NaN"])
def test_scores_that_are_not_finite_are_rejected(qrels: Path, tmp_path: Path, score: str) -> None:
    run = write(tmp_path / "run.txt", f"1 Q0 a 1 2 y\n1 Q0 b 2 {score} y\n")
    with pytest.raises(UsageError, match=rf"run\.txt, line 2: the score '{score}' is not a finite number"):
        evaluate(qrels, run)


def test_deep_learning_cutoff(tmp_path: Path) -> None:
    qrels = write(tmp_path / "qrels", "19335 0 1017759 1\n19335 0 109063 2\n")
    run = write(tmp_path / "run", "19335 Q0 1017759 1 2 x\n19335 Q0 109063 2 1 x\n")
    report = evaluate(qrels, run, measures=["RR", "RR(rel=1)", "nDCG@10", "RR(rel=2)"])
    assert [(score.measure, score.value) for score in report.first.scores][:2] == [("MRR(rel=2)", 0.5), ("MRR", 1.0)]
    assert len(report.first.scores) == 3
    assert report.cutoff == "TREC DL 2019: grades below 2 count as not relevant for MRR(rel=2)"
