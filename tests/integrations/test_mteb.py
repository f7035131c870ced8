"""A small reranking task of one's own in the real ``mteb.evaluate``, without a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from pyserini_reasonrank import Failure, UsageError
from pyserini_reasonrank.engines.oracle import Oracle, OracleOptions
from pyserini_reasonrank.models.catalogue import Model
from pyserini_reasonrank.records import Call, Completion, Prompt, Sampling

mteb = pytest.importorskip("mteb", reason="needs MTEB: pip install '.[mteb]'")
datasets = pytest.importorskip("datasets")

from mteb.abstasks import AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.models.models_protocols import CrossEncoderProtocol

from pyserini_reasonrank.integrations.mteb import ReasonRankCrossEncoder

QUERIES = {"q1": "how do moths navigate", "q2": "how do moths navigate", "q3": "what emits light"}
CORPUS = {"lamps": "Lamps emit light.", "moths": "Moths keep a constant angle to the moon.", "cats": "Cats sleep."}
TOP = {"q1": ["lamps", "cats", "moths"], "q2": ["cats", "lamps"], "q3": ["cats", "moths", "lamps"]}
QRELS = {"q1": {"moths": 1}, "q2": {"lamps": 1}, "q3": {"lamps": 1}}


def task(prompt: str | dict[str, str] | None = None, kind: str = "Retrieval") -> Any:
    """A task with the queries and documents above."""

    class Moths(AbsTaskRetrieval):  # type: ignore[misc]
        metadata = TaskMetadata(
            name="Moths", description="moths", type=kind, prompt=prompt, dataset={"path": "none/none", "revision": "1"},
            eval_langs=["eng-Latn"], main_score="ndcg_at_10", category="t2t", bibtex_citation="",
        )  # fmt: skip

        def load_data(self, **_: Any) -> None:
            corpus = [{"id": k, "title": "About insects" if k == "moths" else "", "text": v} for k, v in CORPUS.items()]
            split = {
                "queries": datasets.Dataset.from_list([{"id": k, "text": v} for k, v in QUERIES.items()]),
                "corpus": datasets.Dataset.from_list(corpus),
                "relevant_docs": QRELS,
                "top_ranked": TOP,
            }
            self.dataset, self.data_loaded = {"default": {"test": split}}, True

    return Moths()


class Recorded(Oracle):
    """An oracle for lists numbered from 0 that keeps its prompts. ``right`` has the positions of relevant documents."""

    def __init__(self, folder: Path, right: Mapping[int, int]) -> None:
        qrels = folder / "qrels.txt"
        qrels.write_text("".join(f"{qid} 0 {docid} 1\n" for qid, docid in (right or {0: 0}).items()))
        super().__init__(Model("recorded-oracle", "recorded-oracle"), OracleOptions(qrels=str(qrels)))
        self.prompts: list[str] = []
        self.shown: dict[str, Sequence[str]] = {}

    async def generate(self, prompt: Prompt, sampling: Sampling, call: Call) -> Completion:
        self.prompts.append(str(prompt))
        return await super().generate(prompt, sampling, call)


@pytest.fixture
def engine(tmp_path: Path) -> Recorded:
    return Recorded(tmp_path, {0: 2, 1: 1, 2: 2})


def evaluated(model: Any, task: Any, **more: Any) -> Any:
    """The scores of the task's test split."""
    result = mteb.evaluate(model, task, cache=None, show_progress_bar=False, co2_tracker=False, **more)
    return result.task_results[0].scores["test"][0]


def test_a_task_runs_through_evaluate(engine: Recorded, tmp_path: Path) -> None:
    model = ReasonRankCrossEncoder("reasonrank", engine=engine)
    assert isinstance(model, CrossEncoderProtocol)
    scores = evaluated(model, task(), prediction_folder=tmp_path / "predictions")
    assert scores["ndcg_at_10"] == 1.0
    assert len(engine.prompts) == 3  # two queries of the same text are two lists
    assert "About insects" in engine.prompts[0]
    [file] = (tmp_path / "predictions").glob("*.json")
    assert '"moths":2.0' in file.read_text().replace(" ", "")
    model.close()


def pairs(lists: Sequence[tuple[str, Sequence[str]]], size: int = 2) -> tuple[Any, Any]:
    """Batches of queries and of documents as a loader of MTEB gives them."""
    rows = [(query, text) for query, texts in lists for text in texts]
    batches = [rows[i : i + size] for i in range(0, len(rows), size)]
    return [{"text": [q for q, _ in b]} for b in batches], [{"text": [t for _, t in b]} for b in batches]


