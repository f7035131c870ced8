"""``Rewriter``: rewrite queries before a search, with all settings of the command line."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from inspect import isawaitable, iscoroutine
from pathlib import Path
from typing import Any

from pyserini_reasonrank.api.documents import Documents, candidates_of, check_query, document_list, settings_of
from pyserini_reasonrank.api.live import Live, Loadable
from pyserini_reasonrank.engines.background_loop import BackgroundLoop
from pyserini_reasonrank.errors import UnknownKey, UsageError
from pyserini_reasonrank.records import Candidate, Query, Tally
from pyserini_reasonrank.rerankers.call_store import Trace, TracingStore
from pyserini_reasonrank.results import RewrittenQuery
from pyserini_reasonrank.run.known_flags import explained
from pyserini_reasonrank.run.rewriting.asking import RewriteSession
from pyserini_reasonrank.run.rewriting.plan import RewritePlan, of_rewrites, planned, speaking_of_rewrites
from pyserini_reasonrank.run.rewriting.query import QueryRewriting

Search = Callable[[str, int], Documents | Awaitable[Documents]]
"""A first stage: the best documents for a text, as many as the number says, best first, as ``Reranker.rank`` takes them."""


class Rewriter(Loadable[RewriteSession]):
    """A query rewriter by name, with any setting of ``--rewrite`` as a keyword argument.

    Args:
        rewriter: a name for ``--rewrite``, such as ``reasoning-query`` or ``inf-query-aligner``, or the path of a YAML file.
        journal: a file that stores finished calls, so that later processes reuse them; by default they are in memory.
        settings: ``model="..."``, ``originals=0``, ``rounds=2``, ``engine="vllm"``, ...: flags with dots are mappings, or
            strings if they only set a name. ``engine`` may also be an ``engines.Engine``.

    Raises:
        UsageError: the settings are invalid; the message has the reason and a remedy.

    Settings, loading and the event loop are as for ``Reranker``. Search with the text of the result, and rerank what it
    finds with the original query.

    Example:
        >>> from pyserini_reasonrank import Reranker, Rewriter
        >>> with Rewriter("reasoning-query") as rewriter:  # doctest: +SKIP
        ...     text = rewriter.rewrite("why do moths fly to lamps").text
        >>> hits = searcher.search(text, k=100)  # doctest: +SKIP
        >>> ranked = Reranker("reasonrank").rank("why do moths fly to lamps", hits)  # doctest: +SKIP
    """

    kind = "rewriter"

    def __init__(self, rewriter: str | Path, *, journal: str | Path | None = None, **settings: Any) -> None:
        super().__init__(journal)
        tree, engine = settings_of(settings)
        try:
            self._plan: RewritePlan = planned(str(rewriter), tree, engine=engine)
        except UnknownKey as error:
            raise UsageError(explained(error)) from None

    @property
    def name(self) -> str:
        """The name of the rewriter."""
        return self._plan.settings.name

    @property
    def rounds(self) -> int:
        """The times that a query is rewritten; above 1, ``rewrite`` needs a search."""
        return self._plan.settings.rounds

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about the settings and the rewriting so far: an estimated tokenizer, truncated prompts, ..."""
        found = [*self._plan.warnings, *(map(of_rewrites, self._live.worker.warnings) if self._live else [])]
        return tuple(dict.fromkeys(found))

    @property
    def tally(self) -> Tally:
        """The answers by status, LLM calls and tokens since the model was loaded."""
        return self._live.worker.tally if self._live else Tally()

    def rewrite(self, query: str, *, search: Search | None = None, qid: str | None = None) -> RewrittenQuery:
        """Rewrite ``query`` for a search.

        ``search`` finds the passages that later rounds show, for ``rounds`` above 1; it is called in this thread. ``qid``
        identifies the query in the journal; by default it is a number. If no answer can be read, the text to search is the
        query, and the statuses of the result say so.

        UsageError if the query does not fit the prompt; Failure if a call fails (see ``on_error``).
        """
        live = self._loaded()
        one = self._begun(live, query, search, qid)
        with one.traced(live.store):
            for number in range(self.rounds):
                found = () if search is None or not number else search(one.text, self._plan.settings.depth)
                if isawaitable(found):
                    if iscoroutine(found):
                        found.close()
                    raise UsageError("search is a coroutine function: use rewrite_async")
                live.call(one.rewriting.round(_passages(found)))
            return one.result()

    async def rewrite_async(
        self, query: str, *, search: Search | None = None, qid: str | None = None
    ) -> RewrittenQuery:
        """As ``rewrite``, without blocking the running event loop. ``search`` may be a coroutine function.

        A plain function is called in a thread of its own. Cancelling it cancels the calls.
        """
        live = await self._loaded_async()
        one = self._begun(live, query, search, qid)
        with one.traced(live.store):
            for number in range(self.rounds):
                found: Any = ()
                if search is not None and number:
                    found = await asyncio.to_thread(search, one.text, self._plan.settings.depth)
                if isawaitable(found):
                    found = await found
                await live.loop.run(one.rewriting.round(_passages(found)))
            return one.result()

    def __repr__(self) -> str:
        return f"Rewriter({self.name!r}, model={self._plan.part.engine.model.name!r})"

    def _start(self, loop: BackgroundLoop) -> Live[RewriteSession]:
        def session(store: TracingStore) -> RewriteSession:
            return RewriteSession(self._plan, store)

        with speaking_of_rewrites():
            return Live(self, [self._plan.part.engine], f"{self._plan.tag} api", self._journal, loop, session)

    def _begun(self, live: Live[RewriteSession], query: str, search: Search | None, qid: str | None) -> _Rewriting:
        check_query(query)
        if self.rounds > 1 and search is None:
            raise UsageError("rounds above 1 need a search: pass search=, a function of a text and a number of hits")
        if search is not None and not callable(search):
            raise UsageError(
                f"search is a {type(search).__name__}; it has to be a function of a text and a number of hits"
            )
        number = next(self._numbers)
        return _Rewriting(QueryRewriting(live.worker, Query(str(number) if qid is None else str(qid), query), number))


class _Rewriting:
    """A query that is being rewritten."""

    def __init__(self, rewriting: QueryRewriting) -> None:
        self.rewriting = rewriting
        self._trace, self._began = Trace(), time.monotonic()

    @property
    def text(self) -> str:
        return self.rewriting.searched.text

    @contextmanager
    def traced(self, store: TracingStore) -> Iterator[None]:
        """Trace the query for the length of a block."""
        number = self.rewriting.number
        self._trace = store.open(number)
        try:
            yield
        finally:
            store.close(number)

    def result(self) -> RewrittenQuery:
        one = self.rewriting
        one.end()
        return RewrittenQuery(
            one.query.qid,
            one.query.text,
            one.searched.text,
            one.rewrite,
            one.statuses,
            one.judgements[-1].detail,
            one.searched.cut,
            "\n\n".join(judgement.reasoning for judgement in one.judgements if judgement.reasoning),
            self._trace.prompt_tokens,
            self._trace.output_tokens,
            time.monotonic() - self._began,
        )


def _passages(found: Any) -> tuple[Candidate, ...]:
    return candidates_of(document_list(found))[0]
