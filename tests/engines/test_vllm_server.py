"""The openai engine with vLLM's own server: judges of two answers by /generative_scoring, and hits of the prefix cache."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from math import exp
from pathlib import Path
from typing import Any

import pytest
from conftest import RunReranker
from vllm_serving import vllm_server

from pyserini_reasonrank.ir.metadata import RunRecord
from pyserini_reasonrank.journal_reader import export
from pyserini_reasonrank.models.embedded import ensure_embedded
from pyserini_reasonrank.records import Candidate, Query, Request

pytestmark = [
    pytest.mark.skipif(not (find_spec("vllm") and find_spec("torch")), reason="vLLM is not installed"),
    pytest.mark.soak_only,
]

BACKGROUND = "I read about old trains and the coal that they burnt, and nobody could say how fast they were. " * 20
"""Makes the beginning of the prompts longer than a block of the prefix cache: vLLM has 128 tokens in one on a CPU."""
REQUESTS = tuple(
    Request(
        Query(f"q{n}", f"{BACKGROUND}Why are old trains slow in the year {1900 + n}?"),
        tuple(
            Candidate(f"d{i}", 9.0 - i, f"Passage {i} is about trains and the year {1900 + i * n}.") for i in range(6)
        ),
        n,
    )
    for n in range(3)
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    model = ensure_embedded(None, progress=False)
    with vllm_server(model, tmp_path_factory.mktemp("server") / "log.txt", "--enable-prompt-tokens-details") as url:
        yield url


def scored_requests(url: str) -> int:
    """How many requests to /generative_scoring the server has counted."""
    with urllib.request.urlopen(f"{url.removesuffix('/v1')}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    lines = re.findall(r'^http_requests_total\{[^}]*handler="/generative_scoring"[^}]*\} ([\d.]+)$', text, re.MULTILINE)
    return sum(int(float(count)) for count in lines)


def shares(record: RunRecord) -> dict[tuple[str, str], float]:
    """The probability of the first answer among the two, by query and document."""
    found = {}
    for row in export(record.journal):
        [call] = row["calls"]
        choices: dict[str, Any] = call["choices"]
        first, second = (exp(choices[name]) for name in ("true", "false"))
        found[row["qid"], row["docids"][0]] = first / (first + second)
    return found


def test_vllm_scores_the_passages_of_a_query_in_one_request(
    served: str, run_reranker: RunReranker, tmp_path: Path
) -> None:
    def run(name: str, **engine: Any) -> RunRecord:
        settings = {"name": "openai", "base_url": served, "continue_final_message": True, **engine}
        flags = {
            "model": "smollm2",
            "engine": settings,
            "judge": {"think": False},
            "sampling": {"max_tokens": 64},
            "max_bad": 1,
        }
        return run_reranker("rank1", flags, REQUESTS, tmp_path / name)

    before = scored_requests(served)
    scored = run("scored")
    assert scored_requests(served) == before + len(REQUESTS)
    assert scored.tally.calls == 18
    read = run("read", generative_scoring=False, top_logprobs=20)
    assert scored_requests(served) == before + len(REQUESTS)
    assert shares(scored).keys() == shares(read).keys()
    assert read.tally.cached_tokens > 0.5 * read.tally.prompt_tokens
    print(f"prompt tokens from the prefix cache: {read.tally.cached_tokens} of {read.tally.prompt_tokens}")
    known = [key for key in shares(read) if 0.05 < shares(read)[key] < 0.95]
    print(f"shares: {shares(scored)}, read from the likeliest tokens: {shares(read)}")
    assert {key: shares(scored)[key] for key in known} == pytest.approx(
        {key: shares(read)[key] for key in known}, abs=0.2
    )
