"""The LLM's order and the first stage's scores as one: figures by hand, and that nothing is lost."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Collection, RunReranker
from hypothesis import given
from hypothesis import strategies as st

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.evaluate import evaluate
from pyserini_reasonrank.ir.fusion import Fusion
from pyserini_reasonrank.ir.metadata import RunRecord
from pyserini_reasonrank.ir.runs import read_run
from pyserini_reasonrank.records import Ranked
from pyserini_reasonrank.run.candidates import read_requests
from pyserini_reasonrank.settings import layers
from pyserini_reasonrank.settings.flags import lift

BM25 = (12.0, 10.0, 9.0, 4.0)


def fuse(
    method: Any, weight: float, order: Sequence[int], first: Sequence[float] = BM25, k: int = 60, **scores: float
) -> tuple[int, ...]:
    """The fused order; ``d2=0.5`` is what the LLM scored position 2."""
    ranked = Ranked(tuple(order), scores={int(name[1:]): score for name, score in scores.items()})
    return Fusion(method=method, weight=weight, k=k).order(ranked, first)


# --- by hand


def test_min_max_of_scores() -> None:
    """LLM: 0, .5, 1, .25; BM25: 1, .75, .625, 0."""
    scores: dict[str, Any] = {"d0": 1.0, "d1": 3.0, "d2": 5.0, "d3": 2.0}
    # .9/.1: .1, .525, .9625, .225
    assert fuse("min-max", 0.9, [2, 1, 3, 0], **scores) == (2, 1, 3, 0)
    # .4/.6: .6, .65, .775, .1
    assert fuse("min-max", 0.4, [2, 1, 3, 0], **scores) == (2, 1, 0, 3)
    # .25/.75: .75, .6875, .71875, .0625
    assert fuse("min-max", 0.25, [2, 1, 3, 0], **scores) == (0, 2, 1, 3)


def test_min_max_of_ranks() -> None:
    """The LLM's ranks 4, 3, 2, 1 become 0, 1/3, 2/3, 1."""
    # .9/.1: .1, .375, .6625, .9
    assert fuse("min-max", 0.9, [3, 2, 1, 0]) == (3, 2, 1, 0)
    # .5/.5: .5, .5417, .6458, .5
    assert fuse("min-max", 0.5, [3, 2, 1, 0]) == (2, 1, 3, 0)
    # .1/.9: .9, .7083, .6292, .1
    assert fuse("min-max", 0.1, [3, 2, 1, 0]) == (0, 1, 2, 3)


def test_z_score_of_scores() -> None:
    """LLM 10, 8, 6, 0: mean 6, deviation 3.7417; BM25: mean 8.75, deviation 2.9475.

    LLM: 1.0690, .5345, 0, -1.6036 for positions 3, 2, 1, 0; BM25: 1.1026, .4241, .0848, -1.6116.
    """
    scores: dict[str, Any] = {"d0": 0.0, "d1": 6.0, "d2": 8.0, "d3": 10.0}
    # .8/.2: -1.0623, .0848, .4446, .5329
    assert fuse("z-score", 0.8, [3, 2, 1, 0], **scores) == (3, 2, 1, 0)
    # .7/.3: -.7917, .1272, .3996, .2648
    assert fuse("z-score", 0.7, [3, 2, 1, 0], **scores) == (2, 3, 1, 0)
    # .2/.8: .5614, .3393, .1748, -1.0755
    assert fuse("z-score", 0.2, [3, 2, 1, 0], **scores) == (0, 1, 2, 3)


def test_reciprocal_ranks() -> None:
    """k 60, halves: 1/61 + 1/64 = .032018 for ranks 1 and 4, 1/62 + 1/63 = .032002 for ranks 2 and 3."""
    assert fuse("rrf", 0.5, [3, 2, 1, 0]) == (3, 0, 2, 1)
    # .6 of the LLM: .6/61 + .4/64 > .6/62 + .4/63 > .6/63 + .4/62 > .6/64 + .4/61
    assert fuse("rrf", 0.6, [3, 2, 1, 0]) == (3, 2, 1, 0)
    # the first stage's ranks are by its scores, wherever its candidates stand
    assert fuse("rrf", 0.0, [0, 1, 2, 3], first=[1.0, 4.0, 2.0, 3.0]) == (1, 3, 2, 0)
    # ranks 1 and 4 against 2 and 2: 1/61 + 1/64 < 2/62, but 1/2 + 1/5 > 2/3
    assert fuse("rrf", 0.5, [0, 1, 2, 3], first=[1.0, 3.0, 4.0, 2.0]) == (2, 1, 0, 3)
    assert fuse("rrf", 0.5, [0, 1, 2, 3], first=[1.0, 3.0, 4.0, 2.0], k=1) == (2, 0, 1, 3)


