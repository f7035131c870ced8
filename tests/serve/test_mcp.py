"""The MCP tools through the ``mcp`` package's client: in process, over HTTP beside the REST routes, and over stdio."""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import httpx
import pytest
from conftest import ROOT, Collection
from serving import served
from test_serve_command import words

from pyserini_reasonrank import Reranker
from pyserini_reasonrank.engines.oracle import Oracle, OracleOptions
from pyserini_reasonrank.errors import Failure
from pyserini_reasonrank.models.catalogue import Model
from pyserini_reasonrank.records import Call, Completion, Prompt, Sampling
from pyserini_reasonrank.serve.command import TOKEN
from pyserini_reasonrank.serve.service import Limits, Service
from pyserini_reasonrank.serve.stdio import Messages, request_id

pytest.importorskip("mcp.server.mcpserver", reason="needs mcp, version 2 or newer")
from mcp import Client, MCPError, StdioServerParameters
from mcp.types import CallToolResult, TextContent

from pyserini_reasonrank.serve.mcp_tools import Tools

LIMITS = Limits(requests=1, documents=30)
HITS = [{"docid": f"d{i}", "score": 9.0 - i, "title": "Night", "text": f"passage {i}"} for i in range(5)]


class Unreadable(Oracle):
    """An oracle that answers with prose while ``prose`` is set, and waits while ``waiting`` is."""

    def __init__(self, qrels: str) -> None:
        super().__init__(Model("unreadable", "unreadable"), OracleOptions(qrels=qrels))
        self.prose, self.waiting, self.cancelled = "", False, 0

    async def generate(self, prompt: Prompt, sampling: Sampling, call: Call) -> Completion:
        try:
            while self.waiting:
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return Completion(self.prose) if self.prose else await super().generate(prompt, sampling, call)


class Index:
    """A first stage that finds ``HITS``, nothing for ``nothing``, and fails for ``broken``."""

    async def search(self, query: str, k: int) -> list[dict[str, Any]]:
        if query == "broken":
            raise Failure("the search failed: out of memory")
        return [] if query == "nothing" else HITS[:k]


@pytest.fixture(scope="module")
def engine(collection: Collection) -> Unreadable:
    return Unreadable(str(collection.qrels))


@pytest.fixture(scope="module")
def service(collection: Collection, engine: Unreadable) -> Iterator[Service]:
    oracle = {"name": "oracle", "qrels": str(collection.qrels)}
    with Reranker("reasonrank", engine=engine, max_bad=1.0) as first, Reranker("rank-r1", engine=oracle) as second:
        yield Service({"reasonrank": first, "rank-r1": second}, LIMITS, Index())


Asking = Callable[..., CallToolResult]


@pytest.fixture
def ask(service: Service) -> Asking:
    """``ask("rerank", query=..., ...)``: a call of a tool, in process."""

    def asked(tool: str, **arguments: Any) -> CallToolResult:
        return connected(Tools(service, "night"), lambda client: client.call_tool(tool, arguments))

    return asked


