"""Evaluation: trec_eval's order and means, the table, and JSON."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from scipy.stats import ttest_rel

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.evaluate import evaluate, measure_name, parse_measure


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
    assert ndcg.change == pytest.approx((1 - SECOND) / 4)
    assert (ndcg.won, ndcg.tied, ndcg.lost) == (1, 3, 0)
    assert ndcg.p == pytest.approx(ttest_rel([1, SECOND, 0, 0], [SECOND, SECOND, 0, 0]).pvalue)
    assert (recall.change, recall.p, recall.tied) == (0, 1, 4)


def test_ties_are_broken_as_in_trec_eval_by_every_library(qrels: Path, tmp_path: Path) -> None:
    tied = write(tmp_path / "tied", "1 Q0 a 1 1.00000001 x\n1 Q0 b 2 1.0 x\n")
    assert [score.value for score in evaluate(qrels, tied, measures=["RR", "RR@10"]).first.scores] == [1 / 8, 1 / 8]


def test_graded_thresholds(qrels: Path, first: Path) -> None:
    scores = evaluate(qrels, first, measures=["AP(rel=2)", "P(rel=2)@1", "AP@1"]).first.scores
    assert [(score.measure, score.value) for score in scores] == [
        ("MAP(rel=2)", 1 / 8),
        ("P(rel=2)@1", 0),
        ("MAP@1", 0),
    ]


def test_table(qrels: Path, first: Path, reranked: Path) -> None:
    assert str(evaluate(qrels, first, [reranked], ["nDCG@10", "AP"])).splitlines()[:6] == [
        "measure  run            score   change       p  won  tied  lost  answered",
        "-------  ------------  ------  -------  ------  ---  ----  ----  --------",
        "nDCG@10  first.txt     0.3155                                      2 of 4",
        "         reranked.txt  0.4077  +0.0923  0.3910    1     3     0    2 of 4",
        "MAP      first.txt     0.2500                                      2 of 4",
        "         reranked.txt  0.3750  +0.1250  0.3910    1     3     0    2 of 4",
    ]


def test_table_distinguishes_runs_of_the_same_name(qrels: Path, first: Path) -> None:
    assert str(evaluate(qrels, first, [first])).count(str(first)) >= 6


def test_table_of_one_query_has_no_p(tmp_path: Path, reranked: Path, first: Path) -> None:
    qrels = write(tmp_path / "qrels", "1 0 a 1\n")
    assert " n/a " in str(evaluate(qrels, first, [reranked]))


def test_json(qrels: Path, first: Path, reranked: Path) -> None:
    report = json.loads(json.dumps(evaluate(qrels, first, [reranked]).as_json()))
    assert report["runs"][0]["scores"][0]["measure"] == "nDCG@10"
    assert report["runs"][0]["scores"][0]["won"] == 1
    assert report["first"]["scores"][2] == {
        "measure": "MAP", "value": 0.25, "change": None, "p": None, "won": 0, "tied": 0, "lost": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("written", "name"),
    [("nDCG@10", "nDCG@10"), ("MAP", "MAP"), ("RR@10", "MRR@10"), ("P(rel=2)@5", "P(rel=2)@5"), ("R@100", "R@100"),
     ("nDCG(gains={2: 5})@3", "nDCG(gains={2:5})@3")],
)  # fmt: skip
def test_names_of_measures(written: str, name: str) -> None:
    assert measure_name(parse_measure(written)) == name


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("nDGC@10", "no measure 'nDGC'; did you mean 'nDCG'"),
        ("ndcg 10", "is not a measure"),
        ("P(2)@5", "is not a measure"),
        ("P@five", "is not a measure"),
        ("", "is not a measure"),
        ("R", "incomplete"),
        ("AP(cut=3)", "incomplete or invalid"),
        ("alpha_nDCG@10", "no installed library computes the measure alpha_nDCG@10"),
    ],
)
def test_invalid_measures(written: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_measure(written)


def test_qrels_of_other_topics_are_rejected(tmp_path: Path, first: Path) -> None:
    with pytest.raises(UsageError, match="has no query that"):
        evaluate(write(tmp_path / "qrels", "77 0 a 1\n"), first)


def test_runs_are_read_and_written_without_importing_evaluation_libraries() -> None:
    code = "import sys, pyserini_reasonrank.ir.runs, pyserini_reasonrank.ir.evaluate; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "pyserini_reasonrank.ir.runs" in loaded
    assert not {"scipy", "ir_measures", "numpy"} & {*loaded}
