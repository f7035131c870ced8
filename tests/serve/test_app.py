"""The routes of the server in a real uvicorn, with the oracle engine: dialects, errors, limits, cancellation, metrics."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest
import uvicorn
from conftest import Collection
from hypothesis import given
from hypothesis import strategies as st

from pyserini_reasonrank import Reranker
from pyserini_reasonrank.engines.oracle import Oracle, OracleOptions
from pyserini_reasonrank.models.catalogue import Model
from pyserini_reasonrank.records import Call, Completion, Prompt, Sampling
from pyserini_reasonrank.results import RankedDocuments
from pyserini_reasonrank.serve.app import create_app
from pyserini_reasonrank.serve.protection import OPEN_PATHS
from pyserini_reasonrank.serve.service import Limits, Service

SMALL: Mapping[str, Any] = {"window_size": 4, "stride": 2}
LIMITS = Limits(requests=3, documents=30, body_bytes=20_000, body_seconds=1.0)


class Gated(Oracle):
    """An oracle that answers once ``open`` is set, and counts the calls that it began and that were cancelled."""

    def __init__(self, qrels: str) -> None:
        super().__init__(Model("gated", "gated"), OracleOptions(qrels=qrels))
        self.open, self.calls, self.cancelled, self.answer = threading.Event(), 0, 0, ""
        self.open.set()

    async def generate(self, prompt: Prompt, sampling: Sampling, call: Call) -> Completion:
        self.calls += 1
        try:
            while not self.open.is_set():
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        right = await super().generate(prompt, sampling, call)
        return replace(right, text=self.answer or right.text, prompt_tokens=10, output_tokens=2)


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """The URL of ``app`` in a real server on a thread."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listening])), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)


@pytest.fixture(scope="module")
def engine(collection: Collection) -> Gated:
    return Gated(str(collection.qrels))


@pytest.fixture(scope="module")
def url(collection: Collection, engine: Gated) -> Iterator[str]:
    oracle = {"name": "oracle", "qrels": str(collection.qrels)}
    with (
        Reranker("reasonrank", engine=engine, strategy=SMALL, max_bad=1.0) as first,
        Reranker("rank-r1", engine=oracle) as second,
        serving(create_app(Service({"reasonrank": first, "rank-r1": second}, LIMITS))) as address,
    ):
        yield address


@pytest.fixture
def seven(collection: Collection) -> dict[str, Any]:
    """A request about the query 7, whose documents have docids."""
    request = collection.requests[1]
    documents = [{"id": c.docid, "text": c.text} for c in request.candidates]
    return {"query": request.query.text, "documents": documents, "qid": request.query.qid}


def post(url: str, path: str, body: Any, **more: Any) -> httpx.Response:
    return httpx.post(f"{url}{path}", json=body, timeout=20, **more)


def eventually(happened: Callable[[], bool]) -> None:
    limit = time.monotonic() + 10
    while not happened():
        assert time.monotonic() < limit
        time.sleep(0.01)


# --- dialects


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_the_best_document_is_first_and_scores_fall_with_the_rank(
    url: str, path: str, seven: dict[str, Any], collection: Collection
) -> None:
    answer = post(url, path, seven).json()
    results, gains = answer["results"], collection.grades["7"]
    ranked = [seven["documents"][result["index"]]["id"] for result in results]
    assert sorted(result["index"] for result in results) == list(range(7))
    assert gains[ranked[0]] == max(gains.values())
    assert [result["relevance_score"] for result in results] == [(7 - i) / 7 for i in range(7)]
    assert all("document" not in result for result in results)
    assert answer["model"] == "reasonrank"
    assert answer["statuses"] == {"ok": 3}
    assert "warnings" not in answer["meta"]
    assert answer["meta"]["api_version"]["version"] == ("2" if "v2" in path else "1")
    assert answer["usage"]["total_tokens"] == 3 * 12


def test_top_n_documents_and_reasoning_on_request(url: str, seven: dict[str, Any]) -> None:
    answer = post(url, "/v2/rerank", seven | {"top_n": 2, "return_documents": True, "return_reasoning": True}).json()
    first, second = answer["results"]
    assert first["document"] == seven["documents"][first["index"]]
    assert (first["relevance_score"], second["relevance_score"]) == (1.0, 6 / 7)
    assert [sorted(judged) for judged in answer["judgements"]] == 3 * [
        ["detail", "order", "reasoning", "shown", "status"]
    ]
    assert answer["judgements"][0]["shown"] == [3, 4, 5, 6]
    assert all(judged["reasoning"] and judged["status"] == "ok" for judged in answer["judgements"])


