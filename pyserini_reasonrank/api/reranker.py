"""``Reranker``: rerank documents in a script, a notebook or a server, with all settings of the command line."""

from __future__ import annotations

import asyncio
import queue
import warnings
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path
from typing import Any

from pyserini_reasonrank.api.documents import (
    Documents,
    candidates_of,
    check_query,
    document_list,
    iterable,
    settings_of,
)
from pyserini_reasonrank.api.live import Live, Loadable
from pyserini_reasonrank.engines.background_loop import BackgroundLoop
from pyserini_reasonrank.errors import UnknownKey, UsageError
from pyserini_reasonrank.records import Query, Ranking, Request, Tally
from pyserini_reasonrank.rerankers.call_store import Trace, TracingStore
from pyserini_reasonrank.results import RankedDocuments
from pyserini_reasonrank.run.cost import Cost, estimate
from pyserini_reasonrank.run.known_flags import explained
from pyserini_reasonrank.run.parts import Plan
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.run.session import Session
from pyserini_reasonrank.settings import layers

_REQUEST = "(query, documents), or a mapping with query, documents, and optionally scores and qid"


class Reranker(Loadable[Session]):
    """A reranker by name, with any setting of the command line as a keyword argument.

    Args:
        reranker: a name for ``--rerank``, such as ``reasonrank``, ``rank-r1`` or ``upr``, or the path of a YAML file.
        journal: a file that stores finished calls, so that later processes reuse them; by default they are in memory.
        settings: ``model="..."``, ``depth=50``, ``engine="vllm"``, ``strategy={"window_size": 10}``,
            ``fuse="min-max"``, ``config="settings.yaml"``, ...: flags with dots are mappings, or strings if
            they only set a name. ``engine`` may also be an ``engines.Engine``.

    Raises:
        UsageError: the settings are invalid; the message has the reason and a remedy.

    The constructor checks the settings. The model is loaded once, by the first ranking, by ``load()`` or at the beginning
    of a ``with`` block. It runs on an event loop in a thread of its own, so the object can be used in scripts, notebooks,
    threads and coroutines. Nothing is printed; see ``warnings``.

    Example:
        >>> from pyserini_reasonrank import Reranker
        >>> with Reranker("upr") as reranker:  # doctest: +SKIP
        ...     ranked = reranker.rank("how do moths navigate", ["Lamps are ...", "Moths fly by ..."])
        >>> ranked[0].document  # doctest: +SKIP
        'Moths fly by ...'
    """

    kind = "reranker"

    def __init__(
        self, reranker: str | Path = "reasonrank", *, journal: str | Path | None = None, **settings: Any
    ) -> None:
        # libraries import tqdm's notebook bars, which warn if Jupyter has no widgets; no bar is shown here
        warnings.filterwarnings("ignore", message="IProgress not found")
        super().__init__(journal)
        tree, engine = settings_of(settings)
        try:
            self._plan: Plan = plan(*layers.load(str(reranker), tree), engine=engine)
        except UnknownKey as error:
            raise UsageError(explained(error)) from None

    @property
    def name(self) -> str:
        """The name of the reranker."""
        return self._plan.settings.name

    @property
    def tag(self) -> str:
        """The run tag: the reranker and its model."""
        return self._plan.tag

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about the settings and rankings so far: an estimated tokenizer, a missing prompt, truncated prompts, ..."""
        return tuple(self._live.worker.warnings if self._live else self._plan.warnings)

    @property
    def tally(self) -> Tally:
        """The judgements by status, LLM calls and tokens since the model was loaded."""
        return self._live.worker.tally if self._live else Tally()

    def cost(self, n: int) -> Cost:
        """The cost of a query with ``n`` candidates: calls, longest chain of calls, passages shown. Loads nothing.

        UsageError if ``n`` is not a number of candidates.
        """
        if not isinstance(n, Integral) or n < 0:
            raise UsageError(f"the number of candidates is {n!r}; it has to be a whole number from 0")
        return estimate(self._plan, int(n))

    def rank(
        self, query: str, documents: Documents, *, scores: Sequence[float] | None = None, qid: str | None = None
    ) -> RankedDocuments:
        """Rank ``documents``, given in first-stage order, for ``query``.

        ``scores`` are their first-stage scores, if the documents have none. Without scores there is no fusion with the first
        stage. ``qid`` identifies the query in results; by default it is a number.

        UsageError for documents without text or docid, for scores that are not finite numbers, and for a prompt with scores
        if there are none; Failure if the engine fails (see ``on_error``).
        """
        live = self._loaded()
        item = self._item(query, documents, scores, qid)
        with item.traced(live.store) as trace:
            return item.result(live.call(live.worker.rerank(item.request)), trace, self._plan.tag)

    async def rank_async(
        self, query: str, documents: Documents, *, scores: Sequence[float] | None = None, qid: str | None = None
    ) -> RankedDocuments:
        """As ``rank``, without blocking the running event loop. Cancelling it cancels the calls."""
        live = await self._loaded_async()
        item = self._item(query, documents, scores, qid)
        with item.traced(live.store) as trace:
            return item.result(await live.loop.run(live.worker.rerank(item.request)), trace, self._plan.tag)

    def rank_many(self, requests: Iterable[tuple[str, Documents] | Mapping[str, Any]]) -> Iterator[RankedDocuments]:
        """Rank many queries at once and yield each result as soon as it is complete, in any order.

        A request is ``(query, documents)``, or a mapping with ``query``, ``documents`` and optionally ``scores`` and ``qid``.
        Without a qid, ``result.qid`` is the number of the request, from 0. Requests are read only as others are finished, so
        they may be a generator over a large collection. The first exception ends the iteration and cancels the calls; a
        UsageError about a request begins with its number.
        """
        if not iterable(requests):
            raise UsageError(f"requests have to be an iterable of {_REQUEST}; this is a {type(requests).__name__}")
        live = self._loaded()
        items: dict[int, tuple[_Item, Trace]] = {}
        results: queue.SimpleQueue[Ranking | None] = queue.SimpleQueue()
        numbered = enumerate(requests)

        def following() -> _Item | None:
            found = next(numbered, None)
            return None if found is None else self._request_item(*found)

        async def stream() -> AsyncIterator[Request]:
            while (item := await asyncio.to_thread(following)) is not None:
                items[item.request.number] = item, live.store.open(item.request.number)
                yield item.request

        future = live.loop.submit(live.worker.rerank_all(stream(), results.put))
        future.add_done_callback(lambda _: results.put(None))
        try:
            while (ranking := results.get()) is not None:
                live.store.close(ranking.request.number)
                item, trace = items.pop(ranking.request.number)
                yield item.result(ranking, trace, self._plan.tag)
            future.result()
        finally:
            future.cancel()
            for item, _ in items.values():
                live.store.close(item.request.number)

    def __repr__(self) -> str:
        models = ", ".join(dict.fromkeys(part.engine.model.name for part in self._plan.parts.values()))
        return f"Reranker({self.name!r}, model={models!r})"

    def _start(self, loop: BackgroundLoop) -> Live[Session]:
        def session(store: TracingStore) -> Session:
            return Session(self._plan, store)

        return Live(self, self._plan.engines, f"{self._plan.tag} api", self._journal, loop, session)

    def _request_item(self, number: int, request: Any) -> _Item:
        """A request of ``rank_many``. UsageError, with its number, if it can't be used."""
        fields = _fields(number, request)
        qid = fields.get("qid")
        try:
            return self._item(
                fields["query"], fields["documents"], fields.get("scores"), str(number if qid is None else qid)
            )
        except UsageError as error:
            raise UsageError(f"request {number}: {error}") from None

    def _item(self, query: str, documents: Documents, scores: Sequence[float] | None, qid: str | None) -> _Item:
        number = next(self._numbers)
        check_query(query)
        documents = document_list(documents)
        candidates, scored = candidates_of(documents, scores)
        if candidates and not scored and any(part.template.shows_scores for part in self._plan.parts.values()):
            raise UsageError(
                f"{self.name} shows the LLM the first-stage score of each document, and these documents have none: pass "
                "scores, or a score with each document"
            )
        name = str(number) if qid is None else str(qid)
        return _Item(Request(Query(name, query), candidates, number), documents, scored)


