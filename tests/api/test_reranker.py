"""The Python API: the same rankings as the command line, from scripts, threads, coroutines and notebooks."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Collection, RunReranker

import pyserini_reasonrank
from pyserini_reasonrank import Failure, RankedDocuments, Reranker, UsageError
from pyserini_reasonrank.engines.oracle import Oracle, OracleOptions
from pyserini_reasonrank.ir.runs import read_run
from pyserini_reasonrank.models.catalogue import Model
from pyserini_reasonrank.records import Call, Candidate, Completion, Prompt, Sampling, Status
from pyserini_reasonrank.settings import layers
from pyserini_reasonrank.settings.flags import lift

SMALL: Mapping[str, Any] = {"window_size": 4, "stride": 2}


@pytest.fixture
def oracle(collection: Collection) -> Mapping[str, Any]:
    return {"name": "oracle", "qrels": str(collection.qrels)}


@pytest.fixture
def reranker(oracle: Mapping[str, Any]) -> Iterator[Reranker]:
    with Reranker("reasonrank", engine=oracle, strategy=SMALL) as made:
        yield made


def documents(collection: Collection, place: int) -> list[dict[str, Any]]:
    return [{"docid": c.docid, "text": c.text, "score": c.score} for c in collection.requests[place].candidates]


def best(collection: Collection, qid: str) -> list[str]:
    grades = collection.grades[qid]
    return sorted(grades, key=lambda docid: -grades[docid])


def rank(reranker: Reranker, collection: Collection, place: int) -> RankedDocuments:
    request = collection.requests[place]
    return reranker.rank(request.query.text, documents(collection, place), qid=request.query.qid)


# --- results


def test_a_ranking_holds_the_documents_that_were_passed_in(reranker: Reranker, collection: Collection) -> None:
    given = documents(collection, 1)
    ranked = reranker.rank("what is topic 1", given, qid="7")
    assert len(ranked) == 7
    assert {id(d.document) for d in ranked} == {id(document) for document in given}
    assert [d.rank for d in ranked] == list(range(1, 8))
    assert [d.score for d in ranked] == [7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0]
    gains = collection.grades["7"]
    assert gains[ranked[0].docid] == max(gains.values())
    assert ranked[0].first_stage_score == ranked[0].document["score"]
    assert ranked.top(2) == list(ranked[:2])
    assert ranked.statuses == {Status.OK: 3}
    assert ranked.reasoning
    assert (ranked.qid, ranked.query) == ("7", "what is topic 1")


def test_the_order_is_that_of_the_command_line(
    reranker: Reranker, collection: Collection, run_reranker: RunReranker, oracle: Mapping[str, Any]
) -> None:
    outcome = run_reranker("reasonrank", {"engine": dict(oracle), "strategy": dict(SMALL)})
    run = read_run(outcome.output)
    for place, request in enumerate(collection.requests):
        ranked = rank(reranker, collection, place)
        assert [d.docid for d in ranked] == [hit.docid for hit in run.get(request.query.qid, [])]


def test_a_ranking_is_a_dataframe_and_a_run(reranker: Reranker, collection: Collection, tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    ranked = rank(reranker, collection, 1)
    frame = ranked.to_dataframe()
    assert list(frame["docid"]) == [d.docid for d in ranked]
    assert list(frame["rank"]) == list(range(1, 8))
    assert set(frame["qid"]) == {"7"}
    (tmp_path / "run.txt").write_text(ranked.to_run("q1", tag="mine"))
    [(qid, hits)] = read_run(tmp_path / "run.txt").items()
    assert (qid, [hit.docid for hit in hits]) == ("q1", [d.docid for d in ranked])
    assert ranked.to_run().splitlines()[0].split() == ["7", "Q0", ranked[0].docid, "1", "7.000000", "reasonrank-oracle"]
    with pytest.raises(UsageError, match="white space"):
        ranked.to_run("q 1")


def test_scores_of_a_pointwise_reranker(oracle: Mapping[str, Any], collection: Collection) -> None:
    with Reranker("rank1", engine=oracle) as reranker:
        ranked = rank(reranker, collection, 1)
        scores = [d.llm_score for d in ranked if d.llm_score is not None]
        assert len(scores) == 7
        assert scores == sorted(scores, reverse=True)
    assert all(d.confidence is None for d in ranked)


def test_confidence_of_several_rankings(oracle: Mapping[str, Any], collection: Collection) -> None:
    with Reranker("self-consistency", engine=oracle, combine={"samples": 2}) as reranker:
        found = [d.confidence for d in rank(reranker, collection, 1)]
    assert all(confidence is not None and 0.5 <= confidence <= 1.0 for confidence in found)
    assert found[0] == 1.0  # both rankings begin with the best


# --- what goes in


@dataclass
class LuceneDocument:
    fields: Mapping[str, str]

    def get(self, name: str) -> str | None:
        return self.fields.get(name)


@dataclass
class Hit:
    docid: str
    score: float
    lucene_document: LuceneDocument


def test_strings_mappings_candidates_and_hits_are_documents(reranker: Reranker, collection: Collection) -> None:
    candidates = collection.requests[1].candidates
    hits = [
        Hit(c.docid, c.score, LuceneDocument({"raw": f'{{"id": "x", "contents": "{c.text}"}}'})) for c in candidates
    ]
    by_form = [
        reranker.rank("what is topic 1", given, qid="7")
        for given in (
            documents(collection, 1),
            candidates,
            hits,
            [{"_id": c.docid, "title": "", "contents": c.text, "score": c.score} for c in candidates],
        )
    ]
    assert len({tuple(d.docid for d in ranked) for ranked in by_form}) == 1
    assert by_form[2][0].document in hits
    texts = reranker.rank("what is topic 1", [c.text for c in candidates])
    assert sorted(d.docid for d in texts) == [str(i) for i in range(7)]
    assert texts[0].document == candidates[int(texts[0].docid)].text
    assert texts[0].first_stage_score is None


def test_first_stage_scores_are_fused_only_if_there_are_any(oracle: Mapping[str, Any], collection: Collection) -> None:
    candidates = collection.requests[1].candidates
    texts = [{"docid": c.docid, "text": c.text} for c in candidates]
    with Reranker("reasonrank", engine=oracle, fuse={"method": "min-max", "weight": 0.0}) as reranker:
        given = [float(i) for i in range(7)]
        scored = reranker.rank("what is topic 1", texts, scores=given, qid="7")
        assert [d.docid for d in scored] == [
            c.docid for c in reversed(candidates)
        ]  # all the weight is the first stage's
        assert scored[0].first_stage_score == 6.0
        unscored = reranker.rank("what is topic 1", texts, qid="7")
        gains = [collection.grades["7"][d.docid] for d in unscored]
        assert gains == sorted(gains, reverse=True)


def test_a_prompt_with_scores_needs_scores(oracle: Mapping[str, Any]) -> None:
    with Reranker("insertrank", engine=oracle) as reranker:
        with pytest.raises(UsageError, match="insertrank shows the LLM the first-stage score of each document"):
            reranker.rank("q", ["one", "two"])
        assert len(reranker.rank("q", ["one", "two"], scores=[2.0, 1.0])) == 2
        assert len(reranker.rank("q", [])) == 0


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([3], r"document 0 is a int: pass a string, a mapping with a text, or a searcher's hit"),
        ([{"docid": "a"}], r"document 0 \(a\) has no text: add a field 'text' or 'contents'"),
        ([{"docid": "a", "text": "x"}, {"docid": "a", "text": "y"}], r"document 'a' occurs twice"),
        ([{"text": "x", "score": 1}, {"text": "y"}], r"document '1' has no score, but other documents have one"),
        ([{"text": "x", "score": float("nan")}], r"the score of document 0 \(0\) is nan; it has to be a finite number"),
        ([{"text": "x", "score": "inf"}], r"the score of document 0 \(0\) is 'inf'; it has to be a finite number"),
        ([{"text": "x", "score": 10**400}], r"it has to be a finite number"),
        ([Candidate("a", float("-inf"), "x")], r"the score of document 0 \(a\) is -inf; it has to be a finite number"),
        (None, r"documents have to be a list \(.*\); this is a NoneType"),
        ("one text", "documents have to be a list"),
        ({"a", "b"}, "documents have to be a list .*; this is a set"),
        ({"a": 1}.keys(), "documents have to be a list .*; this is a dict_keys"),
        ({"docid": "a", "text": "x"}, "documents have to be a list"),
    ],
)
def test_documents_that_cannot_be_ranked_are_named(reranker: Reranker, given: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        reranker.rank("query", given)


def test_the_rows_of_a_data_frame_are_documents(reranker: Reranker) -> None:
    pandas = pytest.importorskip("pandas")
    rows = [
        {"docid": "a", "text": "one", "title": float("nan"), "score": 2.5},
        {"docid": "b", "text": "two", "score": 1},
    ]
    for frame in (pandas.DataFrame(rows), pandas.DataFrame(rows, index=["x", "y"])):
        ranked = reranker.rank("query", frame)
        found = {d.docid: (d.document, d.first_stage_score) for d in ranked}
        assert found["b"][1] == 1.0
        assert "nan" not in str(found["a"][0])


@pytest.mark.parametrize("n", [-1, "5", 2.5, None])
def test_a_number_of_candidates_that_is_none(n: Any, reranker: Reranker) -> None:
    with pytest.raises(UsageError, match=r"the number of candidates is .*; it has to be a whole number from 0"):
        reranker.cost(n)


def test_other_input_that_cannot_be_used(reranker: Reranker) -> None:
    with pytest.raises(UsageError, match="there are 1 scores for 2 documents"):
        reranker.rank("query", ["a", "b"], scores=[1.0])
    with pytest.raises(UsageError, match="the query is a NoneType"):
        reranker.rank(None, ["a"])  # type: ignore[arg-type]
    for score in ("x", None, float("nan")):
        with pytest.raises(UsageError, match=r"the score of document 1 \(1\) is .*; it has to be a finite number"):
            reranker.rank("query", ["a", "b"], scores=[1.0, score])  # type: ignore[list-item]
    with pytest.raises(UsageError, match=r"scores have to be a list .*; this is a int"):
        reranker.rank("query", ["a"], scores=5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({"question": "x"}, "request 1 has the keys question"),
        ("a query", r"request 1 is a str; it has to be \(query, documents\), or a mapping"),
        (5, "request 1 is a int; it has to be"),
        (None, "request 1 is a NoneType; it has to be"),
        (("q", ["a"], 3), "request 1 has 3 parts; it has to be"),
        (("q", None), "request 1: documents have to be a list .*; this is a NoneType"),
        ((None, ["a"]), "request 1: the query is a NoneType"),
        (("q", [3]), "request 1: document 0 is a int"),
        ({"query": "q", "documents": ["a"], "scores": ["x"]}, r"request 1: the score of document 0 \(0\) is 'x'"),
    ],
)
def test_a_request_that_cannot_be_used_is_named(reranker: Reranker, request_: Any, says: str) -> None:
    with pytest.raises(UsageError, match=f"^{says}"):
        list(reranker.rank_many([("q", ["a"]), request_]))


def test_requests_have_to_be_iterable(reranker: Reranker) -> None:
    with pytest.raises(UsageError, match=r"requests have to be an iterable of .*; this is a int"):
        list(reranker.rank_many(5))  # type: ignore[arg-type]


# --- open requests with the same qid


def judged(ranked: RankedDocuments) -> set[str]:
    return {docid for one in ranked.judgements for docid in one.docids}


def of_its_own(name: str) -> list[dict[str, str]]:
    return [{"docid": f"{name}{i}", "text": f"text {i} of {name}"} for i in range(3)]


def test_requests_with_one_qid_have_the_judgements_of_their_own_documents(slow: Slow) -> None:
    async def main(reranker: Reranker) -> list[RankedDocuments]:
        return await asyncio.gather(*(reranker.rank_async("query", of_its_own(name), qid="q1") for name in "abc"))

    with Reranker("reasonrank", engine=slow) as reranker:
        found = asyncio.run(main(reranker))
        many = [{"query": "query", "documents": of_its_own(name), "qid": "q1"} for name in "def"]
        found += reranker.rank_many(many)
    assert [judged(ranked) for ranked in found[:3]] == [{f"{name}{i}" for i in range(3)} for name in "abc"]
    assert all(judged(ranked) == {one.docid for one in ranked} for ranked in found)
    assert [ranked.qid for ranked in found] == ["q1"] * 6


def test_the_number_of_a_query_may_be_the_qid_of_another(slow: Slow) -> None:
    async def main(reranker: Reranker) -> list[RankedDocuments]:
        qids = [None, "0", None, "2"]
        calls = (reranker.rank_async("q", of_its_own(n), qid=qid) for n, qid in zip("abcd", qids, strict=True))
        return await asyncio.gather(*calls)

    with Reranker("reasonrank", engine=slow) as reranker:
        found = asyncio.run(main(reranker))
    assert [judged(ranked) for ranked in found] == [{f"{name}{i}" for i in range(3)} for name in "abcd"]


@pytest.mark.parametrize("prefix", ["d", "text "])
def test_what_a_critic_reads_is_not_a_document(oracle: Mapping[str, Any], prefix: str) -> None:
    given = [{"docid": f"{prefix}{i}", "text": f"words {i}"} for i in range(1, 6)]
    with Reranker("aor", engine=oracle) as reranker:
        ranked = reranker.rank("query", given)
    assert ranked.judgements
    assert {one.part.partition("#")[0] for one in ranked.judgements} == {"ranker"}
    assert judged(ranked) == {document["docid"] for document in given}


def test_nothing_is_left_of_finished_requests(reranker: Reranker) -> None:
    reranker.rank("query", ["a", "b"])
    list(reranker.rank_many([("query", ["a", "b"])] * 3))
    assert reranker._live is not None
    assert reranker._live.store._traces == {}


def test_nothing_to_rank(reranker: Reranker) -> None:
    assert list(reranker.rank("query", [])) == []
    assert reranker.rank("query", []).to_run("q") == ""
    assert list(reranker.rank_many([])) == []


# --- settings


def test_keywords_are_the_flags_of_the_command_line(oracle: Mapping[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("passage_tokens: 99\ndepth: 7\n")
    words = ["--rerank.depth", "50", "--rerank.strategy.window_size", "10", "--rerank.strategy.stride", "5",
             "--rerank.fuse.method", "min-max", "--rerank.engine.name", "oracle", "--rerank.config", str(file),
             "--rerank.engine.qrels", oracle["qrels"], "--rerank.sampling.temperature", "0.7"]  # fmt: skip
    made = Reranker("reasonrank", depth=50, strategy={"window_size": 10, "stride": 5}, fuse="min-max", engine=oracle,
                    config=file, sampling={"temperature": 0.7})  # fmt: skip
    assert made._plan.settings == layers.load("reasonrank", lift(words)[1])[0]
    assert made._plan.settings.passage_tokens == 99


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("reasonrnak", {}, "did you mean 'reasonrank'"),
        ("reasonrank", {"dept": 5}, r"--rerank\.dept is not known; did you mean 'depth'"),
        ("reasonrank", {"depth": 0}, r"--rerank\.depth 0"),
        ("reasonrank", {"engine": "vlm"}, "vlm"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_at_once(name: str, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Reranker(name, **settings)


def test_the_cost_is_known_before_anything_is_loaded(oracle: Mapping[str, Any]) -> None:
    made = Reranker("reasonrank", engine=oracle)
    assert (made.cost(100).calls, made.cost(100).chain) == (9, 9)
    assert repr(made) == "Reranker('reasonrank', model='oracle')"
    assert made.name == "reasonrank"


# --- engines


class Slow(Oracle):
    """An oracle that counts its calls and takes a while for each."""

    seconds = 0.02

    def __init__(self, qrels: str) -> None:
        super().__init__(Model("slow", "slow"), OracleOptions(qrels=qrels))
        self.calls, self.started, self.closed, self.open, self.most = 0, 0, 0, 0, 0

    async def start(self) -> None:
        self.started += 1
        await super().start()

    async def close(self) -> None:
        self.closed += 1
        await super().close()

    async def generate(self, prompt: Prompt, sampling: Sampling, call: Call) -> Completion:
        self.calls += 1
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            await asyncio.sleep(self.seconds)
            return await super().generate(prompt, sampling, call)
        finally:
            self.open -= 1


@pytest.fixture
def slow(collection: Collection) -> Slow:
    return Slow(str(collection.qrels))


def test_an_engine_of_ones_own_starts_once_and_is_closed(slow: Slow, collection: Collection) -> None:
    with Reranker("reasonrank", engine=slow) as reranker:
        assert slow.started == 1
        rank(reranker, collection, 1)
        rank(reranker, collection, 2)
        assert (slow.started, slow.closed) == (1, 0)
    assert (slow.started, slow.closed) == (1, 1)
    with pytest.raises(UsageError, match="the reranker is closed: create another one"):
        rank(reranker, collection, 1)
    reranker.close()
    assert slow.closed == 1


def test_the_model_loads_at_the_first_ranking_and_is_freed_with_the_object(slow: Slow, collection: Collection) -> None:
    reranker = Reranker("reasonrank", engine=slow)
    assert slow.started == 0
    rank(reranker, collection, 1)
    assert slow.started == 1
    del reranker
    assert slow.closed == 1


def test_a_script_that_does_not_close_its_reranker_ends_quietly(tmp_path: Path) -> None:
    (tmp_path / "qrels.txt").write_text("0 0 1 1\n")
    script = """