def test_strings_and_objects_may_be_mixed(url: str) -> None:
    body = {"query": "q", "documents": ["one", {"text": "two"}, {"title": "three"}], "return_documents": True}
    results = post(url, "/v1/rerank", body).json()["results"]
    shown = {result["index"]: result["document"] for result in results}
    assert shown == {0: {"text": "one"}, 1: {"text": "two"}, 2: {"title": "three"}}


def test_only_the_rank_fields_are_read(url: str, engine: Gated) -> None:
    documents = [{"text": f"secret {i}", "name": f"N{i}"} for i in range(3)]
    assert (
        post(url, "/v1/rerank", {"query": "fields", "documents": documents, "rank_fields": ["name"]}).status_code == 200
    )
    answer = post(url, "/v1/rerank", {"query": "fields", "documents": documents, "rank_fields": ["other"]})
    assert (answer.status_code, answer.json()["message"]) == (422, "document 0 has none of the rank_fields other")


def test_tei(url: str) -> None:
    texts = [f"text {i}" for i in range(5)]
    answer = post(url, "/rerank", {"query": "q", "texts": texts, "return_text": True}).json()
    assert [item["score"] for item in answer] == [1.0, 0.8, 0.6, 0.4, 0.2]
    assert all(item["text"] == texts[item["index"]] for item in answer)
    raw = post(url, "/rerank", {"query": "q", "texts": texts, "raw_scores": True}).json()
    assert [item["score"] for item in raw] == [5.0, 4.0, 3.0, 2.0, 1.0]
    assert "text" not in raw[0]


def test_a_reranker_is_chosen_by_its_name(url: str, seven: dict[str, Any]) -> None:
    assert post(url, "/v1/rerank", seven | {"model": "rank-r1"}).json()["model"] == "rank-r1"
    answer = post(url, "/v1/rerank", seven | {"model": "rank-r2"})
    assert answer.status_code == 404
    assert "did you mean 'rank-r1'?" in answer.json()["message"]
    assert [one["id"] for one in httpx.get(f"{url}/v1/models").json()["data"]] == ["reasonrank", "rank-r1"]


def test_an_unreadable_answer_is_visible(url: str, engine: Gated) -> None:
    engine.answer = "I can't rank these."
    try:
        body = {"query": "unreadable", "documents": ["a", "b", "c"]}
        answer = post(url, "/v2/rerank", body).json()
        tei = post(url, "/rerank", {"query": "unreadable too", "texts": ["a", "b", "c"]})
    finally:
        engine.answer = ""
    assert [result["index"] for result in answer["results"]] == [0, 1, 2]
    assert answer["statuses"] == {"empty": 1}
    [warning] = answer["meta"]["warnings"]
    assert warning == "1 of 1 answers of the model could not be used (1 empty); their documents kept their order"
    assert tei.headers["x-warning"] == warning


# --- bad input


