"""The Python API: rerank documents in a script, a notebook or a server, with all settings of the command line."""

from __future__ import annotations

import asyncio
import queue
import warnings
import weakref
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from threading import Lock
from typing import Any, Self

from pyserini_reasonrank.engines import Engine
from pyserini_reasonrank.engines.background_loop import BackgroundLoop
from pyserini_reasonrank.errors import UnknownKey, UsageError
from pyserini_reasonrank.ir.documents import Document, document_docid, read_document, stored_document
from pyserini_reasonrank.ir.runs import repeated
from pyserini_reasonrank.journal import Journal, MemoryStore, Trace, TracingStore
from pyserini_reasonrank.records import Candidate, Query, Ranking, Request, Tally
from pyserini_reasonrank.results import RankedDocuments
from pyserini_reasonrank.run.cost import Cost, estimate
from pyserini_reasonrank.run.known_flags import explained
from pyserini_reasonrank.run.parts import Plan
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.run.session import Session, close
from pyserini_reasonrank.run.starting import Starter
from pyserini_reasonrank.settings import layers
from pyserini_reasonrank.settings.schema import Tree

Documents = Sequence[Any]
"""Strings, mappings with the fields of a corpus line, ``Candidate``s, or hits of a Pyserini searcher."""

_NAME_KEYS = {"engine": "name", "judge": "kind", "strategy": "name", "combine": "name", "fuse": "method"}
"""The key that a plain string sets: ``engine="vllm"`` is ``engine={"name": "vllm"}``."""


