"""What tests share: markers, a small collection, a tokenizer, whole runs in process, the real collections."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from pyserini_reasonrank.ir.metadata import RunRecord
from pyserini_reasonrank.records import Candidate, Query, Request
from pyserini_reasonrank.run.candidates import stream
from pyserini_reasonrank.run.pipeline import Task, rerank
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.settings import layers

ROOT = Path(__file__).parents[1]

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch loads; spinning threads starve shared cores

settings.register_profile("tests", deadline=None, print_blob=True)  # a busy machine is no reason to fail
settings.load_profile("tests")


SOAK = bool(os.environ.get("REASONRANK_SOAK"))

settings.register_profile("test", max_examples=100 if SOAK else 30)
settings.load_profile("test")


def more(*cases: Any) -> list[Any]:
    """Cases for ``parametrize`` that run in `make soak` only."""
    return [
        pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.soak_only) for case in cases
    ]


def replaced(words: Sequence[object], more: Sequence[object]) -> list[str]:
    """``words`` and ``more``, without what ``more`` gives another value: a command takes a flag once.

    Every flag of ``words`` has a value.
    """
    usual, given = list(map(str, words)), list(map(str, more))
    first = next((i for i, word in enumerate(usual) if word.startswith("--")), len(usual))
    pairs = zip(usual[first::2], usual[first + 1 :: 2], strict=True)
    return [*usual[:first], *(word for pair in pairs if pair[0] not in given for word in pair), *given]


def fuzz_examples(share: int) -> int:
    """The inputs of a fuzz target that has ``share`` percent of all: of 3,500, or of REASONRANK_FUZZ if that is set.

    The shares of all targets (``pytest -m fuzz``) add up to 100.
    """
    return max(1, int(os.environ.get("REASONRANK_FUZZ", "3500")) * share // 100)


MARKS: Mapping[str, tuple[str, ...]] = {
    "real/test_student.py": ("soak", "slow", "model", "jvm"),
    "real/test_every_reranker.py": ("slow", "model", "jvm"),
    "real/test_engines_agree.py": ("slow", "model", "vllm"),
    "real/test_search.py": ("slow", "model", "jvm"),
    "real/test_serve.py": ("slow", "model", "jvm"),
    "real/test_reproductions.py": ("slow", "model", "jvm"),
    "real/test_resume.py": ("soak", "slow", "model"),
    "engines/test_vllm.py": ("slow", "model", "vllm"),
    "engines/test_vllm_server.py": ("slow", "model", "vllm"),
    "engines/test_transformers.py": ("slow", "model"),
    "engines/test_transformers_internals.py": ("slow",),
    "engines/test_packed_attention.py": ("slow",),
    "engines/test_library_setup.py": ("slow",),
    "train/trainers/test_losses.py": ("slow",),
    "engines/test_ray.py": ("slow",),
    "train/trainers/test_real_policy.py": ("slow", "model"),
    "train/trainers/test_parallel.py": ("slow",),
    "train/trainers/test_sharded.py": ("slow",),
    "train/trainers/test_two_steps.py": ("slow",),
    "train/router/test_encoder.py": ("slow",),
    "train/trainers/test_dpo.py": ("slow",),
    "train/trainers/test_grpo.py": ("slow",),
    "train/trainers/test_grpo_script.py": ("slow",),
    "train/trainers/test_published_losses.py": ("slow",),
    "train/trainers/test_sft.py": ("slow",),
    "train/trainers/test_dev_callback.py": ("slow",),
    "train/test_recipe.py": ("slow", "jvm"),
    "train/distil": ("slow",),
    "train/experimental": ("slow",),
    "real/test_course.py": ("slow", "model", "jvm"),
    "models/test_embedded.py": ("slow", "model"),
    "integrations/test_real_model.py": ("slow", "model"),
    "integrations/test_mteb.py": ("slow",),
    "prompts/test_golden_prompts.py": ("model",),
    "run/test_starting.py": ("slow",),
    "train/test_export.py": ("slow",),
    "run/test_bounds.py": ("slow",),
    "run/test_many_faults.py": ("slow",),
    "demo/test_collection.py": ("slow",),
    "cli/test_keys_and_network.py": ("slow",),
    "train/data/test_released.py": ("slow",),
    "train/router/test_router.py": ("slow",),
    "cli/test_trace.py": ("slow",),
    "cli/test_selection_flags.py": ("slow",),
    "combine/test_cascade.py": ("slow",),
    "combine/test_aggregate.py": ("slow",),
    "serve/test_app.py": ("slow",),
    "real": ("slow",),
    "cli/test_interrupts.py": ("process",),
    "serve/test_mcp.py": ("process",),
    "serve/test_serve_command.py": ("process",),
    "host/test_startup.py": ("process",),
    "report/test_in_browser.py": ("process",),
    "rerankers/test_third_party.py": ("process",),
    "test_extend.py": ("process",),
}
"""Markers by file or folder of tests/, in the order in which a whole run starts them: the longest first, since xdist
gives each worker whole files. The first entry that matches a test applies; tests without one run last."""


@cache
def _entry(path: Path) -> int:
    """The position of the first entry of ``MARKS`` that matches a test file, or their number."""
    return next((i for i, entry in enumerate(MARKS) if path.is_relative_to(ROOT / "tests" / entry)), len(MARKS))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Import no file whose markers ``-m "not A and not B"`` excludes: importing TRL takes longer than many tests."""
    terms = [re.fullmatch(r"not (\w+)", term.strip()) for term in config.option.markexpr.split(" and ")]
    excluded = {term[1] for term in terms if term} if all(terms) else set()
    return True if excluded.intersection([*MARKS.values(), ()][_entry(collection_path)]) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by file and start the slow files first; ``-m`` selects afterwards."""
    for item in items:
        for name in [*MARKS.values(), ()][_entry(item.path)]:
            item.add_marker(name)
        if "command" in getattr(item, "fixturenames", ()):
            item.add_marker("process")
        if item.get_closest_marker("soak_only"):
            item.add_marker("soak")
            item.add_marker(pytest.mark.skipif(not SOAK, reason="one more case, which `make soak` tests"))
    items.sort(key=lambda item: _entry(item.path))


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real collections, ``REASONRANK_DATA``."""
    folder = Path(os.environ.get("REASONRANK_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real collections at {folder}; REASONRANK_DATA names their folder")
    return folder


@dataclass(frozen=True)
class Collection:
    """Topics with 25, 7, 1 and no candidates, in every form in which they can come in, and judgments for them."""

    folder: Path
    requests: tuple[Request, ...]
    grades: Mapping[str, Mapping[str, int]]

    @property
    def corpus(self) -> Path:
        return self.folder / "corpus.jsonl"

    @property
    def topics(self) -> Path:
        return self.folder / "topics.tsv"

    @property
    def run(self) -> Path:
        return self.folder / "run.txt"

    @property
    def qrels(self) -> Path:
        return self.folder / "qrels.txt"

    @property
    def candidates(self) -> Path:
        return self.folder / "candidates.jsonl"

    @property
    def inputs(self) -> list[str]:
        """The collection as the flags of ``rerank``."""
        return ["--run", str(self.run), "--topics", str(self.topics), "--corpus", str(self.corpus)]

    def gains(self, qid: str, docids: Sequence[str]) -> list[int]:
        return [self.grades[qid][docid] for docid in docids]


@pytest.fixture(scope="session")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    folder = tmp_path_factory.mktemp("collection")
    requests = []
    for number, (qid, size) in enumerate({"long": 25, "7": 7, "single": 1, "nothing": 0}.items()):
        candidates = tuple(
            Candidate(f"{qid}-d{i}", 30.0 - i, f"Passage {i} says what there is to say of topic {number}.")
            for i in range(size)
        )
        requests.append(Request(Query(qid, f"what is topic {number}"), candidates, number))
    found = Collection(
        folder,
        tuple(requests),
        {r.query.qid: {c.docid: (7 * i + 3) % 11 % 4 for i, c in enumerate(r.candidates)} for r in requests},
    )
    _write(found)
    return found


def _write(collection: Collection) -> None:
    corpus, topics, run, qrels, candidates = [], [], [], [], []
    for r in collection.requests:
        qid = r.query.qid
        topics.append(f"{qid}\t{r.query.text}")
        documents = [{"docid": c.docid, "score": c.score, "text": c.text} for c in r.candidates]
        candidates.append(json.dumps({"qid": qid, "query": r.query.text, "candidates": documents}))
        for rank, c in enumerate(r.candidates, 1):
            corpus.append(json.dumps({"id": c.docid, "contents": c.text}))
            run.append(f"{qid} Q0 {c.docid} {rank} {c.score} first")
            qrels.append(f"{qid} 0 {c.docid} {collection.grades[qid][c.docid]}")
    files = {
        collection.corpus: corpus,
        collection.topics: topics,
        collection.run: run,
        collection.qrels: qrels,
        collection.candidates: candidates,
    }
    for path, lines in files.items():
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


@pytest.fixture(scope="session")
def reasoned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a collection and ``run.txt``, a reranked run with reasoning; see ``reported.reasoned_run``."""
    from reported import reasoned_run

    return reasoned_run(tmp_path_factory.mktemp("reasoned"))


RunReranker = Callable[..., RunRecord]


@pytest.fixture
def run_reranker(collection: Collection, tmp_path: Path) -> RunReranker:
    """``run_reranker(name, flags, requests=..., output=...)``: a whole run, in this process."""

    def run(
        name: str,
        flags: Mapping[str, Any],
        requests: Sequence[Request] = collection.requests,
        output: Path = tmp_path / "run.txt",
        first_run: Path = collection.run,
    ) -> RunRecord:
        return whole_run(name, flags, requests, output, first_run)

    return run


def whole_run(
    name: str, flags: Mapping[str, Any], requests: Sequence[Request], output: Path, first_run: Path
) -> RunRecord:
    made = plan(*layers.load(name, dict(flags)))
    return asyncio.run(rerank(made, Task(stream(iter(requests)), output, first_run, "topics.tsv", ["rerank"])))


Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def command() -> Command:
    """``command("evaluate", ...)``: ``python -m pyserini_reasonrank evaluate ...`` in a process of its own."""

    def run(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "pyserini_reasonrank", *map(str, arguments)]
        return subprocess.run(words, capture_output=True, text=True, cwd=cwd, timeout=600, check=False)

    return run


@pytest.fixture(scope="session")
def tokenizer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level BPE with ChatML's control tokens: small, so that most words and all emoji take several tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|im_start|>", "<|im_end|>", "<s>", "[MASK]"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["the passage and the query of the search are ranked by relevance " * 3], trainer)
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(path))
    return path
