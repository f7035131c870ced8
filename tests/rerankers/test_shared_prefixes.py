"""What prompts of one query share at their beginning, which an engine's prefix cache reads once."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from conftest import RunReranker

from pyserini_reasonrank.engines.generative_scoring import shared_length
from pyserini_reasonrank.engines.oracle import Oracle
from pyserini_reasonrank.records import Call, Candidate, Completion, Prompt, Query, Request, Sampling
from pyserini_reasonrank.run.cost import estimate
from pyserini_reasonrank.run.parts import SinglePlan
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.run.session import fitter_for
from pyserini_reasonrank.settings import layers, rerankers

MOST = 20
QUERY = "which old trains ran along the river"
PASSAGE_FIRST = {"upr"}
"""The likelihood of a query is read after the passage, so the query can't come first."""


def whole(prompt: Prompt) -> str:
    return "\n".join(f"{m.role}: {m.content}" for m in prompt.messages) + f"\n{prompt.prefill}"


def plans() -> list[Any]:
    return [pytest.param(name, id=name) for name in rerankers.names() if name != "route"]


def parts_of(name: str) -> dict[str, SinglePlan]:
    engine = {"name": "oracle", "qrels": "qrels.txt"}
    made = plan(*layers.load(name, {"engine": engine}))
    return dict(made.parts)


@pytest.mark.parametrize("name", plans())
def test_prompts_of_a_query_differ_only_from_the_first_passage_on(name: str) -> None:
    for part in parts_of(name).values():
        widest = estimate(part, 100).parts[""].widest
        n = min(widest or 1, MOST)
        texts = [f"{'x' if i < n else 'y'} passage {i}" for i in range(2 * n)]
        request = Request(Query("q", QUERY), tuple(Candidate(f"d{i}", 1.0, text) for i, text in enumerate(texts)))
        fitter = fitter_for(part, widest)
        prepared = fitter.prepare(request)
        keep = n // 2 or None
        one, other = (whole(fitter.render(prepared, list(shown), keep)) for shown in (range(n), range(n, 2 * n)))
        shared = one[: shared_length([one, other])]
        assert shared == one.partition("x passage 0")[0]
        assert (QUERY in shared) == (name not in PASSAGE_FIRST)


def asked_by(
    name: str, flags: dict[str, Any], run: RunReranker, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """The prompts of a run over two queries of six documents, in the order in which the engine gets them."""
    qrels = folder / "qrels.txt"
    qrels.write_text("q0 0 d3 1\nq1 0 d2 1\n", encoding="utf-8")
    asked: list[str] = []
    generate = Oracle.generate

    async def recorded(self: Oracle, prompt: Prompt, sampling: Sampling, call: Call) -> Completion:
        asked.append(whole(prompt))
        return await generate(self, prompt, sampling, call)

    monkeypatch.setattr(Oracle, "generate", recorded)
    requests = [
        Request(Query(f"q{n}", f"topic {n}"), tuple(Candidate(f"d{i}", 9.0 - i, f"passage {i}") for i in range(6)), n)
        for n in range(2)
    ]
    run(name, {**flags, "engine": {"name": "oracle", "qrels": str(qrels)}}, requests)
    return asked


def test_samples_of_one_window_are_asked_one_after_another(
    run_reranker: RunReranker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = {"name": "sliding", "window_size": 4, "stride": 2}
    flags = {
        "combine": {"name": "aggregate", "samples": 3, "shuffle": 0},
        "arms": {"ranker": {"reranker": "reasonrank", "strategy": windows, "sampling": {"temperature": 0.5}}},
    }
    asked = asked_by("self-consistency", flags, run_reranker, tmp_path, monkeypatch)
    assert len(asked) == 3 * len(set(asked)) == 12
    for topic in ("topic 0", "topic 1"):
        own = [prompt for prompt in asked if topic in prompt]
        assert sum(one != next_one for one, next_one in pairwise(own)) == len(set(own)) - 1 == 1


def test_samples_of_a_second_stage_share_the_prompt_of_the_first(
    run_reranker: RunReranker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = {"strategy": {"k": 2, "samples": 4}}
    asked = asked_by("retro-star", flags, run_reranker, tmp_path, monkeypatch)
    assert len(asked) == 2 * (6 + 2 * 4)
    assert len(set(asked)) == 2 * 6
    resampled = {prompt for prompt in asked if asked.count(prompt) > 1}
    assert [asked.count(prompt) for prompt in resampled] == [5] * 4
    for prompt in resampled:
        places = [place for place, other in enumerate(asked) if other == prompt]
        assert places[1:] == list(range(places[1], places[1] + 4))