BAD = {
    "not json": (b"{", 422, "the body is not JSON"),
    "no object": (b"[1]", 422, "valid dictionary"),
    "invalid utf-8": (b'{"query": "\xff"}', 400, "parsing the body"),
    "no documents": (b'{"query": "q", "documents": []}', 422, "documents: list should have at least 1 item"),
    "no query": (b'{"documents": ["a"]}', 422, "query: field required"),
    "an empty query": (b'{"query": "", "documents": ["a"]}', 422, "query: string should have at least 1 character"),
    "top_n 0": (b'{"query": "q", "documents": ["a"], "top_n": 0}', 422, "top_n: input should be greater than"),
    "a wrong type": (b'{"query": "q", "documents": [1]}', 422, "documents.0"),
    "no text": (b'{"query": "q", "documents": [{"x": "a"}]}', 422, "document 0 (0) has no text"),
    "a docid that is a boolean": (b'{"query": "q", "documents": [{"id": true, "text": "a"}]}', 422, "document 0: id is True"),
    "a score that is a word": (b'{"query": "q", "documents": [{"text": "a", "score": "high"}]}', 422, "a finite number"),
    "a score that is NaN": (b'{"query": "q", "documents": [{"text": "a", "score": NaN}]}', 422, "is nan; it has to be"),
    "too many documents": (json.dumps({"query": "q", "documents": ["a"] * 31}).encode(), 422, "at most 30"),
    "a body that is too long": (json.dumps({"query": "q", "documents": ["a" * 20_000]}).encode(), 413, "20,000 bytes"),
}  # fmt: skip


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank"])
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence(url: str, path: str, case: str) -> None:
    body, status, says = BAD[case]
    answer = httpx.post(f"{url}{path}", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status
    error = answer.json()
    assert says in error["message"]
    assert error["message"] == error["detail"] == error["error"]["message"]
    assert error["error"]["code"] == status
    assert "\n" not in error["message"]


def test_errors_of_tei_have_its_form(url: str) -> None:
    answer = post(url, "/rerank", {"query": "q", "texts": []})
    assert (answer.status_code, answer.json()["error_type"]) == (422, "validation")
    assert answer.json()["error"].startswith("texts: list should have at least 1 item")


def test_top_n_above_the_number_of_documents_returns_all(url: str) -> None:
    assert len(post(url, "/v1/rerank", {"query": "q", "documents": ["a", "b"], "top_n": 9}).json()["results"]) == 2


def test_a_body_that_never_ends_is_refused_and_the_server_stays_up(url: str) -> None:
    host, port = url.removeprefix("http://").split(":")
    with closing(socket.create_connection((host, int(port)))) as slow:
        slow.sendall(
            b"POST /v1/rerank HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{"
        )
        slow.settimeout(10)
        assert b" 408 " in slow.recv(4096)
    assert httpx.get(f"{url}/health").json()["status"] == "ok"


def test_search_without_an_index_says_so(url: str) -> None:
    answer = post(url, "/v1/search", {"query": "q"})
    assert (answer.status_code, answer.json()["message"]) == (404, "this server has no index: start it with --index")


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["query", "documents", "texts", "top_n", "model", "text", "id", "score", "rank_fields"]), inner
    ),
    max_leaves=12,
))  # fmt: skip
def test_any_json_is_ranked_or_refused(url: str, body: Any) -> None:
    answer = post(url, "/rerank", body)
    assert answer.status_code in (200, 400, 404, 413, 422)
    if answer.status_code == 200:
        results = answer.json() if "texts" in body and "documents" not in body else answer.json()["results"]
        assert len({item["index"] for item in results}) == len(results)


# --- load, cancellation, protection


def test_more_requests_than_places_get_429_and_those_in_place_are_served(url: str, engine: Gated) -> None:
    engine.open.clear()
    answers: list[httpx.Response] = []
    bodies = [{"query": f"load {i}", "documents": ["a", "b"]} for i in range(LIMITS.requests)]
    threads = [threading.Thread(target=lambda b=body: answers.append(post(url, "/v1/rerank", b))) for body in bodies]
    for thread in threads:
        thread.start()
    eventually(lambda: httpx.get(f"{url}/health").json()["active"] == LIMITS.requests)
    refused = post(url, "/v1/rerank", {"query": "one more", "documents": ["a", "b"]})
    engine.open.set()
    for thread in threads:
        thread.join()
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert "already has 3 requests" in refused.json()["message"]
    assert [answer.status_code for answer in answers] == [200] * LIMITS.requests


def test_a_request_that_is_cut_off_cancels_its_calls(url: str, engine: Gated) -> None:
    engine.open.clear()
    before = engine.cancelled
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{url}/v1/rerank", json={"query": "cut off", "documents": ["a", "b"]}, timeout=0.5)
    eventually(lambda: engine.cancelled > before)
    engine.open.set()
    eventually(lambda: httpx.get(f"{url}/health").json()["active"] == 0)


