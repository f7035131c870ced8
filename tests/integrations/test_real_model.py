"""Every integration reranks three documents with the embedded model, and the examples of the pages print what they show."""

from __future__ import annotations

import doctest
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from pyserini_reasonrank import Reranker

QUERY = "how do moths navigate"
TEXTS = ["Lamps emit light.", "Cats sleep most of the day.", "Moths keep a constant angle to the moon to fly straight."]
TITLES = [None, None, "Navigation of moths"]


@pytest.fixture(scope="module")
def upr() -> Iterator[Reranker]:
    with Reranker("upr", fuse="none") as reranker:
        yield reranker


@pytest.fixture(scope="module")
def order(upr: Reranker) -> list[int]:
    """The order of the Python API."""
    documents = [{"text": x} | ({"title": t} if t else {}) for x, t in zip(TEXTS, TITLES, strict=True)]
    found = [int(d.docid) for d in upr.rank(QUERY, documents)]
    assert found[0] == 2
    return found


def test_pyterrier(upr: Reranker, order: list[int]) -> None:
    pytest.importorskip("pyterrier", reason="needs PyTerrier: pip install '.[pyterrier]'")
    import pandas as pd

    from pyserini_reasonrank.integrations.pyterrier import ReasonRank

    frame = pd.DataFrame({"qid": "q", "query": QUERY, "docno": list("012"), "text": TEXTS, "title": TITLES})
    found = ReasonRank(upr)(frame)
    assert [int(docno) for docno in found["docno"]] == order
    assert set(found["statuses"]) == {"3 ok"}


def test_langchain(upr: Reranker, order: list[int]) -> None:
    core = pytest.importorskip("langchain_core.documents", reason="needs LangChain: pip install '.[langchain]'")
    from pyserini_reasonrank.integrations.langchain import ReasonRankCompressor

    documents = [core.Document(page_content=x, metadata={"title": t}) for x, t in zip(TEXTS, TITLES, strict=True)]
    found = ReasonRankCompressor(upr).compress_documents(documents, QUERY)
    assert [TEXTS.index(one.page_content) for one in found] == order
    scores = [one.metadata["llm_score"] for one in found]
    assert scores == sorted(scores, reverse=True)


def test_llama_index(upr: Reranker, order: list[int]) -> None:
    schema = pytest.importorskip("llama_index.core.schema", reason="needs LlamaIndex: pip install '.[llama-index]'")
    from pyserini_reasonrank.integrations.llama_index import ReasonRankPostprocessor

    nodes = [
        schema.NodeWithScore(node=schema.TextNode(text=x, metadata={"title": t} if t else {}))
        for x, t in zip(TEXTS, TITLES, strict=True)
    ]
    found = ReasonRankPostprocessor(upr, top_n=2).postprocess_nodes(nodes, query_str=QUERY)
    assert [TEXTS.index(one.node.text) for one in found] == order[:2]


def test_mteb(order: list[int]) -> None:
    pytest.importorskip("mteb", reason="needs MTEB: pip install '.[mteb]'")
    from mteb.models.models_protocols import CrossEncoderProtocol

    from pyserini_reasonrank.integrations.mteb import ReasonRankCrossEncoder

    class Task:
        name, type, prompt = "Moths", "Retrieval", None

    model: Any = ReasonRankCrossEncoder("upr", fuse="none")
    assert isinstance(model, CrossEncoderProtocol)
    documents = [{"id": list("012"), "text": TEXTS, "title": [t or "" for t in TITLES], "body": TEXTS}]
    scores = model.predict([{"text": [QUERY] * 3}], documents, task_metadata=Task, hf_split="test", hf_subset="default")
    assert [order.index(i) for i in range(3)] == [2 - score for score in scores]
    model.close()


@pytest.mark.parametrize(
    ("page", "libraries"),
    [
        ("usage-pyterrier", ["pyterrier"]),
        ("usage-mteb", ["mteb"]),
        ("usage-python", ["langchain_core", "llama_index.core"]),
    ],
)
def test_the_examples_of_a_page_print_what_it_shows(
    page: str, libraries: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for library in libraries:
        pytest.importorskip(library, reason=f"needs {library}: install the integration's extra")
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```pycon\n(.*?)```", text, re.DOTALL)
    examples = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, page, page, 0)
    assert len(examples.examples) >= 10
    failures = list[str]()
    doctest.DocTestRunner(verbose=False).run(examples, out=failures.append)
    assert failures == []
