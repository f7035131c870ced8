"""The rewriting of a single query, round by round, outside a run: its text to search, and how its answers ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pyserini_reasonrank.ir.topics import one_line
from pyserini_reasonrank.records import Candidate, Judgement, Query, Request, Status
from pyserini_reasonrank.run.rewriting.asking import RewriteSession
from pyserini_reasonrank.run.rewriting.plan import speaking_of_rewrites
from pyserini_reasonrank.run.rewriting.texts import SearchText, search_text


class QueryRewriting:
    """The rounds of ``query``, the request with this ``number`` of the session.

    ``searched`` is its text to search so far, ``rewrite`` the last readable answer, "" if none.
    """

    def __init__(self, session: RewriteSession, query: Query, number: int) -> None:
        self.query, self.number, self.rewrite, self.searched = query, number, "", SearchText(one_line(query.text))
        self.judgements: list[Judgement] = []
        self._session = session
        self._shown: tuple[Candidate, ...] = ()

    @property
    def statuses(self) -> Counter[Status]:
        """The answers by status."""
        return Counter(judgement.status for judgement in self.judgements)

    async def round(self, passages: Sequence[Candidate] = ()) -> None:
        """Ask for the next rewrite, with the best of ``passages`` in the prompt.

        Without a readable answer, the text to search stays that of the round before. UsageError if the query does not fit the
        prompt; CallFailed if the call fails and the setting ``on_error`` is not "keep".
        """
        settings = self._session.plan.settings
        with speaking_of_rewrites():
            self._session.check(self.query)
            self._shown = tuple(passages[: settings.depth])
            request = Request(self.query, self._shown, self.number)
            judgement = await self._session.ask(request, len(self.judgements))
        self.judgements.append(judgement)
        if not judgement.status.bad:
            self.rewrite = judgement.text
            self.searched = search_text(self.query.text, judgement.text, settings.originals, settings.most_terms)

    def end(self) -> None:
        """Record in the journal what is searched."""
        self._session.record(Request(self.query, self._shown, self.number), self.searched.text)
