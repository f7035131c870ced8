"""The server with the embedded model and a real index, through the clients of Cohere, TEI, Jina and MCP."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import cohere
import httpx
import pytest
from conftest import Command
from serving import served

QUERY = "how do moths find their way at night"
DOCUMENTS = [
    "Lamps are sold in three sizes and four colours.",
    "Moths find their way at night by keeping a constant angle to the moon.",
    "The tax on windows was repealed in 1851.",
    "A night train runs between the two towns.",
]


def installed(package: str) -> bool:
    return any(distributions(name=package))


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, command: Command) -> Path:
    folder = tmp_path_factory.mktemp("serve")
    corpus = folder / "corpus.jsonl"
    lines = [json.dumps({"id": f"d{i}", "contents": text}) for i, text in enumerate(DOCUMENTS)]
    corpus.write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = command("index", "--corpus", corpus, "--index", folder / "index")
    assert done.returncode == 0, done.stderr
    return folder / "index"


@pytest.fixture(scope="module")
def url(index: Path) -> Iterator[str]:
    words = ["serve", "--rerank", "upr", "--port", "0", "--index", str(index), "--mcp", "http"]
    with served(*words) as (address, process):
        yield address
        process.terminate()
        assert process.wait(30) == 0


def test_the_client_of_cohere_v1(url: str) -> None:
    with cohere.Client("any key", base_url=url) as client:
        answer = client.rerank(query=QUERY, documents=DOCUMENTS, top_n=2, return_documents=True, model="upr")
    assert answer.results[0].index == 1
    assert [result.relevance_score for result in answer.results] == [1.0, 0.75]
    assert answer.results[0].document is not None
    assert answer.results[0].document.text == DOCUMENTS[1]


def test_the_client_of_cohere_v2(url: str) -> None:
    with cohere.ClientV2("any key", base_url=url) as client:
        answer = client.rerank(query=QUERY, documents=DOCUMENTS, model="upr")
        assert sorted(result.index for result in answer.results) == [0, 1, 2, 3]
        assert answer.results[0].index == 1
        with pytest.raises(cohere.NotFoundError, match=r"model 'rerank-v3\.5' is not served here"):
            client.rerank(query=QUERY, documents=DOCUMENTS, model="rerank-v3.5")
        with pytest.raises(cohere.UnprocessableEntityError, match="documents: list should have at least 1 item"):
            client.rerank(query=QUERY, documents=[], model="upr")


CLIENTS = """
import json, sys
sys.modules |= {"torch": None, "transformers": None}  # the clients need neither; importing both takes seconds
from rerankers.models.api_rankers import APIRanker

url, query, *documents = sys.argv[1:]
for provider, path in ("text-embeddings-inference", "/rerank"), ("jina", "/v1/rerank"):
    client = APIRanker("upr", api_key="any key", api_provider=provider, url=url + path)
    answer = client.rank(query, documents, doc_ids=["lamps", "moths", "tax", "train"])
    print(json.dumps([(result.doc_id, result.score) for result in answer.results]))
"""


@pytest.mark.skipif(not installed("rerankers"), reason="needs the package rerankers, which has clients of TEI and Jina")
def test_the_clients_of_tei_and_jina(url: str) -> None:
    words = [sys.executable, "-c", CLIENTS, url, QUERY, *DOCUMENTS]  # tests/benchmarks has a module of that name
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    tei, jina = map(json.loads, done.stdout.splitlines())
    for results in (tei, jina):
        assert results[0] == ["moths", 1.0]
        assert [score for _, score in results] == [1.0, 0.75, 0.5, 0.25]
        assert sorted(docid for docid, _ in results) == ["lamps", "moths", "tax", "train"]


def test_the_client_of_mcp(url: str) -> None:
    mcp = pytest.importorskip("mcp", reason="needs mcp, version 2 or newer")

    async def search() -> Any:
        async with mcp.Client(f"{url}/mcp", read_timeout_seconds=60) as client:
            found = await client.call_tool("search_and_rerank", {"query": QUERY, "k": 1, "return_text": True})
            candidates = {"query": QUERY, "candidates": DOCUMENTS}
            return found.structured_content, (await client.call_tool("rerank", candidates)).structured_content

    found, ranked = asyncio.run(search())
    [best] = found["results"]
    assert (best["docid"], best["text"], best["score"]) == ("d1", DOCUMENTS[1], 1.0)
    assert found["statuses"] == {"ok": 2}
    assert ranked["results"][0]["index"] == 1


def test_search_and_rerank(url: str) -> None:
    plain = httpx.post(f"{url}/v1/search", json={"query": QUERY, "rerank": False}, timeout=60).json()
    assert {hit["docid"] for hit in plain["results"]} == {"d1", "d3"}
    answer = httpx.post(f"{url}/v1/search", json={"query": QUERY, "k": 1}, timeout=60).json()
    [best] = answer["results"]
    assert (best["docid"], best["text"], best["relevance_score"]) == ("d1", DOCUMENTS[1], 1.0)
    assert best["first_stage_score"] == plain["results"][0]["score"] > 0
    assert answer["statuses"] == {"ok": 2}
    nothing = httpx.post(f"{url}/v1/search", json={"query": "zebras"}, timeout=60).json()
    assert nothing["results"] == []


def test_a_rewritten_query_is_searched_and_the_original_reranked(index: Path, tmp_path: Path) -> None:
    answers, qrels = tmp_path / "answers.jsonl", tmp_path / "qrels.txt"
    answers.write_text(json.dumps({"qid": "q1", "call": 0, "response": "<answer>repealed tax</answer>"}) + "\n")
    qrels.write_text("q1 0 d3 1\nq1 0 d2 2\n")
    engines = ["--rerank.engine.name", "oracle", "--rerank.engine.qrels", str(qrels),
               "--rewrite.engine.name", "recorded", "--rewrite.engine.path", str(answers)]  # fmt: skip
    words = ["serve", "--rerank", "reasonrank", "--rewrite", "keywords", *engines, "--index", str(index), "--port", "0"]
    with served(*words) as (address, _):
        asked = {"query": "a train", "qid": "q1"}
        found = httpx.post(f"{address}/v1/search", json=asked, timeout=60).json()
        assert found["rewrite"] == {"searched": "a train repealed tax", "statuses": {"ok": 1}}
        assert [hit["docid"] for hit in found["results"]] == ["d2", "d3"]
        plain = httpx.post(f"{address}/v1/search", json=asked | {"rewrite": False}, timeout=60).json()
        assert [hit["docid"] for hit in plain["results"]] == ["d3"]
        lacking = httpx.post(f"{address}/v1/search", json={"query": "a train"}, timeout=60)
        assert (lacking.status_code, "no recorded answer" in lacking.json()["message"]) == (502, True)


def test_an_index_that_can_not_be_searched_is_named_before_the_server_listens(command: Command, tmp_path: Path) -> None:
    done = command("serve", "--rerank", "upr", "--port", "0", "--index", tmp_path)
    assert done.returncode == 2
    assert f"{tmp_path} contains no Lucene index" in done.stderr
    assert "Traceback" not in done.stderr