def connected[T](server: Any, work: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
    async def run() -> T:
        async with Client(server, read_timeout_seconds=60) as client:
            return await work(client)

    return asyncio.run(run())


def answer_of(called: CallToolResult) -> dict[str, Any]:
    """The answer, which is the same for programs and, as JSON, for models."""
    assert not called.is_error, called.content
    [content] = called.content
    assert isinstance(content, TextContent)
    answer: dict[str, Any] = json.loads(content.text)
    assert answer == called.structured_content
    return answer


def error_of(called: CallToolResult) -> str:
    assert called.is_error
    [content] = called.content
    assert isinstance(content, TextContent)
    assert "\n" not in content.text
    return content.text


# --- rerank


def test_candidates_are_ranked_with_scores_that_fall_with_the_rank(ask: Asking, collection: Collection) -> None:
    request = collection.requests[1]
    candidates = [{"docid": c.docid, "text": c.text} for c in request.candidates]
    answer = answer_of(ask("rerank", query=request.query.text, candidates=candidates, return_text=True))
    results = answer["results"]
    assert [result["rank"] for result in results] == [1, 2, 3, 4, 5, 6, 7]
    assert [result["score"] for result in results] == [(7 - i) / 7 for i in range(7)]
    assert sorted(result["index"] for result in results) == list(range(7))
    assert all(candidates[result["index"]]["docid"] == result["docid"] for result in results)
    assert all(candidates[result["index"]]["text"] == result["text"] for result in results)
    assert answer["model"] == "reasonrank"
    assert answer["statuses"] == {"ok": 1}
    assert not {"warnings", "reasoning"} & answer.keys()


def test_top_n_model_and_reasoning(ask: Asking) -> None:
    answer = answer_of(
        ask("rerank", query="q", candidates=["a", "b", "c"], top_n=2, model="rank-r1", return_reasoning=True)
    )
    assert [result["score"] for result in answer["results"]] == [1.0, 2 / 3]
    assert all(result["docid"] == str(result["index"]) for result in answer["results"])
    assert answer["model"] == "rank-r1"
    assert answer["reasoning"]
    assert "text" not in answer["results"][0]
    assert len(answer_of(ask("rerank", query="q", candidates=["a", "b"], top_n=9))["results"]) == 2


def test_the_text_of_a_string_is_returned(ask: Asking) -> None:
    results = answer_of(ask("rerank", query="q", candidates=["one", {"text": "two"}], return_text=True))["results"]
    assert {result["index"]: result["text"] for result in results} == {0: "one", 1: "two"}


def test_an_unreadable_answer_is_visible(ask: Asking, engine: Unreadable) -> None:
    engine.prose = "I can't rank these."
    try:
        answer = answer_of(ask("rerank", query="unreadable", candidates=["a", "b", "c"]))
    finally:
        engine.prose = ""
    assert [result["index"] for result in answer["results"]] == [0, 1, 2]
    assert answer["statuses"] == {"empty": 1}
    assert answer["warnings"] == [
        "1 of 1 answers of the model could not be used (1 empty); their documents kept their order"
    ]


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no query": ({"candidates": ["a"]}, "query: field required"),
    "an empty query": ({"query": "", "candidates": ["a"]}, "query: string should have at least 1 character"),
    "no candidates": ({"query": "q", "candidates": []}, "candidates: list should have at least 1 item"),
    "a wrong type": ({"query": "q", "candidates": [1]}, "candidates.0"),
    "no text": ({"query": "q", "candidates": [{"x": "a"}]}, "document 0 (0) has no text"),
    "a docid that is a boolean": ({"query": "q", "candidates": [{"id": True, "text": "a"}]}, "document 0: id is True"),
    "too many": ({"query": "q", "candidates": ["a"] * 31}, "there are 31 documents; this server ranks at most 30"),
    "top_n 0": ({"query": "q", "candidates": ["a"], "top_n": 0}, "top_n: input should be greater than"),
    "an unknown model": ({"query": "q", "candidates": ["a"], "model": "rank-r2"}, "did you mean 'rank-r1'?"),
    "an unknown argument": ({"query": "q", "candidates": ["a"], "topn": 1}, "no argument 'topn'; did you mean 'top_n'?"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence(ask: Asking, case: str) -> None:
    arguments, says = BAD[case]
    assert says in error_of(ask("rerank", **arguments))


def test_an_unknown_tool_is_an_error(ask: Asking) -> None:
    assert "get_document" in error_of(ask("get_document"))


def test_a_call_without_a_place_is_refused_and_a_cancelled_call_frees_its_place(
    service: Service, engine: Unreadable
) -> None:
    async def work(client: Client) -> CallToolResult:
        arguments = {"query": "waits", "candidates": ["a", "b"]}
        first = asyncio.create_task(client.call_tool("rerank", arguments))
        while service.admission.active == 0:
            await asyncio.sleep(0.01)
        refused = await client.call_tool("rerank", arguments)
        first.cancel()
        while service.admission.active or not engine.cancelled:
            await asyncio.sleep(0.01)
        return refused

    engine.waiting = True
    try:
        assert "the server already has 1 requests" in error_of(connected(Tools(service), work))
    finally:
        engine.waiting = False


# --- search_and_rerank


def test_search_and_rerank(ask: Asking) -> None:
    answer = answer_of(ask("search_and_rerank", index="night", query="moths", k=2, return_text=True))
    assert [(result["rank"], result["score"]) for result in answer["results"]] == [(1, 1.0), (2, 0.8)]
    for result in answer["results"]:
        hit = next(hit for hit in HITS if hit["docid"] == result["docid"])
        assert result["first_stage_score"] == hit["score"]
        assert result["text"] == f"Night. {hit['text']}"
        assert "index" not in result
    assert answer["statuses"] == {"ok": 1}
    assert answer_of(ask("search_and_rerank", query="nothing"))["results"] == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"query": "q", "index": "day"}, "index 'day' is not served here; this server has night"),
        ({"query": "q", "k": 0}, "k: input should be greater than"),
        ({"query": "broken"}, "the search failed: out of memory"),
        ({"query": "q", "model": "x"}, "model 'x' is not served here"),
    ],
)
def test_a_search_that_is_refused(ask: Asking, arguments: dict[str, Any], says: str) -> None:
    assert says in error_of(ask("search_and_rerank", **arguments))


def test_there_is_no_search_without_an_index(service: Service) -> None:
    async def names(client: Client) -> list[str]:
        return [tool.name for tool in (await client.list_tools()).tools]

    assert connected(Tools(service), names) == ["rerank"]
    assert connected(Tools(service, "night"), names) == ["rerank", "search_and_rerank"]


