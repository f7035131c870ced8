"""Which of several copies of a model a query's calls go to: one that has the beginning of its prompts, unless it is overloaded."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_QUERIES = 65_536
"""The queries whose copy is remembered."""


@dataclass(eq=False, slots=True)
class ModelCopy[H]:
    """A server or a replica: its ``number`` and the ``handle`` through which it is called."""

    number: int
    handle: H
    in_flight: int = 0
    queries: int = 0


class QueryAffinity[C: ModelCopy[Any]]:
    """The copies that queries were sent to.

    A new query goes to the copy with the fewest calls in flight. A query changes its copy if another one has less than half
    as many calls in flight.
    """

    def __init__(self) -> None:
        self._of_query: OrderedDict[str, C] = OrderedDict()

    def choose(self, qid: str, usable: Sequence[C]) -> C:
        """The copy among ``usable``, which is not empty, for the next call of a query."""
        idlest = min(usable, key=lambda copy: (copy.in_flight, copy.queries, copy.number))
        found = self._of_query.get(qid)
        if found is None or found not in usable or found.in_flight >= 2 * (idlest.in_flight + 1):
            found = idlest
        self._remember(qid, found)
        return found

    def _remember(self, qid: str, copy: C) -> None:
        if (before := self._of_query.pop(qid, None)) is not None:
            before.queries -= 1
        self._of_query[qid] = copy
        copy.queries += 1
        if len(self._of_query) > _QUERIES:
            self._of_query.popitem(last=False)[1].queries -= 1
