"""Strategies decide which questions to ask a judge, in which order, and which of them are independent.

Each is a pure coroutine ``strategy(n, judge, **options) -> order``: ``n`` candidates, known only by their index in
first-stage order, in; all ``n`` indices, best first, out. Calls that do not depend on one another are gathered, so
that an engine that batches continuously sees them at once. A strategy's keyword-only arguments are its settings:
their names, types and defaults are what ``--rerank.strategy.NAME`` takes. One that breaks ties, or leaves some
candidates alone, takes an argument ``before``: the order to do it by where first-stage order was shuffled.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, create_model

from pyserini_reasonrank.strategies.allpairs import allpairs
from pyserini_reasonrank.strategies.bubblesort import bubblesort
from pyserini_reasonrank.strategies.elimination import elimination
from pyserini_reasonrank.strategies.full import full
from pyserini_reasonrank.strategies.groups import groups
from pyserini_reasonrank.strategies.heapsort import heapsort
from pyserini_reasonrank.strategies.pivot import pivot
from pyserini_reasonrank.strategies.pointwise import pointwise
from pyserini_reasonrank.strategies.sliding import sliding
from pyserini_reasonrank.strategies.tournament import tournament

Strategy = Callable[..., Awaitable[list[int]]]
"""What a strategy is. Its judge takes indices and returns what a judge of its kind finds: an order, a score, a choice."""

ORDERS = frozenset({"permutation", "first_token"})
"""The kinds of judge whose answer is a whole order."""
_BEST = frozenset({"best", "best_token"})

STRATEGIES: dict[str, tuple[Strategy, frozenset[str]]] = {
    "sliding": (sliding, ORDERS),
    "full": (full, ORDERS),
    "pivot": (pivot, ORDERS),
    "tournament": (tournament, ORDERS),
    "heapsort": (heapsort, _BEST),
    "bubblesort": (bubblesort, _BEST),
    "allpairs": (allpairs, _BEST),
    "elimination": (elimination, frozenset({"worst"})),
    "pointwise": (pointwise, frozenset({"score", "bisection", "likelihood"})),
    "groups": (groups, frozenset({"grades"})),
}
"""The strategies by name, each with the kinds of judge it asks."""


def options_model(strategy: Callable[..., Any]) -> type[BaseModel]:
    """The settings of a strategy (or a combination), declared by its keyword-only arguments."""
    hints = get_type_hints(strategy, include_extras=True)
    declared = inspect.signature(strategy).parameters.values()
    fields: dict[str, Any] = {p.name: (hints[p.name], p.default) for p in declared if p.kind is p.KEYWORD_ONLY}
    return create_model(strategy.__name__, __config__=ConfigDict(extra="forbid"), **fields)
