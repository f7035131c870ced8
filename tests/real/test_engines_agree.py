"""One reranking through several engines: the embedded model in transformers, in vLLM, and behind vLLM's own server.

Greedy, so the answers agree but where two tokens are nearly as likely: vLLM computes in bfloat16 by another order of
sums. What differs is counted and printed; every question must be accounted for in each.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import Command
from vllm_serving import vllm_server

from pyserini_reasonrank.journal_reader import read_answers
from pyserini_reasonrank.models.embedded import ensure_embedded

pytestmark = [
    pytest.mark.skipif(not (find_spec("vllm") and find_spec("torch")), reason="vLLM is not installed"),
    pytest.mark.soak_only,  # vLLM starts four times; tests/engines/test_vllm.py starts it once for all its tests
]

TOPICS, DEPTH = 2, 5
CALLS = TOPICS  # one window each


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of vLLM's API server with the embedded model, whose generation_config.json asks to be sampled."""
    log, folder = tmp_path_factory.mktemp("server") / "log.txt", tmp_path_factory.mktemp("sampled")
    for file in ensure_embedded(None, progress=False).iterdir():
        (folder / file.name).symlink_to(file)
    own = folder / "generation_config.json"
    defaults = {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.6, "presence_penalty": 1.0}
    changed = json.loads(own.read_text()) | defaults
    own.unlink()
    own.write_text(json.dumps(changed))
    with vllm_server(folder, log) as url:
        yield url


def test_three_engines(served: str, data: Path, command: Command, tmp_path: Path) -> None:
    folder = data / "msmarco-v1-dl19"
    candidates = tmp_path / "candidates.jsonl"
    candidates.write_text("".join((folder / "candidates.jsonl").read_text().splitlines(keepends=True)[:TOPICS]))
    engines = {
        "transformers": ["--rerank.engine.name", "transformers", "--rerank.model", "smollm2-135m"],
        "vllm": ["--rerank.engine.name", "vllm", "--rerank.model", "smollm2-135m", "--rerank.engine.args.dtype", "float32",
                 "--rerank.engine.args.enforce_eager", "true"],
        "openai": ["--rerank.engine.name", "openai", "--rerank.engine.base_url", served,
                   "--rerank.engine.continue_final_message", "true"],
    }  # fmt: skip
    tokenizer = ensure_embedded(None, progress=False)
    shared = ["--rerank.depth", DEPTH, "--rerank.passage_tokens", 32, "--rerank.max_model_len", 4096]
    shared += ["--rerank.max_bad", 1, "--rerank.sampling.max_tokens", 24, "--rerank.tokenizer", tokenizer]
    shared += ["--rerank.judge.repair", "close"]  # only a server's answers can differ if it is asked once more
    runs, answers = {}, {}
    for name, flags in engines.items():
        output = tmp_path / f"{name}.txt"
        arguments = [
            "rerank",
            "--candidates",
            candidates,
            "--output",
            output,
            "--rerank",
            "reasonrank",
            *flags,
            *shared,
        ]
        done = command(*arguments)
        assert done.returncode == 0, done.stderr[-3000:]
        statuses = re.search(r"calls +(\d+) judgements \((.+?)\)", done.stdout)
        assert statuses
        assert int(statuses[1]) == CALLS
        assert sum(map(int, re.findall(r"(\d+) [a-z]+", statuses[2]))) == CALLS
        answers[name] = read_answers(Path(f"{output}.journal.sqlite"))
        runs[name] = [line.split()[:4:2] for line in output.read_text().splitlines()]
    for name, run in runs.items():
        assert sorted(run) == sorted(runs["transformers"]), name
    different = {
        name: sum(a != b for a, b in zip(run, runs["transformers"], strict=True)) for name, run in runs.items()
    }
    differing = {n: sum(a[k].text != answers["transformers"][k].text for k in a) for n, a in answers.items()}
    print(f"documents at another rank than with transformers, of {len(runs['transformers'])}: {different}")
    print(f"answers that differ from those of transformers, of {CALLS}: {differing}")
    assert all(answer.keys() == answers["transformers"].keys() for answer in answers.values())
    assert max(differing.values()) < CALLS  # ties are rare: not every answer may differ


@pytest.mark.parametrize("model", ["smollm2-135m-rank", "smollm2-135m"])
def test_a_querys_likelihood_is_the_same_in_transformers_and_vllm(
    model: str, data: Path, command: Command, tmp_path: Path
) -> None:
    """The shipped adapter, merged there and beside its base here; and the base, which reads prompt and query at once."""
    candidates = tmp_path / "candidates.jsonl"
    candidates.write_text((data / "msmarco-v1-dl19" / "candidates.jsonl").read_text().splitlines(keepends=True)[0])
    scores, orders = {}, {}
    vllm = ["--rerank.engine.args.dtype", "float32", "--rerank.engine.args.enforce_eager", "true"]
    for name, flags in {"transformers": [], "vllm": vllm}.items():
        output = tmp_path / f"{name}.txt"
        arguments = ["rerank", "--candidates", candidates, "--output", output, "--rerank", "upr"]
        arguments += ["--rerank.model", model, "--rerank.depth", DEPTH, "--rerank.max_model_len", 1024]
        done = command(*arguments, "--rerank.engine.name", name, *flags)
        assert done.returncode == 0, done.stderr[-3000:]
        assert f"{DEPTH} ok" in done.stdout
        with closing(sqlite3.connect(f"{output}.journal.sqlite")) as journal:
            found = journal.execute("SELECT qid, docids, choices FROM calls").fetchall()
        scores[name] = {(qid, docids): next(iter(json.loads(choices).values())) for qid, docids, choices in found}
        orders[name] = [line.split()[2] for line in output.read_text().splitlines()]
    assert orders["vllm"] == orders["transformers"]
    assert scores["vllm"] == pytest.approx(scores["transformers"], abs=2e-3)