class Reranker:
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

    def __init__(
        self, reranker: str | Path = "reasonrank", *, journal: str | Path | None = None, **settings: Any
    ) -> None:
        # libraries import tqdm's notebook bars, which warn if Jupyter has no widgets; no bar is shown here
        warnings.filterwarnings("ignore", message="IProgress not found")
        engine = settings.get("engine")
        given = engine if isinstance(engine, Engine) else None
        tree = _tree(settings)
        if given is not None:
            tree = {"model": given.model.name, **tree, "engine": {"name": given.name}}
        try:
            self._plan: Plan = plan(*layers.load(str(reranker), tree), engine=given)
        except UnknownKey as error:
            raise UsageError(explained(error)) from None
        self._journal = None if journal is None else Path(journal)
        self._numbers = count()
        self._loading = Lock()
        self._live: _Live | None = None
        self._closed = False

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
        return tuple(self._live.session.warnings if self._live else self._plan.warnings)

    @property
    def tally(self) -> Tally:
        """The judgements by status, LLM calls and tokens since the model was loaded."""
        return self._live.session.tally if self._live else Tally()

    def cost(self, n: int) -> Cost:
        """The cost of a query with ``n`` candidates: calls, longest chain of calls, passages shown. Loads nothing."""
        return estimate(self._plan, n)

    def rank(
        self, query: str, documents: Documents, *, scores: Sequence[float] | None = None, qid: str | None = None
    ) -> RankedDocuments:
        """Rank ``documents``, given in first-stage order, for ``query``.

        ``scores`` are their first-stage scores, if the documents have none. Without scores there is no fusion with the first
        stage. ``qid`` identifies the query in results; by default it is a number.

        UsageError for documents without text or docid; Failure if the engine fails (see ``on_error``).
        """
        live = self._loaded()
        item = self._item(query, documents, scores, qid)
        with item.traced(live.store) as trace:
            return item.result(live.call(live.session.rerank(item.request)), trace, self._plan.tag)

    async def rank_async(
        self, query: str, documents: Documents, *, scores: Sequence[float] | None = None, qid: str | None = None
    ) -> RankedDocuments:
        """As ``rank``, without blocking the running event loop. Cancelling it cancels the calls."""
        live = self._live
        if live is None or self._closed:
            live = await asyncio.to_thread(self._loaded)
        item = self._item(query, documents, scores, qid)
        with item.traced(live.store) as trace:
            return item.result(await live.loop.run(live.session.rerank(item.request)), trace, self._plan.tag)

    def rank_many(self, requests: Iterable[tuple[str, Documents] | Mapping[str, Any]]) -> Iterator[RankedDocuments]:
        """Rank many queries at once and yield each result as soon as it is complete, in any order.

        A request is ``(query, documents)``, or a mapping with ``query``, ``documents`` and optionally ``scores`` and ``qid``.
        Without a qid, ``result.qid`` is the number of the request, from 0. Requests are read only as others are finished, so
        they may be a generator over a large collection. The first exception ends the iteration and cancels the calls.
        """
        live = self._loaded()
        items: dict[int, tuple[_Item, Trace]] = {}
        results: queue.SimpleQueue[Ranking | None] = queue.SimpleQueue()
        numbered = enumerate(requests)

        def following() -> _Item | None:
            found = next(numbered, None)
            return None if found is None else self._request_item(*found)

        async def stream() -> AsyncIterator[Request]:
            while (item := await asyncio.to_thread(following)) is not None:
                items[item.request.number] = item, live.store.open(item.request.query.qid)
                yield item.request

        future = live.loop.submit(live.session.rerank_all(stream(), results.put))
        future.add_done_callback(lambda _: results.put(None))
        try:
            while (ranking := results.get()) is not None:
                live.store.close(ranking.request.query.qid)
                item, trace = items.pop(ranking.request.number)
                yield item.result(ranking, trace, self._plan.tag)
            future.result()
        finally:
            future.cancel()
            for item, _ in items.values():
                live.store.close(item.request.query.qid)

    def load(self, loop: BackgroundLoop | None = None) -> Self:
        """Load the model, unless it is already loaded. UsageError or Failure if that fails.

        ``loop`` is the event loop that makes the calls, by default one in a thread of its own. It has to run until the
        reranker is closed.
        """
        self._loaded(loop)
        return self

    def close(self) -> None:
        """Free the model, and close connections and the journal. The object can't be used afterwards."""
        with self._loading:
            self._closed = True
            if self._live is not None:
                self._live.finalizer()

    def __enter__(self) -> Self:
        return self.load()

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        models = ", ".join(dict.fromkeys(part.engine.model.name for part in self._plan.parts.values()))
        return f"Reranker({self.name!r}, model={models!r})"

    def _loaded(self, loop: BackgroundLoop | None = None) -> _Live:
        with self._loading:
            if self._closed:
                raise UsageError("the reranker is closed: create another one")
            if self._live is None:
                self._live = _Live(self, self._plan, self._journal, loop or BackgroundLoop("reranker"))
            return self._live

    def _request_item(self, number: int, request: tuple[str, Documents] | Mapping[str, Any]) -> _Item:
        if isinstance(request, Mapping):
            unknown = request.keys() - {"query", "documents", "scores", "qid"}
            if unknown or not {"query", "documents"} <= request.keys():
                raise UsageError(
                    f"request {number} has the keys {', '.join(map(str, request))}; query and documents are required, "
                    "scores and qid optional"
                )
            fields = dict(request)
        else:
            query, documents = request
            fields = {"query": query, "documents": documents}
        qid = fields.get("qid")
        return self._item(
            fields["query"], fields["documents"], fields.get("scores"), str(number if qid is None else qid)
        )

    def _item(self, query: str, documents: Documents, scores: Sequence[float] | None, qid: str | None) -> _Item:
        number = next(self._numbers)
        if not isinstance(query, str):
            raise UsageError(f"the query is a {type(query).__name__}; it has to be a string")
        if isinstance(documents, str | bytes | Mapping):
            raise UsageError("documents have to be a list: strings, mappings with fields, or hits of a searcher")
        documents = list(documents)
        if scores is not None and len(scores) != len(documents):
            raise UsageError(f"there are {len(scores)} scores for {len(documents)} documents")
        found = [_candidate(document, place) for place, document in enumerate(documents)]
        if scores is not None:
            found = [(docid, float(score), own) for (docid, _, own), score in zip(found, scores, strict=True)]
        missing = [docid for docid, score, _ in found if score is None]
        if 0 < len(missing) < len(found):
            raise UsageError(f"document {missing[0]!r} has no score, but other documents have one")
        candidates = tuple(
            Candidate(docid, 0.0 if score is None else score, own.text, own.fields) for docid, score, own in found
        )
        if twice := repeated(candidate.docid for candidate in candidates):
            raise UsageError(f"document {twice[0]!r} occurs twice: docids must be unique")
        name = str(number) if qid is None else str(qid)
        return _Item(Request(Query(name, query), candidates, number), documents, not missing and bool(found))


