"""What a server does, whatever protocol its clients speak: rank documents and search an index, within its limits."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pyserini_reasonrank.api import Reranker, Rewriter
from pyserini_reasonrank.errors import Failure, UsageError, nearest
from pyserini_reasonrank.plugins import failure_of
from pyserini_reasonrank.results import RankedDocuments, RewrittenQuery
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
    """A model, an index or a rewriter that this server does not have."""


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """A query to search; the reranker reads its ``text`` in any case.

    ``rewrite``: search with the text of the server's rewriter; None: if it has one. ``qid`` is its name in journals.
    """

    text: str
    rewrite: bool | None = None
    qid: str | None = None


class Service:
    """The rerankers of one server under their names, the first by default, its index, and its admission of requests.

    ``rewriter`` rewrites the queries of searches, if it is given.
    """

    def __init__(
        self,
        rerankers: Mapping[str, Reranker],
        limits: Limits | None = None,
        searcher: Searcher | None = None,
        rewriter: Rewriter | None = None,
    ) -> None:
        self.rerankers, self.limits, self.searcher, self.rewriter = rerankers, limits or Limits(), searcher, rewriter
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
        return name, await _guarded(reranker.rank_async(query, documents, qid=qid))

    async def hits(self, query: SearchQuery, k: int) -> tuple[RewrittenQuery | None, list[dict[str, Any]]]:
        """The ``k`` best hits of the search, in its order, and the query as it was rewritten for it; None if it was not.

        NotHere if this server has no index, or if a rewrite is wanted and it has no rewriter.
        """
        if (searcher := self.searcher) is None:
            raise NotHere("this server has no index: start it with --index")
        if query.rewrite and self.rewriter is None:
            raise NotHere("this server rewrites no queries: start it with --rewrite NAME")
        if self.rewriter is None or query.rewrite is False:
            return None, await searcher.search(query.text, k)
        rewritten = await _guarded(self.rewriter.rewrite_async(query.text, search=searcher.search, qid=query.qid))
        return rewritten, await searcher.search(rewritten.text, k)

    async def search(
        self, model: str | None, query: SearchQuery, k: int, depth: int | None
    ) -> tuple[str, RewrittenQuery | None, RankedDocuments | None]:
        """Search the index and rank the ``depth`` best hits [100, at least ``k``] with the reranker ``model``.

        Returns its name, the rewritten query as ``hits`` does, and the result, None if the search found nothing. NotHere as
        for ``hits``, or if there is no such reranker.
        """
        name, reranker = self.reranker(model)
        rewritten, found = await self.hits(query, max(k, depth or DEPTH))
        ranked = await _guarded(reranker.rank_async(query.text, found, qid=query.qid)) if found else None
        return name, rewritten, ranked


async def _guarded[T](job: Awaitable[T]) -> T:
    """The result of ``job``. Failure, in one sentence, if a part of another package raises."""
    try:
        return await job
    except (UsageError, Failure):
        raise
    except Exception as error:
        if (message := failure_of(error)) is None:
            raise
        raise Failure(message) from error
