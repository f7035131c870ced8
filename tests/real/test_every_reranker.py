"""Every reranker through a command, over a real collection, with a real model.

Two topics and six candidates, in the shortest words. One reranker is behind Pyserini's search; `make soak` puts all of them
there, with five topics and ten candidates.
"""

from __future__ import annotations

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

NAMES = [name for name in rerankers.names() if not name.endswith(("-recommendation", "-routing"))]
TOPICS, DEPTH = int(os.environ.get("REASONRANK_TOPICS", "2")), int(os.environ.get("REASONRANK_DEPTH", "6"))

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

    def run(name: str) -> tuple[subprocess.CompletedProcess[str], Path, Path]:
        output, settings = folder / f"{name}.txt", folder / f"{name}.yaml"
        settings.write_text(yaml.safe_dump(shortened(name, passage_tokens=12, output_tokens=8)))
        if name == SEARCHED or SOAK:
            inputs = ["-m", "pyserini.search", "--index", folder / "index", "--bm25", "--hits", 20]
        else:
            inputs = ["-m", "pyserini_reasonrank", "rerank", "--run", first, "--corpus", collection / "corpus.jsonl"]
        words = [
            *(sys.executable, *inputs, "--topics", topics, "--output", output, "--rerank", name),
            *("--rerank.depth", DEPTH, "--rerank.model", "smollm2-135m", "--rerank.config", settings),
            *("--rerank.max_bad", 1),
        ]
        done = subprocess.run(
            list(map(str, words)), capture_output=True, text=True, timeout=900, check=False, env=environment
        )
        return done, output, Path(f"{output}.first-stage.txt") if "pyserini.search" in inputs else first

    searched, others = run(SEARCHED), [name for name in NAMES if name != SEARCHED]
    with ThreadPoolExecutor(2) as pool:
        return {SEARCHED: searched, **dict(zip(others, pool.map(run, others), strict=True))}, topics


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
