"""Reranking in LlamaIndex: a node postprocessor for query engines and retrievers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle

from pyserini_reasonrank.api import Reranker
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.integrations.conversion import document, metadata, opened
from pyserini_reasonrank.results import RankedDocuments


class ReasonRankPostprocessor(BaseNodePostprocessor):  # type: ignore[misc]
    """Reranks nodes and keeps the best ``top_n``, or all.

    ``reranker`` is a name for ``--rerank`` or an ``api.Reranker``; further settings are those of ``api.Reranker``. The
    nodes are copies with a score in (0, 1] that falls with the rank. ``relevance_score``, ``rank``, ``statuses`` and, if the
    model gave them, ``llm_score`` and ``reasoning`` are added to their metadata, but not to what a later LLM or embedding
    reads. A title in the metadata is shown to the model. The scores of the nodes are those of the first stage.
    """

    top_n: int | None = Field(default=None, ge=1)
    _reranker: Reranker = PrivateAttr()

    def __init__(self, reranker: str | Reranker = "reasonrank", *, top_n: int | None = None, **settings: Any) -> None:
        super().__init__(top_n=top_n)
        self._reranker = opened(reranker, settings)

    @classmethod
    def class_name(cls) -> str:
        """The name in serialized pipelines."""
        return "ReasonRankPostprocessor"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        return self._kept(self._reranker.rank(_query(query_bundle), _records(nodes)), nodes)

    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        return self._kept(await self._reranker.rank_async(_query(query_bundle), _records(nodes)), nodes)

    def _kept(self, ranked: RankedDocuments, nodes: Sequence[NodeWithScore]) -> list[NodeWithScore]:
        kept = []
        for found in ranked.documents[: self.top_n]:
            given, added = nodes[int(found.docid)].node, metadata(ranked, found)
            node = given.model_copy(update={
                "metadata": given.metadata | added,
                "excluded_llm_metadata_keys": [*given.excluded_llm_metadata_keys, *added],
                "excluded_embed_metadata_keys": [*given.excluded_embed_metadata_keys, *added],
            })  # fmt: skip
            kept.append(NodeWithScore(node=node, score=added["relevance_score"]))
        return kept


def _query(bundle: QueryBundle | None) -> str:
    if bundle is None:
        raise UsageError("ReasonRankPostprocessor needs the query: pass query_str or query_bundle")
    return str(bundle.query_str)


def _records(nodes: Sequence[NodeWithScore]) -> list[dict[str, Any]]:
    """The nodes as documents, with their scores if all have one."""
    records = [document(one.node.get_content(MetadataMode.NONE), one.node.metadata) for one in nodes]
    if any(one.score is None for one in nodes):
        return records
    return [record | {"score": one.score} for record, one in zip(records, nodes, strict=True)]
