"""What a server does, whatever protocol its clients speak: rank documents and search an index, within its limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from pyserini_reasonrank.api import Reranker
from pyserini_reasonrank.errors import Failure, UsageError, nearest
from pyserini_reasonrank.plugins import failure_of
from pyserini_reasonrank.results import RankedDocuments
from pyserini_reasonrank.serve.admission import Admission

DEPTH = 100
"""Hits that a search reranks by default."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one server accepts: ``requests`` at once, ``documents`` and ``body_bytes`` of one, ``body_seconds`` to send it."""

    requests: int = 256
    documents: int = 1000
    body_bytes: int = 16 << 20
    body_seconds: float = 30.0


class Searcher(Protocol):
    """A first stage: the hits of a query, best first, as mappings with docid, score and the fields of the document."""

    async def search(self, query: str, k: int) -> list[dict[str, Any]]: ...


class NotHere(Exception):
    """A model or an index that this server does not have."""


class Service:
    """The rerankers of one server under their names, the first by default, its index, and its admission of requests."""

    def __init__(
        self, rerankers: Mapping[str, Reranker], limits: Limits | None = None, searcher: Searcher | None = None
    ) -> None:
        self.rerankers, self.limits, self.searcher = rerankers, limits or Limits(), searcher
        self.admission = Admission(self.limits.requests)

    def reranker(self, model: str | None) -> tuple[str, Reranker]:
        """The reranker with this name, the first if it is None. NotHere if there is none."""
        name = next(iter(self.rerankers)) if model is None else model
        if name not in self.rerankers:
            raise NotHere(f"model {name!r} is not served here{nearest(name, self.rerankers)}; "
                          f"this server has {', '.join(self.rerankers)}")  # fmt: skip
        return name, self.rerankers[name]

    async def rank(
        self, model: str | None, query: str, documents: Sequence[Any], qid: str | None = None
    ) -> tuple[str, RankedDocuments]:
        """Rank documents with the reranker ``model``. Returns its name and the result.

        UsageError for too many documents or for one without text; NotHere if there is no such reranker.
        """
        name, reranker = self.reranker(model)
        if len(documents) > self.limits.documents:
            raise UsageError(
                f"there are {len(documents):,} documents; this server ranks at most {self.limits.documents:,}"
            )
        return name, await _ranked(reranker, query, documents, qid)

    async def hits(self, query: str, k: int) -> list[dict[str, Any]]:
        """The ``k`` best hits of the search, in its order. NotHere if this server has no index."""
        if self.searcher is None:
            raise NotHere("this server has no index: start it with --index")
        return await self.searcher.search(query, k)

    async def search(
        self, model: str | None, query: str, k: int, depth: int | None
    ) -> tuple[str, RankedDocuments | None]:
        """Search the index and rank the ``depth`` best hits [100, at least ``k``] with the reranker ``model``.

        Returns its name and the result, None if the search found nothing. NotHere if there is no such reranker or no index.
        """
        name, reranker = self.reranker(model)
        found = await self.hits(query, max(k, depth or DEPTH))
        return name, await _ranked(reranker, query, found) if found else None


async def _ranked(reranker: Reranker, query: str, documents: Sequence[Any], qid: str | None = None) -> RankedDocuments:
    """The result. Failure, in one sentence, if a part of another package raises."""
    try:
        return await reranker.rank_async(query, documents, qid=qid)
    except (UsageError, Failure):
        raise
    except Exception as error:
        if (message := failure_of(error)) is None:
            raise
        raise Failure(message) from error


@asynccontextmanager
async def closing(rerankers: Mapping[str, Reranker]) -> AsyncIterator[None]:
    """Close the rerankers at the end of a block."""
    try:
        yield
    finally:
        for reranker in rerankers.values():
            await asyncio.to_thread(reranker.close)
