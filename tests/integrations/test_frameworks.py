"""LangChain's compressor and LlamaIndex's postprocessor with the real packages and the oracle engine."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pyserini_reasonrank import Reranker, UsageError

TEXTS = ["Lamps emit light.", "Cats sleep.", "Moths keep a constant angle to the moon.", "Moths have wings."]


@pytest.fixture
def settings(tmp_path: Path) -> Mapping[str, Any]:
    """An oracle that prefers document 2, then 3, for the first queries of a reranker."""
    qrels = tmp_path / "qrels.txt"
    qrels.write_text("".join(f"{qid} 0 2 2\n{qid} 0 3 1\n" for qid in range(5)))
    return {"engine": {"name": "oracle", "qrels": str(qrels)}}


class TestLangChain:
    @pytest.fixture
    def documents(self) -> Any:
        core = pytest.importorskip("langchain_core.documents", reason="needs LangChain: pip install '.[langchain]'")
        return [
            core.Document(page_content=text, metadata={"title": f"T{i}"}, id=str(9 - i)) for i, text in enumerate(TEXTS)
        ]

    def test_documents_are_reordered_and_cut(self, documents: Any, settings: Mapping[str, Any]) -> None:
        from pyserini_reasonrank.integrations.langchain import ReasonRankCompressor

        compressor = ReasonRankCompressor("reasonrank", top_n=2, **settings)
        found = compressor.compress_documents(documents, "how do moths navigate")
        assert [one.page_content for one in found] == [TEXTS[2], TEXTS[3]]
        assert [one.id for one in found] == ["7", "6"]
        assert found[0].metadata["title"] == "T2"
        assert [one.metadata["relevance_score"] for one in found] == [1.0, 0.75]
        assert (found[1].metadata["rank"], found[1].metadata["statuses"]) == (2, "1 ok")
        assert found[0].metadata["reasoning"]
        assert documents[2].metadata == {"title": "T2"}
        again = asyncio.run(compressor.acompress_documents(documents, "how do moths navigate"))
        assert [one.model_dump() for one in again] == [one.model_dump() for one in found]
        assert compressor.compress_documents([], "x") == []

    def test_it_is_a_step_of_a_chain(self, documents: Any, settings: Mapping[str, Any]) -> None:
        from langchain_core.runnables import RunnableLambda

        from pyserini_reasonrank.integrations.langchain import ReasonRankCompressor

        with Reranker("rank1", **settings) as reranker:
            compressor = ReasonRankCompressor(reranker)
            retriever = RunnableLambda(lambda query: (documents, query))
            chain = retriever | RunnableLambda(lambda given: compressor.compress_documents(*given))
            found = chain.invoke("how do moths navigate")
        assert {one.page_content for one in found} == set(TEXTS)
        assert found[0].page_content == TEXTS[2]
        assert found[0].metadata["llm_score"] > found[-1].metadata["llm_score"]
        with pytest.raises(UsageError, match="has its own settings: pass depth"):
            ReasonRankCompressor(reranker, depth=3)


class TestLlamaIndex:
    @pytest.fixture
    def nodes(self) -> Any:
        schema = pytest.importorskip("llama_index.core.schema", reason="needs LlamaIndex: pip install '.[llama-index]'")
        return [
            schema.NodeWithScore(node=schema.TextNode(text=text, id_=f"n{i}", metadata={"title": f"T{i}"}), score=0.5)
            for i, text in enumerate(TEXTS)
        ]

    def test_nodes_are_reordered_and_cut(self, nodes: Any, settings: Mapping[str, Any]) -> None:
        from llama_index.core.schema import MetadataMode

        from pyserini_reasonrank.integrations.llama_index import ReasonRankPostprocessor

        postprocessor = ReasonRankPostprocessor("reasonrank", top_n=2, **settings)
        found = postprocessor.postprocess_nodes(nodes, query_str="how do moths navigate")
        assert [one.node.node_id for one in found] == ["n2", "n3"]
        assert [one.score for one in found] == [1.0, 0.75]
        assert found[0].node.metadata["reasoning"]
        assert found[0].node.metadata["statuses"] == "1 ok"
        assert found[0].node.get_content(MetadataMode.LLM) == f"title: T2\n\n{TEXTS[2]}"
        assert nodes[2].node.metadata == {"title": "T2"}
        again = asyncio.run(postprocessor.apostprocess_nodes(nodes, query_str="how do moths navigate"))
        assert [one.to_dict() for one in again] == [one.to_dict() for one in found]
        assert postprocessor.postprocess_nodes([], query_str="x") == []
        assert postprocessor.class_name() == "ReasonRankPostprocessor"

    def test_the_scores_of_nodes_are_fused(self, nodes: Any, settings: Mapping[str, Any]) -> None:
        from pyserini_reasonrank.integrations.llama_index import ReasonRankPostprocessor

        first_stage = {"method": "z-score", "weight": 0.0}
        postprocessor = ReasonRankPostprocessor("reasonrank", fuse=first_stage, **settings)
        for node, score in zip(nodes, (0.1, 0.9, 0.2, 0.3), strict=True):
            node.score = score
        found = postprocessor.postprocess_nodes(nodes, query_str="how do moths navigate")
        assert [one.node.node_id for one in found] == ["n1", "n3", "n2", "n0"]
        nodes[0].score = None
        found = postprocessor.postprocess_nodes(nodes, query_str="how do moths navigate")
        assert len(found) == len(nodes)

    def test_without_a_query_it_says_so(self, nodes: Any, settings: Mapping[str, Any]) -> None:
        from pyserini_reasonrank.integrations.llama_index import ReasonRankPostprocessor

        with pytest.raises(UsageError, match="needs the query: pass query_str or query_bundle"):
            ReasonRankPostprocessor("reasonrank", **settings).postprocess_nodes(nodes)