def test_a_document_without_an_llm_score_counts_as_its_neighbour() -> None:
    # position 1 was not scored and keeps its place below 2: it counts 5 as 2 does; min-max: 0, 1, 1, .25
    scores: dict[str, Any] = {"d0": 1.0, "d2": 5.0, "d3": 2.0}
    # .4/.6: .6, .85, .775, .1
    assert fuse("min-max", 0.4, [2, 1, 3, 0], **scores) == (1, 2, 0, 3)
    # the one on top has no neighbour above it, so it counts as the one below
    assert fuse("min-max", 0.4, [1, 2, 3, 0], **scores) == (1, 2, 0, 3)
    # and where the LLM scored nothing, its order counts
    assert fuse("min-max", 1.0, [1, 2, 3, 0]) == (1, 2, 3, 0)


@pytest.mark.parametrize("method", ["min-max", "z-score"])
def test_equal_scores_decide_nothing(method: str) -> None:
    assert fuse(method, 0.3, [2, 0, 3, 1], first=[5.0] * 4) == (2, 0, 3, 1)
    assert fuse(method, 0.3, [2, 0, 3, 1], d0=1.0, d1=1.0, d2=1.0, d3=1.0) == (0, 1, 2, 3)
    assert fuse(method, 0.3, [2, 0, 3, 1], first=[5.0] * 4, d0=1.0, d1=1.0, d2=1.0, d3=1.0) == (2, 0, 3, 1)


@pytest.mark.parametrize("method", ["none", "min-max", "z-score", "rrf"])
def test_one_candidate(method: str) -> None:
    assert fuse(method, 0.8, [0], first=[3.0]) == (0,)
    assert fuse(method, 0.8, [0], first=[3.0], d0=0.5) == (0,)


def test_without_a_method_the_llm_decides() -> None:
    assert fuse("none", 0.0, [3, 1, 0, 2], d0=1.0) == (3, 1, 0, 2)


# --- whatever comes in


@st.composite
def lists(draw: st.DrawFn) -> tuple[Ranked, list[float]]:
    """An LLM's ranking, as a pointwise or a listwise judge leaves it, and the scores of a first stage, all different."""
    n = draw(st.integers(1, 30))
    first = draw(st.lists(st.integers(-500, 500), min_size=n, max_size=n, unique=True))
    order = draw(st.permutations(range(n)))
    scores = draw(st.lists(st.integers(0, 10), min_size=n, max_size=n))
    scored = draw(st.sets(st.integers(0, n - 1)))
    falling = dict(zip(order, sorted(scores, reverse=True), strict=True))
    return Ranked(tuple(order), scores={i: falling[i] / 10 for i in scored}), [score / 7 for score in first]


methods = st.sampled_from(["min-max", "z-score", "rrf"])


@given(lists(), methods, st.floats(0, 1), st.integers(1, 100))
def test_it_is_always_a_permutation(given: tuple[Ranked, list[float]], method: Any, weight: float, k: int) -> None:
    ranked, first = given
    assert sorted(Fusion(method=method, weight=weight, k=k).order(ranked, first)) == list(range(len(first)))


@given(lists(), methods)
def test_weight_1_is_the_llms_order_and_weight_0_the_first_stages(
    given: tuple[Ranked, list[float]], method: Any
) -> None:
    ranked, first = given
    assert Fusion(method=method, weight=1).order(ranked, first) == ranked.order
    best_first = sorted(range(len(first)), key=lambda i: -first[i])
    assert Fusion(method=method, weight=0).order(ranked, first) == tuple(best_first)


