"""A depth far beyond the candidates takes no time and no memory: cost, plans and runs."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from conftest import Collection, more

from pyserini_reasonrank.__main__ import main
from pyserini_reasonrank.run.cost import MOST_CANDIDATES, MOST_COMBINED, estimate
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.settings import layers, rerankers

DEEP = 10**8
LONGEST = 10.0  # seconds of CPU time; a list of that length or a simulation of that many questions takes minutes


@pytest.mark.parametrize("name", [name for name in rerankers.names() if name != "route"])
def test_a_deep_run_of_six_documents_answers_at_once(name: str, tmp_path: Path) -> None:
    (tmp_path / "qrels").write_text("q 0 d3 1\n")
    documents = [{"docid": f"d{i}", "text": f"text {i}"} for i in range(6)]
    (tmp_path / "candidates").write_text(json.dumps({"qid": "q", "query": "what", "candidates": documents}) + "\n")
    words = ["--rerank", name, "--rerank.depth", str(DEEP), "--rerank.engine.name", "oracle"]
    words += ["--rerank.engine.qrels", str(tmp_path / "qrels"), "--output", str(tmp_path / "run")]
    began = time.process_time()
    assert main(["rerank", "--candidates", str(tmp_path / "candidates"), *words]) == 0
    assert time.process_time() - began < LONGEST
    ranked = [line.split()[2] for line in (tmp_path / "run").read_text().splitlines()]
    assert sorted(ranked) == [f"d{i}" for i in range(6)]
    assert "d3" in ranked[:2]  # a tournament ties the best of its groups


@pytest.mark.parametrize(
    ("name", "strategy"),
    [
        ("reasonrank", {"window_size": 2}),
        ("reasonrank", {"passes": DEEP}),
        ("pivot", {"rounds": DEEP}),
        ("blitzrank", {"k": 100}),
        ("acurank", {"calls": DEEP}),
        ("rank-r1", {"children": 1, "k": DEEP}),
        *more(("rank-r1", {"name": "bubblesort", "children": 1, "k": DEEP})),
        ("prp", {}),
        ("iranker", {"window_size": None}),
        ("upr", {}),
        ("dranker", {}),
        ("grouprank", {"window_size": 1}),
        ("grouprank", {"rounds": 32}),
        ("retro-star", {"k": DEEP, "samples": 128}),
        ("self-consistency", {}),
    ],
)
def test_the_cost_of_a_depth_without_candidates_is_bounded(name: str, strategy: dict[str, object]) -> None:
    given = {"strategy": {"name": rerankers.read(name)["strategy"]["name"], **strategy}} if strategy else {}
    began = time.process_time()
    made = plan(*layers.load(name, {"depth": DEEP, "engine": {"name": "oracle", "qrels": "qrels"}, **given}))
    cost = estimate(made, DEEP)
    assert time.process_time() - began < LONGEST
    assert 0 < cost.candidates <= MOST_CANDIDATES
    assert cost.questions > 0


def test_the_cost_of_a_combination_is_bounded(collection: Collection) -> None:
    engine = {"name": "oracle", "qrels": str(collection.qrels)}
    made = plan(*layers.load("self-consistency", {"depth": DEEP, "engine": engine}))
    assert estimate(made, DEEP).candidates == MOST_COMBINED


def test_explain_says_for_how_many_candidates_it_counts(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["explain", "--rerank", "reasonrank", "--rerank.engine.name", "oracle", "--rerank.depth"]
    assert main([*words, str(DEEP)]) == 0
    assert "depth 100000000\n" in (found := capsys.readouterr().out)
    assert "counted for 10,000 candidates" in found
    assert main([*words, "100"]) == 0
    assert "counted for" not in capsys.readouterr().out


@pytest.mark.parametrize("depth", [0, 1000])
def test_a_prompt_of_all_candidates_is_planned_for_those_there_are(depth: int, tmp_path: Path) -> None:
    """A deep list would not fit the context, but the six documents do."""
    documents = [{"docid": f"d{i}", "text": f"text {i}"} for i in range(6)]
    (tmp_path / "candidates").write_text(json.dumps({"qid": "q", "query": "what", "candidates": documents}) + "\n")
    (tmp_path / "qrels").write_text("q 0 d3 1\n")
    words = ["--rerank", "dranker", "--rerank.depth", str(depth or DEEP), "--rerank.engine.name", "oracle"]
    words += ["--rerank.engine.qrels", str(tmp_path / "qrels"), "--rerank.max_model_len", "4096"]
    words += ["--candidates", str(tmp_path / "candidates"), "--output", str(tmp_path / "run")]
    assert main(["rerank", *words]) == (2 if depth else 0)