def _fields(number: int, request: Any) -> Mapping[str, Any]:
    """The fields of the request ``number``. UsageError if it has others, or lacks query or documents."""
    if isinstance(request, Mapping):
        unknown = request.keys() - {"query", "documents", "scores", "qid"}
        if unknown or not {"query", "documents"} <= request.keys():
            raise UsageError(
                f"request {number} has the keys {', '.join(map(str, request))}; query and documents are required, "
                "scores and qid optional"
            )
        return request
    if not isinstance(request, tuple | list):
        raise UsageError(f"request {number} is a {type(request).__name__}; it has to be {_REQUEST}")
    if len(request) != 2:
        raise UsageError(f"request {number} has {len(request)} parts; it has to be {_REQUEST}")
    return dict(zip(("query", "documents"), request, strict=True))


class _Item:
    """A request, with the documents as they were passed in."""

    def __init__(self, request: Request, documents: Sequence[Any], scored: bool) -> None:
        self.request, self._documents, self._scored = request, documents, scored

    @contextmanager
    def traced(self, store: TracingStore) -> Iterator[Trace]:
        """Trace the query for the length of a block."""
        try:
            yield store.open(self.request.number)
        finally:
            store.close(self.request.number)

    def result(self, ranking: Ranking, trace: Trace, tag: str) -> RankedDocuments:
        return RankedDocuments.of(ranking, self._documents, scored=self._scored, trace=trace, tag=tag)
