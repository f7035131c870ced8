"""Searches of the server with a rewriter: REST in a real uvicorn and MCP, over a first stage that notes what it is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from conftest import Collection
from test_app import eventually, post, serving

from pyserini_reasonrank import Failure, Reranker, Rewriter, UsageError
from pyserini_reasonrank.engines.oracle import Oracle, OracleOptions
from pyserini_reasonrank.models.catalogue import Model
from pyserini_reasonrank.records import Call, Completion, Prompt, Sampling, Status
from pyserini_reasonrank.serve.app import create_app
from pyserini_reasonrank.serve.command import main
from pyserini_reasonrank.serve.service import Limits, NotHere, SearchQuery, Service

HITS = [{"docid": f"d{i}", "score": 9.0 - i, "text": f"passage {i}"} for i in range(5)]
SEARCH = "/v1/search"


class Rewrites(Oracle):
    """Writes ``answer``, once ``open``; notes the prompts of rerankers and rewriters alike."""

    def __init__(self, qrels: str) -> None:
        super().__init__(Model("rewrites", "rewrites"), OracleOptions(qrels=qrels))
        self.prompts, self.answer, self.open, self.cancelled = list[str](), "", True, 0

    async def generate(self, prompt: Prompt, sampling: Sampling, call: Call) -> Completion:
        self.prompts.append(prompt.messages[-1].content)
        try:
            while not self.open:
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        found = await super().generate(prompt, sampling, call)
        return Completion(self.answer, prompt_tokens=5, output_tokens=3) if self.answer else found


class Index:
    """Finds ``HITS`` for any text but "zebras", and notes what it is asked."""

    def __init__(self) -> None:
        self.searched = list[tuple[str, int]]()

    async def search(self, query: str, k: int) -> list[dict[str, Any]]:
        self.searched.append((query, k))
        return [] if "zebras" in query else HITS[:k]


class Served:
    """A service whose reranker and rewriter have engines of their own, and the URL of its server."""

    def __init__(self, qrels: str, **settings: Any) -> None:
        self.index, self.writes, self.ranks = Index(), Rewrites(qrels), Rewrites(qrels)
        self.reranker = Reranker("reasonrank", engine=self.ranks)
        self.rewriter = Rewriter("keywords", engine=self.writes, **settings)
        self.service = Service({"reasonrank": self.reranker}, Limits(documents=30), self.index, self.rewriter)
        self.url = ""


@pytest.fixture
def served(collection: Collection) -> Iterator[Served]:
    made = Served(str(collection.qrels))
    made.writes.answer = "<think>night</think><answer>dorsal light</answer>"
    with made.reranker, made.rewriter, serving(create_app(made.service)) as made.url:
        yield made


def test_the_search_reads_the_rewrite_and_the_reranker_the_query(served: Served) -> None:
    answer = post(served.url, SEARCH, {"query": "why moths?", "k": 2, "return_reasoning": True}).json()
    assert served.index.searched == [("why moths? dorsal light", 100)]
    assert answer["rewrite"] == {
        "searched": "why moths? dorsal light", "statuses": {"ok": 1}, "reasoning": "night"
    }  # fmt: skip
    assert len(answer["results"]) == 2
    assert "warnings" not in answer
    [prompt] = served.ranks.prompts
    assert "why moths?" in prompt
    assert "dorsal light" not in prompt
    plain = post(served.url, SEARCH, {"query": "why moths?", "rerank": False, "k": 3}).json()
    assert served.index.searched[1:] == [("why moths? dorsal light", 3)]
    assert (plain["results"], plain["rewrite"]["searched"]) == (HITS[:3], "why moths? dorsal light")


def test_a_request_can_search_with_the_query_itself(served: Served) -> None:
    answer = post(served.url, SEARCH, {"query": "why moths?", "rewrite": False}).json()
    assert served.index.searched == [("why moths?", 100)]
    assert "rewrite" not in answer
    assert served.writes.prompts == []


def test_an_unreadable_rewrite_is_visible(served: Served) -> None:
    served.writes.answer = "<answer></answer>"
    for query in ("why moths?", "zebras"):
        answer = post(served.url, SEARCH, {"query": query}).json()
        assert answer["rewrite"] == {"searched": query, "statuses": {"empty": 1}}
        assert answer["warnings"] == [
            "an answer of the rewriter could not be used (1 empty); the query was searched with its own words"
        ]
    assert answer["results"] == []
    served.writes.answer = "<answer>" + " ".join(f"w{i}" for i in range(2000)) + "</answer>"
    assert post(served.url, SEARCH, {"query": "long"}).json()["warnings"] == [
        "the rewritten query was cut to the number of different words that a search accepts"
    ]


def test_the_counts_of_the_rewriter_have_metrics_of_their_own(served: Served) -> None:
    post(served.url, SEARCH, {"query": "why moths?"})
    lines = httpx.get(f"{served.url}/metrics").text.splitlines()
    assert 'reasonrank_rewriter_judgements_total{rewriter="keywords",status="ok"} 1.0' in lines
    assert 'reasonrank_rewriter_tokens_total{kind="output",rewriter="keywords"} 3.0' in lines
    assert 'reasonrank_calls_total{reranker="reasonrank"} 1.0' in lines
    assert httpx.get(f"{served.url}/health").json()["rewriter"] == "keywords"


def test_a_client_that_goes_away_cancels_the_rewrite(served: Served) -> None:
    served.writes.open = False
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{served.url}{SEARCH}", json={"query": "why moths?"}, timeout=0.5)
    eventually(lambda: served.writes.cancelled == 1 and not served.service.admission.active)
    assert served.index.searched == []


def test_rounds_search_the_index_of_the_server(collection: Collection) -> None:
    made = Served(str(collection.qrels), rounds=2, depth=3)
    made.writes.answer = "<answer>dorsal light</answer>"
    with made.reranker, made.rewriter:
        rewritten, hits = asyncio.run(made.service.hits(SearchQuery("why moths?"), 4))
    assert rewritten is not None
    assert made.index.searched == [("why moths? dorsal light", 3), ("why moths? dorsal light", 4)]
    assert (rewritten.statuses.get(Status.OK), hits) == (2, HITS[:4])
    assert "[3] passage 2" in made.writes.prompts[1]


def test_a_rewrite_that_is_wanted_where_there_is_none_is_refused(collection: Collection) -> None:
    with Reranker("reasonrank", engine=Rewrites(str(collection.qrels))) as reranker:
        service = Service({"reasonrank": reranker}, searcher=Index())
        with pytest.raises(NotHere, match="this server rewrites no queries: start it with --rewrite NAME"):
            asyncio.run(service.search(None, SearchQuery("q", rewrite=True), 3, None))
        name, rewritten, ranked = asyncio.run(service.search(None, SearchQuery("q"), 3, None))
    assert (name, rewritten, len(ranked or ())) == ("reasonrank", None, 5)


def test_a_failed_call_of_the_rewriter_is_a_failure(collection: Collection) -> None:
    class Broken(Rewrites):
        async def generate(self, prompt: Prompt, sampling: Sampling, call: Call) -> Completion:
            return Completion(finish_reason="error", error="HTTP 500")

    with (
        Reranker("reasonrank", engine=Rewrites(str(collection.qrels))) as reranker,
        Rewriter("keywords", engine=Broken(str(collection.qrels))) as rewriter,
    ):
        service = Service({"reasonrank": reranker}, None, Index(), rewriter)
        with pytest.raises(Failure, match="query 0, call 0: HTTP 500"):
            asyncio.run(service.hits(SearchQuery("q"), 3))


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--rewrite", "keywords"], "--rewrite needs --index: the queries of searches are rewritten"),
        (["--index", "i", "--rewrite", "keyword"], "there is no rewriter 'keyword'; did you mean 'keywords'"),
        (["--index", "i", "--rewrite.rounds", "2"], "--rewrite needs the name of a rewriter"),
        (["--index", "i", "--rewrite", "keywords", "--rewrite.round", "2"], "did you mean 'rounds'"),
    ],
)
def test_flags_are_checked_before_anything_is_loaded(collection: Collection, flags: list[str], says: str) -> None:
    oracle = ["--rerank.engine.name", "oracle", "--rerank.engine.qrels", str(collection.qrels)]
    with pytest.raises(UsageError) as error:
        main(["--rerank", "reasonrank", *oracle, *flags])
    assert says in str(error.value)


def test_the_tool_of_mcp_clients(served: Served) -> None:
    mcp = pytest.importorskip("mcp", reason="needs mcp, version 2 or newer")
    from pyserini_reasonrank.serve.mcp_tools import Tools

    async def work(**arguments: Any) -> Any:
        async with mcp.Client(Tools(served.service, "night"), read_timeout_seconds=60) as client:
            return (await client.call_tool("search_and_rerank", arguments)).structured_content

    found = asyncio.run(work(query="why moths?", k=2))
    assert found["rewrite"] == {"searched": "why moths? dorsal light", "statuses": {"ok": 1}}
    assert len(found["results"]) == 2
    assert "rewrite" not in asyncio.run(work(query="why moths?", rewrite=False))
    served.writes.answer = "<answer></answer>"
    assert asyncio.run(work(query="zebras"))["warnings"] == [
        "an answer of the rewriter could not be used (1 empty); the query was searched with its own words"
    ]
    assert [text for text, _ in served.index.searched] == ["why moths? dorsal light", "why moths?", "zebras"]