@given(lists(), methods, st.floats(0, 1))
def test_what_both_put_higher_stays_higher(given: tuple[Ranked, list[float]], method: Any, weight: float) -> None:
    ranked, first = given
    fused = Fusion(method=method, weight=weight).order(ranked, first)
    place, llm = {i: r for r, i in enumerate(fused)}, {i: r for r, i in enumerate(ranked.order)}
    for a in range(len(first)):
        for b in range(len(first)):
            if first[a] > first[b] and llm[a] < llm[b]:
                assert place[a] < place[b]


# --- the host's own fusion


HOSTS = """
import sys
from pyserini.fusion import interpolation, normalize, reciprocal_rank_fusion
from pyserini.trectools import RescoreMethod, TrecRun
llm, first, method, weight, output = sys.argv[1:]
runs = [TrecRun(llm), TrecRun(first)]
if method == "rrf":
    fused = reciprocal_rank_fusion(runs)
else:
    fused = interpolation([run.rescore(method=RescoreMethod.NORMALIZE) for run in runs], alpha=float(weight))
fused.save_to_txt(output, tag="host")
"""


@pytest.mark.jvm
@pytest.mark.parametrize(("method", "weight"), [("min-max", 0.9), ("min-max", 0.35), ("rrf", 0.5)])
def test_the_hosts_fusion_of_the_same_two_runs(method: Any, weight: float, tmp_path: Path) -> None:
    orders = {f"q{i}": sorted(range(40), key=[(37 * d + i) % 41 for d in range(40)].__getitem__) for i in range(3)}
    first = {qid: [20 / (1 + d) + int(qid[1:]) for d in range(40)] for qid in orders}
    llm_run = [f"{qid} Q0 d{d:02} {r} {100 - r} llm\n" for qid, order in orders.items() for r, d in enumerate(order, 1)]
    first_run = [f"{qid} Q0 d{d:02} {d + 1} {score} bm25\n" for qid in first for d, score in enumerate(first[qid])]
    (tmp_path / "llm").write_text("".join(llm_run))
    (tmp_path / "first").write_text("".join(first_run))
    words = [sys.executable, "-c", HOSTS, "llm", "first", method, str(weight), "fused"]
    subprocess.run(words, check=True, cwd=tmp_path, capture_output=True, timeout=120)
    theirs = {qid: [int(hit.docid[1:]) for hit in hits] for qid, hits in read_run(tmp_path / "fused").items()}
    fusion = Fusion(method=method, weight=weight)
    assert theirs == {qid: list(fusion.order(Ranked(tuple(order)), first[qid])) for qid, order in orders.items()}


# --- whole runs


def docids(outcome: RunRecord) -> dict[str, list[str]]:
    return {qid: [hit.docid for hit in hits] for qid, hits in read_run(outcome.output).items()}


@pytest.mark.parametrize("name", ["reasonrank", "rank1", "coranking"])
def test_a_run_fused(name: str, run_reranker: RunReranker, collection: Collection, tmp_path: Path) -> None:
    engine = {"name": "oracle", "qrels": str(collection.qrels)}
    alone = run_reranker(name, {"engine": engine}, output=tmp_path / "alone.txt")
    fuse = {"method": "min-max", "weight": 1.0}
    assert docids(run_reranker(name, {"engine": engine, "fuse": fuse})) == docids(alone)
    outcome = run_reranker(name, {"engine": engine, "fuse": fuse | {"weight": 0.0}})
    first = {r.query.qid: [c.docid for c in r.candidates] for r in collection.requests if r.candidates}
    assert docids(outcome) == first
    said = yaml.safe_load(outcome.metadata.read_text())["method"]["retrieval"][1]
    assert said["fuse"] == {"method": "min-max", "weight": 0.0, "k": 60}
    between = docids(run_reranker(name, {"engine": engine, "fuse": fuse | {"weight": 0.5}}))
    assert between["long"] not in (first["long"], docids(alone)["long"])
    assert {qid: sorted(names) for qid, names in between.items()} == {q: sorted(names) for q, names in first.items()}