def test_requests_of_many_clients_share_the_engine(url: str, engine: Gated, collection: Collection) -> None:
    request = collection.requests[0]
    documents = [{"id": c.docid, "text": c.text} for c in request.candidates]

    def ask() -> None:
        answers.append(post(url, "/v1/rerank", {"query": request.query.text, "documents": documents, "qid": "long"}))

    answers: list[httpx.Response] = []
    threads = [threading.Thread(target=ask) for _ in range(LIMITS.requests)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    orders = [[result["index"] for result in answer.json()["results"]] for answer in answers]
    assert orders[0] == orders[1] == orders[2]


def test_requests_at_once_with_one_qid_have_judgements_of_their_own(url: str, engine: Gated) -> None:
    engine.open.clear()
    answers: dict[int, httpx.Response] = {}
    bodies = [
        {"query": f"same qid {n}", "documents": [{"id": f"{n}-{i}", "text": f"t{i}"} for i in range(n)], "qid": "q1",
         "return_reasoning": True}
        for n in (2, 3)
    ]  # fmt: skip

    def ask(body: dict[str, Any]) -> None:
        answers[len(body["documents"])] = post(url, "/v1/rerank", body)

    threads = [threading.Thread(target=ask, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    eventually(lambda: httpx.get(f"{url}/health").json()["active"] == 2)
    engine.open.set()
    for thread in threads:
        thread.join()
    assert [answers[n].status_code for n in (2, 3)] == [200, 200]
    assert [[sorted(one["shown"]) for one in answers[n].json()["judgements"]] for n in (2, 3)] == [
        [[0, 1]],
        [[0, 1, 2]],
    ]


@pytest.mark.parametrize("name", ["aor", "coranking", "self-consistency"])
def test_combinations_show_the_judgements_of_documents(collection: Collection, name: str) -> None:
    oracle = {"name": "oracle", "qrels": str(collection.qrels)}
    body = {"query": "q", "documents": ["a", "b", "c", "d"], "return_reasoning": True}
    with Reranker(name, engine=oracle) as one, serving(create_app(Service({name: one}))) as address:
        answer = post(address, "/v1/rerank", body)
    assert answer.status_code == 200
    assert answer.json()["judgements"]
    assert {index for judged in answer.json()["judgements"] for index in judged["shown"]} == {0, 1, 2, 3}


def test_a_token_is_needed_where_one_is_set(collection: Collection) -> None:
    oracle = {"name": "oracle", "qrels": str(collection.qrels)}
    body = {"query": "q", "documents": ["a", "b"]}
    with (
        Reranker("reasonrank", engine=oracle) as one,
        serving(create_app(Service({"one": one}), token="s3cret")) as address,
    ):
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "s3cre"}):
            refused = post(address, "/v1/rerank", body, headers=headers)
            assert refused.status_code == 401
            assert "s3cret" not in refused.text
        assert post(address, "/v1/rerank", body, headers={"authorization": "Bearer s3cret"}).status_code == 200
        assert httpx.get(f"{address}{OPEN_PATHS[0]}").status_code == 200
        assert httpx.get(f"{address}/metrics").status_code == 401


def test_metrics_count_requests_and_judgements(url: str, seven: dict[str, Any]) -> None:
    def value(line: str) -> float:
        found = [one for one in httpx.get(f"{url}/metrics").text.splitlines() if one.startswith(line)]
        return float(found[0].split()[-1]) if found else 0.0

    requests = 'reasonrank_requests_total{path="/v1/rerank",status="200"}'
    judgements = 'reasonrank_judgements_total{reranker="rank-r1",status="ok"}'
    before = value(requests), value(judgements)
    post(url, "/v1/rerank", seven | {"model": "rank-r1"})
    assert value(requests) == before[0] + 1
    assert value(judgements) > before[1]
    assert "nowhere" not in httpx.get(f"{url}/nowhere").text
    assert value('reasonrank_requests_total{path="other",status="404"}') > 0


def test_scores_of_one_document(url: str) -> None:
    [only] = post(url, "/v1/rerank", {"query": "q", "documents": ["a"]}).json()["results"]
    assert only["relevance_score"] == 1.0
    assert RankedDocuments.relevance.__doc__


def test_the_api_page_describes_the_routes(url: str) -> None:
    described = httpx.get(f"{url}/openapi.json").json()
    assert {"/rerank", "/v1/rerank", "/v2/rerank", "/v1/search", "/v1/models", "/health", "/metrics"} <= set(
        described["paths"]
    )
    assert "openapi.json" in httpx.get(f"{url}/docs").text