import asyncio
from pyserini_reasonrank import Reranker
from pyserini_reasonrank.engines.oracle import Oracle, OracleOptions
from pyserini_reasonrank.models.catalogue import Model

class Threaded(Oracle):
    async def start(self):
        await asyncio.to_thread(lambda: None)
        await super().start()

    async def close(self):
        await asyncio.to_thread(print, "closed")

reranker = Reranker("reasonrank", engine=Threaded(Model("m", "m"), OracleOptions(qrels="qrels.txt")))
print([found.docid for found in reranker.rank("query", ["a", "b"])])
"""
    ran = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "['1', '0']\nclosed\n", "")


class Broken(Slow):
    async def start(self) -> None:
        raise Failure("the engine is out of memory")


def test_an_engine_that_does_not_start_is_a_failure_each_time(collection: Collection) -> None:
    reranker = Reranker("reasonrank", engine=Broken(str(collection.qrels)))
    threads = threading.active_count()
    for _ in range(2):
        with pytest.raises(Failure, match="out of memory"):
            reranker.load()
    assert threading.active_count() == threads


class Erring(Slow):
    async def generate(self, prompt: Prompt, sampling: Sampling, call: Call) -> Completion:
        await asyncio.sleep(0)
        return Completion(finish_reason="error", error="503 overloaded")


def test_a_failed_call_is_a_failure_unless_the_order_is_to_be_kept(collection: Collection) -> None:
    with Reranker("reasonrank", engine=Erring(str(collection.qrels))) as reranker:
        with pytest.raises(Failure, match="query 7, call 0: 503 overloaded"):
            rank(reranker, collection, 1)
        with pytest.raises(Failure, match="503 overloaded"):
            list(reranker.rank_many([("q", ["a", "b"])]))
    with Reranker("reasonrank", engine=Erring(str(collection.qrels)), on_error="keep") as reranker:
        ranked = rank(reranker, collection, 1)
        assert ranked.statuses == {Status.ERROR: 1}
        assert [d.docid for d in ranked] == [c.docid for c in collection.requests[1].candidates]


# --- many at once


def test_many_queries_stream_as_they_end_and_overlap(slow: Slow, collection: Collection) -> None:
    given = [{"query": r.query.text, "documents": documents(collection, i), "qid": r.query.qid}
             for i, r in enumerate(collection.requests)]  # fmt: skip
    with Reranker("reasonrank", engine=slow, strategy=SMALL) as reranker:
        found = [ranked.qid for ranked in reranker.rank_many(given)]
    assert sorted(found) == sorted(r.query.qid for r in collection.requests)
    assert found[-1] == "long"  # the one with 12 calls in a chain ends last, though it came first
    assert slow.most >= 2


def test_requests_are_taken_only_as_others_end(collection: Collection) -> None:
    slow, taken = Slow(str(collection.qrels)), 0

    def requests() -> Iterator[tuple[str, list[str]]]:
        nonlocal taken
        for i in range(40):
            taken += 1
            yield f"query {i}", ["a", "b"]

    slow.options = OracleOptions(qrels=str(collection.qrels), concurrency=2)
    with Reranker("reasonrank", engine=slow) as reranker:
        results = reranker.rank_many(requests())
        first = next(results)
        assert taken <= slow.calls + 6  # however late this thread comes
        assert len(first) == 2
        assert len(list(results)) == 39


def test_a_request_that_cannot_be_used_ends_the_iteration(reranker: Reranker) -> None:
    with pytest.raises(UsageError, match="document 0 is a int"):
        list(reranker.rank_many([("q", ["a"]), ("r", [1])]))


def test_an_iteration_that_is_left_ends_its_calls(slow: Slow) -> None:
    slow.seconds = 0.05
    with Reranker("reasonrank", engine=slow) as reranker:
        results = reranker.rank_many((f"q{i}", ["a", "b"]) for i in range(1000))
        next(results)
        results.close()  # type: ignore[attr-defined]
        time.sleep(0.2)
        calls = slow.calls
        time.sleep(0.2)
        assert slow.calls == calls < 1000


def test_threads_share_one_model(slow: Slow, collection: Collection) -> None:
    found: list[list[str]] = []
    with Reranker("reasonrank", engine=slow) as reranker:
        threads = [
            threading.Thread(target=lambda: found.append([d.docid for d in rank(reranker, collection, 1)]))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert slow.started == 1
    assert len(found) == 8
    assert len({tuple(order) for order in found}) == 1
    assert slow.calls == 1  # equal calls are made once


def test_coroutines_rank_without_blocking_their_loop(slow: Slow, collection: Collection) -> None:
    async def main(reranker: Reranker) -> list[RankedDocuments]:
        async with asyncio.timeout(30):
            return await asyncio.gather(
                *(reranker.rank_async(f"query {i}", documents(collection, 1)) for i in range(20)),
            )

    with Reranker("reasonrank", engine=slow) as reranker:
        found = asyncio.run(main(reranker))
    assert len(found) == 20
    assert slow.most > 5


def test_a_cancelled_coroutine_ends_its_calls(slow: Slow, collection: Collection) -> None:
    slow.seconds = 30

    async def main(reranker: Reranker) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await reranker.rank_async("query", documents(collection, 1))

    with Reranker("reasonrank", engine=slow) as reranker:
        asyncio.run(main(reranker))
        deadline = time.monotonic() + 5
        while slow.open and time.monotonic() < deadline:
            time.sleep(0.01)
        assert slow.open == 0


def test_ranking_inside_a_running_event_loop(reranker: Reranker, collection: Collection) -> None:
    async def cell() -> RankedDocuments:
        return rank(reranker, collection, 1)

    assert len(asyncio.run(cell())) == 7


# --- the journal


def test_a_journal_keeps_what_was_paid_for(collection: Collection, tmp_path: Path) -> None:
    engines = [Slow(str(collection.qrels)) for _ in range(2)]
    orders = []
    for engine in engines:
        with Reranker("reasonrank", engine=engine, journal=tmp_path / "calls.sqlite", strategy=SMALL) as reranker:
            orders.append([d.docid for d in rank(reranker, collection, 0)])
    assert orders[0] == orders[1]
    assert [engine.calls for engine in engines] == [12, 0]


def test_without_a_journal_nothing_is_written(
    slow: Slow,
    collection: Collection,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with Reranker("reasonrank", engine=slow) as reranker:
        rank(reranker, collection, 1)
        calls = slow.calls
        rank(reranker, collection, 1)
        assert slow.calls == calls  # the same question is asked once
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


# --- the package


def test_importing_the_package_is_light() -> None:
    script = (
        "import sys, time; began = time.perf_counter(); import pyserini_reasonrank; "
        "print(time.perf_counter() - began); assert not {'torch', 'pyserini', 'pydantic', 'yaml'} & set(sys.modules)"
    )
    seconds = [
        float(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    ]
    assert min(seconds) < 0.02


def test_the_names_of_the_package() -> None:
    assert {"Reranker", "UsageError", "Failure", "RankedDocuments"} <= set(dir(pyserini_reasonrank))
    assert pyserini_reasonrank.Reranker is Reranker
    with pytest.raises(AttributeError, match="has no attribute 'Ranker'"):
        _ = pyserini_reasonrank.Ranker


def test_candidates_are_exactly_those_of_a_request() -> None:
    document = Candidate("d", 1.5, "text")
    with Reranker("reasonrank", engine={"name": "oracle", "qrels": str(ROOT / "conf" / "demo" / "qrels.txt")}) as made:
        assert made.rank("q", [document])[0].document is document