def test_only_what_was_reranked_is_fused(run_reranker: RunReranker, collection: Collection) -> None:
    engine, fuse = {"name": "oracle", "qrels": str(collection.qrels)}, {"method": "rrf", "weight": 0.9}
    outcome = run_reranker("reasonrank", {"engine": engine, "fuse": fuse, "depth": 20})
    first = [c.docid for c in collection.requests[0].candidates]
    found = docids(outcome)["long"]
    assert found[20:] == first[20:]
    assert sorted(found[:20]) == sorted(first[:20])
    assert found[:20] != first[:20]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fuse", "ndcg"),
    [
        ({}, 0.7551),
        ({"method": "min-max", "weight": 0.9}, 0.7632),
        ({"method": "z-score", "weight": 0.8}, 0.7594),
        ({"method": "rrf", "weight": 0.5}, 0.7568),
    ],
)
def test_published_answers_fused_with_their_first_stage(
    fuse: dict[str, Any], ndcg: float, data: Path, tmp_path: Path, run_reranker: RunReranker
) -> None:
    """The figures of docs/usage-fusion.md: RankVicuna over TAS-B, TREC DL 2019."""
    folder = data / "msmarco-v1-dl19"
    answers, first = tmp_path / "answers.jsonl", folder / "run.tasb.txt"
    with gzip.open(data / "rankllm_raw_outputs" / "responses.dl19.jsonl.gz", "rt", encoding="utf-8") as rows:
        of_tasb = [r for r in map(json.loads, rows) if r["timestamp"] == "2023-09-13T16:36:05.377108"]
    lines = [json.dumps({"qid": r["qid"], "call": r["window"], "response": r["response"]}) + "\n" for r in of_tasb]
    answers.write_text("".join(lines))
    requests = list(read_requests(first, folder / "topics.tsv", folder / "corpus.jsonl", 100))
    flags = {"engine": {"name": "recorded", "path": str(answers)}, "judge": {"identifiers": "digits"}, "fuse": fuse}
    outcome = run_reranker("rankgpt", flags | {"prompt": "listwise"}, requests, first_run=first)
    report = evaluate(folder / "qrels.txt", first, [outcome.output], ["nDCG@10"])
    assert report.runs[0].scores[0].value == pytest.approx(ndcg, abs=5e-5)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("method minmax", "--rerank.fuse.method 'minmax': input should be 'none', 'min-max', 'z-score' or 'rrf'"),
        ("weight 1.5", "--rerank.fuse.weight 1.5: input should be less than or equal to 1"),
        ("k 0", "--rerank.fuse.k 0: input should be greater than or equal to 1"),
        ("alpha 0.5", "--rerank.fuse.alpha is not known"),
        ("weight 0.5", "--rerank.fuse.weight 0.5 needs --rerank.fuse.method min-max or z-score or rrf, not none"),
        ("k 20", "--rerank.fuse.k 20 needs --rerank.fuse.method rrf, not none"),
    ],
)
def test_settings_that_can_not_be_are_refused(flags: str, says: str) -> None:
    key, value = flags.split()
    words = ["--rerank.engine.name", "oracle", f"--rerank.fuse.{key}", value]
    with pytest.raises(UsageError) as error:
        layers.load("reasonrank", lift(words)[1])
    assert says in str(error.value)


def test_a_setting_that_the_method_does_not_use_is_refused_in_a_combination_too(tmp_path: Path) -> None:
    words = ["--rerank.engine.name", "oracle", "--rerank.fuse.k", "20"]
    for name in ("reasonrank", "coranking"):
        with pytest.raises(UsageError, match=r"fuse\.k 20 needs --rerank\.fuse\.method rrf, not min-max"):
            layers.load(name, lift([*words, "--rerank.fuse.method", "min-max"])[1])
        layers.load(name, lift([*words, "--rerank.fuse.method", "rrf"])[1])
    file = tmp_path / "mine.yaml"
    file.write_text("fuse: {method: rrf, weight: 0.5}\n")
    words = ["--rerank.config", str(file), "--rerank.engine.name", "oracle"]
    assert layers.load("reasonrank", lift([*words, "--rerank.fuse.method", "none"])[1])[0].fuse.method == "none"
