"""Reranking in LangChain: a document compressor, for example for ``ContextualCompressionRetriever``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from pydantic import Field, PrivateAttr

from pyserini_reasonrank.api import Reranker
from pyserini_reasonrank.integrations.conversion import document, metadata, opened
from pyserini_reasonrank.results import RankedDocuments


class ReasonRankCompressor(BaseDocumentCompressor):  # type: ignore[misc]
    """Reranks documents and keeps the best ``top_n``, or all.

    ``reranker`` is a name for ``--rerank`` or an ``api.Reranker``; further settings are those of ``api.Reranker``. The
    documents are copies: ``relevance_score``, ``rank``, ``statuses`` and, if the model gave them, ``llm_score`` and
    ``reasoning`` are added to their metadata. A title in the metadata is shown to the model.
    """

    top_n: int | None = Field(default=None, ge=1)
    _reranker: Reranker = PrivateAttr()

    def __init__(self, reranker: str | Reranker = "reasonrank", *, top_n: int | None = None, **settings: Any) -> None:
        super().__init__(top_n=top_n)
        self._reranker = opened(reranker, settings)

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """Rerank ``documents``, given in first-stage order. UsageError or Failure as ``Reranker.rank``."""
        return self._kept(self._reranker.rank(query, _records(documents)), documents)

    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """As ``compress_documents``, without blocking the event loop."""
        return self._kept(await self._reranker.rank_async(query, _records(documents)), documents)

    def _kept(self, ranked: RankedDocuments, documents: Sequence[Document]) -> list[Document]:
        kept = ranked.documents[: self.top_n]
        given = [(found, documents[int(found.docid)]) for found in kept]
        return [one.model_copy(update={"metadata": one.metadata | metadata(ranked, found)}) for found, one in given]


def _records(documents: Sequence[Document]) -> list[dict[str, Any]]:
    return [document(one.page_content, one.metadata) for one in documents]
