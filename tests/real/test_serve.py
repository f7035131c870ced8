"""The server with the embedded model and a real index, as the clients of Cohere see it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cohere
import httpx
import pytest
from conftest import Command

QUERY = "how do moths find their way at night"
DOCUMENTS = [
    "Lamps are sold in three sizes and four colours.",
    "Moths find their way at night by keeping a constant angle to the moon.",
    "The tax on windows was repealed in 1851.",
    "A night train runs between the two towns.",
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, command: Command) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("serve")
    corpus = folder / "corpus.jsonl"
    lines = [json.dumps({"id": f"d{i}", "contents": text}) for i, text in enumerate(DOCUMENTS)]
    corpus.write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = command("index", "--corpus", corpus, "--index", folder / "index")
    assert done.returncode == 0, done.stderr
    words = ["serve", "--rerank", "upr", "--port", "0", "--index", str(folder / "index")]
    process = subprocess.Popen([sys.executable, "-m", "pyserini_reasonrank", *words], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        yield next(found[1] for line in process.stderr if (found := re.search(r"serving .* on (http://\S+)", line)))
    finally:
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


def test_an_index_that_can_not_be_searched_is_named_before_the_server_listens(command: Command, tmp_path: Path) -> None:
    done = command("serve", "--rerank", "upr", "--port", "0", "--index", tmp_path)
    assert done.returncode == 2
    assert f"{tmp_path} contains no Lucene index" in done.stderr
    assert "Traceback" not in done.stderr
