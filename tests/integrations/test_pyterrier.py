"""Pipelines of the real PyTerrier over data frames, without its JVM: ranking, columns, experiments, the journal, bad rows."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import Collection

from pyserini_reasonrank import Reranker, UsageError
from pyserini_reasonrank.engines.oracle import Oracle, OracleOptions
from pyserini_reasonrank.models.catalogue import Model
from pyserini_reasonrank.records import Call, Completion, Prompt, Sampling

pt = pytest.importorskip("pyterrier", reason="needs PyTerrier: pip install '.[pyterrier]'")
pd = pytest.importorskip("pandas")

from pyserini_reasonrank.integrations.pyterrier import ReasonRank

SMALL: Mapping[str, Any] = {"window_size": 4, "stride": 2}
ADDED = ["score", "rank", "reasoning", "statuses"]


class Counting(Oracle):
    """An oracle that counts its calls and keeps the prompts."""

    def __init__(self, qrels: str) -> None:
        super().__init__(Model("counting", "counting"), OracleOptions(qrels=qrels))
        self.prompts: list[str] = []

    async def generate(self, prompt: Prompt, sampling: Sampling, call: Call) -> Completion:
        self.prompts.append(str(prompt))
        return await super().generate(prompt, sampling, call)


@pytest.fixture
def engine(collection: Collection) -> Counting:
    return Counting(str(collection.qrels))


@pytest.fixture
def reranker(engine: Counting) -> Iterator[ReasonRank]:
    with ReasonRank("reasonrank", engine=engine, strategy=SMALL) as made:
        yield made


@pytest.fixture
def results(collection: Collection) -> Any:
    """A result frame: the candidates of all queries that have some, with PyTerrier's docid."""
    rows = [
        {"qid": r.query.qid, "query": r.query.text, "docid": 900 + i, "docno": c.docid, "rank": i, "score": c.score,
         "text": c.text, "title": f"Title {i}"}
        for r in collection.requests for i, c in enumerate(r.candidates)
    ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture
def topics(collection: Collection) -> Any:
    return pd.DataFrame([{"qid": r.query.qid, "query": r.query.text} for r in collection.requests])


@pytest.fixture
def first(results: Any) -> Any:
    """A first stage: the rows of ``results`` for the topics that it is given."""
    return pt.apply.generic(lambda inp: results[results["qid"].isin(set(inp["qid"]))].drop(columns="text"))


@pytest.fixture
def texts(collection: Collection) -> Any:
    """As ``pt.text.get_text``: it adds the texts of documents."""
    stored = {c.docid: c.text for r in collection.requests for c in r.candidates}
    return pt.apply.text(lambda row: stored[row["docno"]])


@pytest.mark.parametrize(("threshold", "kept"), [(0.5, 2), (0.999, 4)])
def test_rows_that_are_not_relevant_are_left_out(
    results: Any, engine: Counting, collection: Collection, threshold: float, kept: int
) -> None:
    with ReasonRank("rank1", engine=engine, keep="relevant", threshold=threshold) as made:
        found = made(results)
    grades = {docid: grade for of_query in collection.grades.values() for docid, grade in of_query.items()}
    assert set(found["docno"]) == {docid for docid, grade in grades.items() if grade >= kept}
    assert (found["rank"].dtype, found["score"].dtype) == ("int64", "float64")
    assert list(found.columns) == made.transform_outputs(results.columns)


def test_a_pipeline_ranks_every_query(
    collection: Collection, topics: Any, first: Any, texts: Any, reranker: ReasonRank, results: Any
) -> None:
    found = (first % 20 >> texts >> reranker)(topics)
    assert set(found["qid"]) == {"long", "7", "single"}  # the fourth topic has no candidates
    for request in collection.requests[:3]:
        rows = found[found["qid"] == request.query.qid]
        n = len(request.candidates[:20])
        assert list(rows["rank"]) == list(range(n))
        assert list(rows["score"]) == [float(n - i) for i in range(n)]
        documents = [{"docid": c.docid, "text": c.text, "score": c.score} for c in request.candidates[:20]]
        with Reranker("reasonrank", strategy=SMALL, engine={"name": "oracle", "qrels": str(collection.qrels)}) as api:
            ranked = api.rank(request.query.text, documents, qid=request.query.qid)
        assert list(rows["docno"]) == [d.docid for d in ranked]
    assert set(found[found["qid"] == "7"]["statuses"]) == {"3 ok"}
    assert all(found[found["qid"] == "7"]["reasoning"])
    docids = dict(zip(results["docno"], results["docid"], strict=True))
    assert all(docids[row.docno] == row.docid for row in found.itertuples())


def test_the_experiment_of_pyterrier_measures_it(
    collection: Collection, topics: Any, first: Any, texts: Any, reranker: ReasonRank
) -> None:
    qrels = pd.DataFrame(
        [
            {"qid": q, "docno": d, "label": label}
            for q, grades in collection.grades.items()
            for d, label in grades.items()
        ]
    )
    table = pt.Experiment(
        [first, first >> texts >> reranker], topics[topics["qid"] == "long"], qrels, ["ndcg_cut_5"], names=["first", "ours"],
        validate="error",
    )  # fmt: skip
    assert list(table["name"]) == ["first", "ours"]
    assert table["ndcg_cut_5"][1] > table["ndcg_cut_5"][0]
    assert table["ndcg_cut_5"][1] > 0.9


def test_the_columns_are_declared(reranker: ReasonRank, results: Any, texts: Any, first: Any) -> None:
    assert pt.inspect.transformer_inputs(reranker) == [["qid", "query", "docno", "text"]]
    assert pt.inspect.transformer_outputs(reranker, ["qid", "query", "docno", "text"]) == [
        "qid", "query", "docno", "text", *ADDED,
    ]  # fmt: skip
    declared = pt.inspect.transformer_outputs(reranker, list(results.columns))
    assert declared == list(reranker(results).columns) == list(reranker(results[:0]).columns)
    with pytest.raises(pt.validate.InputValidationError, match=r"needs the column text: add it .*get_text"):
        pt.inspect.transformer_outputs(reranker, ["qid", "query", "docno", "score", "rank"])
    assert pt.schematic.transformer_schematic(reranker)["label"] == "ReasonRank"
    assert pt.inspect.transformer_inputs(texts >> reranker)


def test_arguments_are_read_back(engine: Counting) -> None:
    made = ReasonRank("reasonrank", engine=engine, depth=7)
    again = pt.inspect.transformer_apply_attributes(made, reranker="rank1")
    assert repr(made) == "ReasonRank('reasonrank')"
    assert (again.reranker, again.settings) == ("rank1", {"engine": engine, "depth": 7})


def test_the_first_stage_order_is_the_score_then_the_rank_then_the_rows(collection: Collection, results: Any) -> None:
    """A strategy of one window over the first four leaves the others in their order."""
    rows = results[results["qid"] == "7"]
    docnos = list(rows["docno"])
    shuffled = rows.sample(frac=1, random_state=3)
    oracle = {"name": "oracle", "qrels": str(collection.qrels)}
    with ReasonRank("reasonrank", engine=oracle, depth=4, fuse="none") as reranker:
        for given, expected in (
            (shuffled, docnos),
            (shuffled.drop(columns="score"), docnos),
            (rows.drop(columns=["score", "rank"])[::-1], docnos[::-1]),
            (rows.assign(score=1.0)[::-1], docnos),
        ):
            found = list(reranker(given)["docno"])
            assert set(found[:4]) == set(expected[:4])
            assert found[4:] == expected[4:]


def test_fields_of_a_document_reach_the_prompt(engine: Counting, results: Any) -> None:
    rows = results[results["qid"] == "7"].assign(id="not a docid", contents="not the text")
    with ReasonRank("reasonrank", engine=engine) as reranker:
        assert set(reranker(rows)["docno"]) == set(rows["docno"])
    assert "Title 3" in engine.prompts[0]
    assert "not the text" not in engine.prompts[0]


def test_a_journal_spares_calls(collection: Collection, results: Any, tmp_path: Path) -> None:
    found, calls = [], []
    for _ in range(2):
        engine = Counting(str(collection.qrels))
        with ReasonRank("reasonrank", engine=engine, strategy=SMALL, journal=tmp_path / "calls.sqlite") as reranker:
            found.append(reranker(results))
        calls.append(len(engine.prompts))
    assert calls[0] > 5
    assert calls[1] == 0
    pd.testing.assert_frame_equal(*found)


def test_a_reranker_of_the_python_api_is_shared(engine: Counting, results: Any) -> None:
    with Reranker("reasonrank", engine=engine) as shared:
        assert len(ReasonRank(shared)(results)) == len(results)
        with pytest.raises(UsageError, match=r"has its own settings: pass depth, journal to Reranker"):
            ReasonRank(shared, depth=3, journal="calls.sqlite")


def test_mappings_in_mappings_out(reranker: ReasonRank, results: Any) -> None:
    rows = results[results["qid"] == "7"].to_dict(orient="records")
    found = reranker(rows)
    assert [row["rank"] for row in found] == list(range(7))
    assert isinstance(found, list)


def test_an_empty_frame_stays_empty_and_has_the_columns(reranker: ReasonRank, results: Any, engine: Counting) -> None:
    for empty in (results[:0], pd.DataFrame(), pd.DataFrame(columns=["qid", "query", "docno", "text"])):
        found = reranker(empty)
        assert len(found) == 0
        assert {"qid", "query", "docno", "text", *ADDED} <= set(found.columns)
        assert found["rank"].dtype == "int64"
    assert list(reranker([])) == []
    assert not engine.prompts


def test_qids_that_are_numbers_keep_their_type(reranker: ReasonRank, results: Any) -> None:
    found = reranker(results[results["qid"] == "7"].assign(qid=7))
    assert list(found["qid"]) == [7] * 7
    assert set(found["statuses"]) == {"3 ok"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"text": None}, r"qid 7: document 7-d0 has no text \(it is None\)"),
        ({"text": float("nan")}, r"qid 7: document 7-d0 has no text \(it is nan\)"),
        ({"query": None}, r"the query of qid 7 is None; it has to be a string"),
        ({"docno": 3}, r"qid 7: docno 3 is not a string"),
        ({"docno": "same"}, r"qid 7: document same occurs twice"),
        ({"score": None}, r"qid 7: the score of document 7-d0 is .*; it has to be a finite number"),
        ({"score": float("inf")}, r"qid 7: the score of document 7-d0 is .*; it has to be a finite number"),
    ],
)
def test_rows_that_cannot_be_ranked_are_named(
    reranker: ReasonRank, results: Any, change: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        reranker(results[results["qid"] == "7"].astype(object).assign(**change))


def test_a_qid_with_two_queries_is_named(reranker: ReasonRank, results: Any) -> None:
    with pytest.raises(UsageError, match="qid 7 has several queries: 'what is topic 0', 'what is topic 1'"):
        reranker(results[results["qid"] != "single"].assign(qid="7"))


def test_missing_columns_are_named(reranker: ReasonRank, topics: Any, first: Any) -> None:
    with pytest.raises(pt.validate.InputValidationError, match="ReasonRank needs the columns docno, text"):
        reranker(topics)
    with pytest.raises(pt.validate.InputValidationError, match="ReasonRank needs the column text"):
        (first >> reranker)(topics)


def test_no_jvm_starts() -> None:
    assert not pt.java.started()
    assert "jnius" not in sys.modules
