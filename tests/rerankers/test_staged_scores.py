"""The scores of the two stages of ``staged`` in one ranking: means above, single scores below, fused on one scale; and
several answers to one question."""

from __future__ import annotations

from typing import Any

import pytest

from pyserini_reasonrank import Reranker
from pyserini_reasonrank.engines import Engine, EngineOptions
from pyserini_reasonrank.models.catalogue import Model
from pyserini_reasonrank.records import Call, Completion, Prompt, Sampling
from pyserini_reasonrank.strategies import STRATEGIES, StrategyEntry
from pyserini_reasonrank.strategies.protocols import Sample

ANSWERS = {("a", "stage 1"): 90, ("a", "stage 2"): 40, ("b", "stage 1"): 60, ("c", "stage 1"): 10}
DOCUMENTS = [{"docid": docid, "text": docid, "score": 1.0} for docid in "abc"]


class Scores(Engine[EngineOptions]):
    """Gives the score of a document in a stage; in the second stage, 20 more in every other sample."""

    name = "scores"
    without_model = True

    async def generate(self, prompt: Prompt, sampling: Sampling, call: Call) -> Completion:
        score = ANSWERS[call.docids[0], call.label] + 20 * (call.label == "stage 2" and call.repeat.vote % 2)
        return Completion(f"<score>{score}</score>")


@pytest.mark.parametrize(("fuse", "order"), [("none", "abc"), ("z-score", "bac"), ("min-max", "bac")])
def test_means_and_single_scores_are_on_one_scale(fuse: str, order: str) -> None:
    engine: Any = Scores(Model("scores", "scores"), EngineOptions())
    with Reranker("retro-star", engine=engine, strategy={"k": 1, "samples": 4}, fuse=fuse) as reranker:
        ranked = reranker.rank("q", DOCUMENTS)
    assert {one.docid: one.llm_score for one in ranked} == {"a": 50.0, "b": 60.0, "c": 10.0}
    assert "".join(one.docid for one in ranked) == order


async def asked_four_times(n: int, judge: Sample) -> list[int]:
    for again, samples in enumerate((3, 2, 0, 4)):
        await judge([0], "stage 2", samples=samples, again=again)
    return list(range(n))


def test_every_further_answer_to_a_question_is_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    votes = list[int]()

    class Counting(Scores):
        async def generate(self, prompt: Prompt, sampling: Sampling, call: Call) -> Completion:
            votes.append(call.repeat.vote)
            return await super().generate(prompt, sampling, call)

    monkeypatch.setitem(STRATEGIES, "often", StrategyEntry(asked_four_times, frozenset({"rating"})))
    engine: Any = Counting(Model("scores", "scores"), EngineOptions())
    with Reranker("retro-star", engine=engine, strategy={"name": "often"}, depth=1) as reranker:
        reranker.rank("q", DOCUMENTS[:1])
    assert votes == [*range(10)]