class _Item:
    """A request, with the documents as they were passed in."""

    def __init__(self, request: Request, documents: Sequence[Any], scored: bool) -> None:
        self.request, self._documents, self._scored = request, documents, scored

    @contextmanager
    def traced(self, store: TracingStore) -> Iterator[Trace]:
        """Trace the query for the length of a block."""
        try:
            yield store.open(self.request.query.qid)
        finally:
            store.close(self.request.query.qid)

    def result(self, ranking: Ranking, trace: Trace, tag: str) -> RankedDocuments:
        return RankedDocuments.of(ranking, self._documents, scored=self._scored, trace=trace, tag=tag)


class _Live:
    """The loaded model and its session on an event loop. ``finalizer`` frees them, at the latest at exit."""

    def __init__(self, owner: Reranker, plan: Plan, journal: Path | None, loop: BackgroundLoop) -> None:
        self.loop = loop
        store: Journal | MemoryStore | None = None
        try:
            self.call(Starter(plan.engines, {}).start())
            store = MemoryStore() if journal is None else Journal(journal, f"{plan.tag} api")
            self.store = TracingStore(store)
            self.session = Session(plan, self.store)
        except BaseException:
            _free(self.loop, plan, store)
            raise
        self.finalizer = weakref.finalize(owner, _free, self.loop, plan, store)

    def call(self, coroutine: Any) -> Any:
        """Run a coroutine on the loop and wait for its result. An interrupt cancels it."""
        future = self.loop.submit(coroutine)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise


def _free(loop: BackgroundLoop, plan: Plan, store: Journal | MemoryStore | None) -> None:
    try:
        loop.submit(close(plan.engines)).result()
    finally:
        loop.close()
        if isinstance(store, Journal):
            store.close()


def _tree(settings: Mapping[str, Any]) -> Tree:
    """Keyword arguments as a tree of settings."""
    tree = Tree()
    for key, value in settings.items():
        if isinstance(value, Engine):
            continue
        tree[key] = {_NAME_KEYS[key]: value} if key in _NAME_KEYS and isinstance(value, str) else value
    return tree


def _candidate(document: Any, place: int) -> tuple[str, float | None, Document]:
    """Docid, score, and text with fields of a document. UsageError if it has no docid or text."""
    if isinstance(document, str):
        return str(place), None, Document(document)
    if isinstance(document, Candidate):
        return document.docid, document.score, Document(document.text, document.fields)
    if isinstance(document, Mapping):
        try:
            docid = document_docid(document)
        except ValueError as error:
            raise UsageError(f"document {place}: {error}") from None
        return _checked(str(place) if docid is None else docid, document.get("score"), read_document(document), place)
    docid = getattr(document, "docid", None)
    if docid is None:
        raise UsageError(
            f"document {place} is a {type(document).__name__}: pass a string, a mapping with a text, or a searcher's hit"
        )
    return _checked(str(docid), getattr(document, "score", None), _hit_document(document), place)


def _checked(docid: str, score: Any, found: Document | None, place: int) -> tuple[str, float | None, Document]:
    if found is None:
        raise UsageError(f"document {place} ({docid}) has no text: add a field 'text' or 'contents'")
    try:
        return docid, None if score is None else float(score), found
    except (TypeError, ValueError):
        raise UsageError(f"the score of document {place} ({docid}) is {score!r}; it has to be a number") from None


def _hit_document(hit: Any) -> Document | None:
    """The stored document of a hit of a Pyserini searcher; None if it has none."""
    document = getattr(hit, "lucene_document", None)
    if document is not None:
        return stored_document(document.get("raw"), document.get("contents"))
    fields = (getattr(hit, name, None) for name in ("raw", "contents", "text"))
    raw, contents, text = (field if isinstance(field, str) else None for field in fields)
    return stored_document(raw, contents or text)