def predicted(model: Any, queries: Any, documents: Any, kind: str = "Retrieval", prompt: Any = None) -> list[float]:
    metadata = task(prompt, kind).metadata
    return list(model.predict(queries, documents, task_metadata=metadata, hf_split="test", hf_subset="default"))


def test_consecutive_pairs_of_a_query_are_one_list_across_batches(engine: Recorded) -> None:
    with_lists = pairs([("a", ["x", "y", "z"]), ("b", ["x", "y"]), ("a", ["u", "v", "w", "x"])])
    model = ReasonRankCrossEncoder("reasonrank", engine=engine)
    assert predicted(model, *with_lists) == [1, 0, 2, 0, 1, 2, 1, 3, 0]
    assert len(engine.prompts) == 3
    assert predicted(model, [], []) == []


def test_lists_of_reranking_tasks_are_shuffled_so_that_their_order_gives_nothing_away(tmp_path: Path) -> None:
    """An engine whose answers can't be read keeps the order that it was shown."""
    lists = pairs([(f"query {i}", ["relevant", "x", "y", "z"]) for i in range(40)], size=7)

    def first(kind: str, **settings: Any) -> int:
        model = ReasonRankCrossEncoder("reasonrank", engine=Unreadable(tmp_path, {}), **settings)
        scores = predicted(model, *lists, kind)
        assert scores == predicted(model, *lists, kind)
        assert sorted(scores) == sorted([0, 1, 2, 3] * 40)
        return sum(score == 3 for score in scores[::4])

    assert first("Retrieval") == 40
    assert first("Reranking", shuffle=False) == 40
    assert 2 <= first("Reranking") <= 20
    assert 2 <= first("Retrieval", shuffle=True) <= 20


class Unreadable(Recorded):
    async def generate(self, prompt: Prompt, sampling: Sampling, call: Call) -> Completion:
        return Completion("I would rather not say.")


@pytest.mark.parametrize("prompt", ["Find claims that contradict.", {"query": "Find claims that contradict."}])
def test_the_prompt_of_a_task_is_the_instruction(engine: Recorded, prompt: Any) -> None:
    model = ReasonRankCrossEncoder("rank1", prompt="relevant", engine=engine)
    evaluated(model, task(prompt))
    assert all("Find claims that contradict." in shown for shown in engine.prompts)
    engine.prompts.clear()
    evaluated(model, task())
    assert not any("contradict" in shown for shown in engine.prompts)


def test_an_instruction_of_ones_own_comes_first(engine: Recorded) -> None:
    model = ReasonRankCrossEncoder("reasonrank", engine=engine, instruction="Mine, for {query}.")
    evaluated(model, task("Find claims that contradict."))
    assert all("Mine, for" in shown and "contradict" not in shown for shown in engine.prompts)


def test_a_prompt_that_cannot_be_shown_is_a_warning(engine: Recorded) -> None:
    model = ReasonRankCrossEncoder("reasonrank", engine=engine)
    with pytest.warns(UserWarning, match="the prompt of task Moths is not used: .*does not show an instruction"):
        assert evaluated(model, task("Find claims that contradict."))["ndcg_at_10"] == 1.0


def test_the_metadata_name_the_reranker_and_its_settings(engine: Recorded, tmp_path: Path) -> None:
    meta = ReasonRankCrossEncoder("reasonrank", engine=engine, depth=7, journal=tmp_path / "j").mteb_model_meta
    assert meta.name == "pyserini_reasonrank/reasonrank-recorded-oracle"
    assert meta.is_cross_encoder
    assert meta.experiment_kwargs["depth"] == "7"
    assert "journal" not in meta.experiment_kwargs
    other = ReasonRankCrossEncoder("reasonrank", engine=engine, depth=8).mteb_model_meta
    assert other.experiment_name != meta.experiment_name


def test_what_cannot_be_reranked_is_named(engine: Recorded) -> None:
    with pytest.raises(UsageError, match="device='cuda': choose the device"):
        ReasonRankCrossEncoder("reasonrank", device="cuda")
    model = ReasonRankCrossEncoder("reasonrank", engine=engine)
    with pytest.raises(UsageError, match="MTEB passed image without text"):
        predicted(model, [{"image": [1]}], [{"image": [1]}])


class Down(Recorded):
    async def generate(self, prompt: Prompt, sampling: Sampling, call: Call) -> Completion:
        return Completion(finish_reason="error", error="503 overloaded")


def test_a_failed_call_ends_the_evaluation(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="503 overloaded"):
        evaluated(ReasonRankCrossEncoder("reasonrank", engine=Down(tmp_path, {})), task())
