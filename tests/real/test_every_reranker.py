"""Rerankers through commands, over a real collection, with a real model.

One of each kind, one topic and four candidates, in the shortest words. One reranker is behind Pyserini's search, the others
share two processes. `make soak` puts every reranker behind a search, each in a process of its own, with five topics and ten
candidates.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from conftest import SOAK, Command
from shortened import shortened

from pyserini_reasonrank.ir.validate import validate
from pyserini_reasonrank.run.cost import estimate
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.settings import layers, rerankers

ALL = [name for name in rerankers.names() if not name.endswith(("-recommendation", "-routing"))]
FEW = {
    "first",
    "iranker",
    "rank-r1",
    "rank1",
    "reasonrank",
    "route",
    "setwise-likelihood",
    "upr",
}
"""One of each kind of question. tests/run/test_bounds.py runs all rerankers, with the oracle."""
NAMES = ALL if SOAK else [name for name in ALL if name in FEW]
TOPICS, DEPTH = int(os.environ.get("REASONRANK_TOPICS", "1")), int(os.environ.get("REASONRANK_DEPTH", "4"))

SEARCHED = "reasonrank"
Runs = dict[str, tuple[subprocess.CompletedProcess[str], Path, Path]]


@pytest.fixture(scope="module")
def runs(data: Path, command: Command, tmp_path_factory: pytest.TempPathFactory) -> tuple[Runs, Path]:
    """All of them with their first stage, two at a time: most of a short command is starting up, on one core."""
    pytest.importorskip("torch", reason="the transformers engine is not installed")
    folder, collection = tmp_path_factory.mktemp("dl19"), data / "msmarco-v1-dl19"
    made = command("index", "--corpus", collection / "corpus.jsonl", "--index", folder / "index")
    assert made.returncode == 0, made.stderr
    topics = folder / "topics.tsv"
    topics.write_text("".join((collection / "topics.tsv").read_text().splitlines(keepends=True)[:TOPICS]))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    first = Path(f"{folder / SEARCHED}.txt.first-stage.txt")

    def words(name: str) -> list[str]:
        settings = folder / f"{name}.yaml"
        settings.write_text(yaml.safe_dump(shortened(name, passage_tokens=12, output_tokens=8)))
        flags = ["--topics", topics, "--output", folder / f"{name}.txt", "--rerank", name, "--rerank.depth", DEPTH]
        flags += ["--rerank.model", "smollm2-135m", "--rerank.config", settings, "--rerank.max_bad", 1]
        return list(map(str, flags))

    def python(arguments: list[object], given: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            capture_output=True, text=True, input=given, timeout=900, check=False, env=environment,
        )  # fmt: skip

    def search(name: str) -> subprocess.CompletedProcess[str]:
        inputs = ["-m", "pyserini.search", "--index", folder / "index", "--bm25", "--hits", 20]
        return python([*inputs, *words(name)])

    def rerank(names: list[str]) -> list[subprocess.CompletedProcess[str]]:
        inputs = ["rerank", "--run", str(first), "--corpus", str(collection / "corpus.jsonl")]
        commands = [[*inputs, *words(name)] for name in names]
        done = python([Path(__file__).with_name("commands_in_turn.py")], json.dumps(commands))
        assert done.returncode == 0, done.stderr
        return [subprocess.CompletedProcess(c, *r) for c, r in zip(commands, json.loads(done.stdout), strict=True)]

    done, others = {SEARCHED: search(SEARCHED)}, [name for name in NAMES if name != SEARCHED]
    with ThreadPoolExecutor(2) as pool:
        if SOAK:
            done |= zip(others, pool.map(search, others), strict=True)
        else:
            halves = [others[::2], others[1::2]]
            for names, results in zip(halves, pool.map(rerank, halves), strict=True):
                done |= zip(names, results, strict=True)
    outputs = {name: folder / f"{name}.txt" for name in NAMES}
    return {
        name: (done[name], output, Path(f"{output}.first-stage.txt") if SOAK else first)
        for name, output in outputs.items()
    }, topics


@pytest.mark.parametrize("name", NAMES)
def test_its_run_is_valid_and_its_calls_are_accounted_for(name: str, runs: tuple[Runs, Path]) -> None:
    done, run, first = runs[0][name]
    assert done.returncode == 0, done.stderr
    assert f"{TOPICS} of {TOPICS} reranked" in done.stdout
    qids = [line.split("\t")[0] for line in runs[1].read_text().splitlines()]
    assert not validate(run, qids, first).findings
    metadata = yaml.safe_load(Path(f"{run}.ir-metadata.yml").read_text())
    asked = sum(metadata["outcome"]["statuses of calls"].values())
    least = estimate(plan(*layers.load(name, {"engine": {"name": "oracle", "qrels": "x"}, "depth": DEPTH})), DEPTH)
    assert asked > 0
    assert metadata["resources"]["llm"]["prompt tokens"] > 0
    assert least.questions > 0