# --- transports


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_over_stdio_only_the_protocol_reaches_stdout(collection: Collection, mode: Any) -> None:
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "pyserini_reasonrank", *words(collection, "--mcp")],
        env={"PYTHONPATH": str(ROOT)},
    )

    async def run() -> CallToolResult:
        async with Client(server, mode=mode, read_timeout_seconds=60) as client:
            return await client.call_tool("rerank", {"query": "q", "candidates": ["a", "b"]})

    assert len(answer_of(asyncio.run(run()))["results"]) == 2


def test_the_end_of_stdin_ends_the_server(collection: Collection) -> None:
    started = [sys.executable, "-m", "pyserini_reasonrank", *words(collection, "--mcp")]
    ask = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    done = subprocess.run(
        started, input=json.dumps(ask) + "\n", capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0
    assert done.stderr == "serving reasonrank to an MCP client on stdin and stdout\n"
    assert all(json.loads(line)["jsonrpc"] == "2.0" for line in done.stdout.splitlines())


def test_a_message_over_stdio_that_is_too_long_is_refused(collection: Collection) -> None:
    """The client gets an error for its request, and the server goes on."""
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "pyserini_reasonrank", *words(collection, "--mcp", "--max-body-mb", "0.01")],
        env={"PYTHONPATH": str(ROOT)},
    )
    long = {"query": "q", "candidates": [{"id": "d1", "text": "moths " * 10_000}]}

    async def run() -> CallToolResult:
        async with Client(server, read_timeout_seconds=60) as client:
            with pytest.raises(MCPError, match="the message is longer than 10,485 bytes, the limit of this server"):
                await client.call_tool("rerank", long)
            return await client.call_tool("rerank", {"query": "q", "candidates": ["a", "b"]})

    assert len(answer_of(asyncio.run(run()))["results"]) == 2


@pytest.mark.parametrize(
    ("line", "id_"),
    [
        (b'{"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"id": 8', 7),
        (b'{"id":"a \\"b\\"", "method": "x', 'a "b"'),
        (b'{"method": "tools/call", "params": {"id": "d1"}, "id": 9}', None),
        (b"not JSON", None),
    ],
)
def test_the_id_of_a_request_is_found_before_its_parameters(line: bytes, id_: str | int | None) -> None:
    assert request_id(line) == id_


def test_lines_up_to_the_limit_are_read() -> None:
    refused: list[str | int | None] = []
    lines = [b'{"id": 1}\n', b'{"id": "two"}' + b" " * 100 + b"\n", b"x" * 20 + b"\n", b"last", b""]
    messages = Messages(io.BytesIO(b"".join(lines)), 20, refused.append)
    assert [messages.readline() for _ in range(4)] == ['{"id": 1}\n', "x" * 20 + "\n", "last", ""]
    assert refused == ["two"]


def test_a_model_that_can_not_be_loaded_is_named_to_the_client(tmp_path: Any) -> None:
    missing = str(tmp_path / "qrels.txt")
    oracle = ["--rerank.engine.name", "oracle", "--rerank.engine.qrels", missing]
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "pyserini_reasonrank", "serve", "--rerank", "reasonrank", *oracle, "--mcp"],
        env={"PYTHONPATH": str(ROOT)},
    )
    called = connected(server, lambda client: client.call_tool("rerank", {"query": "q", "candidates": ["a", "b"]}))
    assert missing in error_of(called)


def test_over_http_beside_the_rest_routes(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN, raising=False)
    arguments = {"query": "q", "candidates": ["a", "b"]}
    with served(*words(collection, "--mcp", "http")) as (url, process):
        called = connected(f"{url}/mcp", lambda client: client.call_tool("rerank", arguments))
        rest = httpx.post(f"{url}/v1/rerank", json={"query": "q", "documents": ["a", "b"]}).json()
        elsewhere = httpx.post(f"{url}/mcp", json={}, headers={"host": "example.org"})
        metrics = httpx.get(f"{url}/metrics").text
        process.terminate()
        assert process.wait(20) == 0
    assert [result["index"] for result in answer_of(called)["results"]] == [one["index"] for one in rest["results"]]
    assert elsewhere.status_code == 421
    assert 'reasonrank_judgements_total{reranker="reasonrank",status="ok"} 2.0' in metrics
    assert 'reasonrank_requests_total{path="/mcp",status="200"}' in metrics


def test_over_http_a_token_is_needed_where_one_is_set(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN, "s3cret")
    with served(*words(collection, "--mcp", "http", "--max-body-mb", "0.001")) as (url, _):
        assert httpx.post(f"{url}/mcp", json={}).status_code == 401
        headers = {"authorization": "Bearer s3cret"}
        assert httpx.post(f"{url}/mcp", json={}, headers=headers).status_code == 400
        assert httpx.post(f"{url}/mcp", json={"x": "y" * 2000}, headers=headers).status_code == 413
