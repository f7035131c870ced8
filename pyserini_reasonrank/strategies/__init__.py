"""Strategies decide which questions to ask a judge, in which order, and which of them are independent.

Each is a pure coroutine ``strategy(n, judge, **options) -> order``. Input: ``n`` candidates, known only by their index
in first-stage order. Output: all ``n`` indices, best first. Independent calls are gathered, so an engine with continuous
batching receives them at once. The keyword-only arguments of a strategy are its settings: their names, types and
defaults are those of ``--rerank.strategy.NAME``.

A strategy that breaks ties or leaves candidates unranked has a third positional argument ``prior``: the order of tied and
unranked candidates, if the candidates are shown in another order than the first stage's (shuffled, or worst first). Its
``StrategyEntry`` has ``takes_prior``.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
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
from pyserini_reasonrank.strategies.sliding import sliding, with_stride
from pyserini_reasonrank.strategies.tournament import tournament

Strategy = Callable[..., Awaitable[list[int]]]
"""A strategy. Its judge takes indices and returns what a judge of its kind decides: an order, a score or a choice."""


@dataclass(frozen=True, slots=True)
class StrategyEntry:
    """A strategy and the kinds of judge that it can call. ``takes_prior``: it has the argument ``prior``.

    ``resolved`` replaces options that depend on others, and raises UsageError if they contradict each other.
    ``independent``, for a strategy whose questions are all independent: their number, and the candidates that each shows.
    """

    function: Strategy
    judges: frozenset[str]
    takes_prior: bool = False
    resolved: Callable[[Mapping[str, Any]], dict[str, Any]] = dict
    independent: Callable[[int], tuple[int, int]] | None = None

    def bound(self, options: Mapping[str, Any], prior: Sequence[int] | None) -> Strategy:
        """The strategy as a function of ``n`` and a judge."""
        return partial(self.function, **({"prior": prior} if self.takes_prior else {}), **options)


ORDERS = frozenset({"permutation", "first_token"})
"""The kinds of judge whose answer is an order of all candidates shown."""
_BEST = frozenset({"best", "best_token"})
_SCORES = frozenset({"score", "bisection", "likelihood"})

STRATEGIES: dict[str, StrategyEntry] = {
    "sliding": StrategyEntry(sliding, ORDERS, resolved=with_stride),
    "full": StrategyEntry(full, ORDERS, independent=lambda n: (int(n > 1), n)),
    "pivot": StrategyEntry(pivot, ORDERS),
    "tournament": StrategyEntry(tournament, ORDERS | {"select"}, takes_prior=True),
    "heapsort": StrategyEntry(heapsort, _BEST, takes_prior=True),
    "bubblesort": StrategyEntry(bubblesort, _BEST),
    "allpairs": StrategyEntry(allpairs, _BEST, takes_prior=True, independent=lambda n: (n * (n - 1), 2)),
    "elimination": StrategyEntry(elimination, frozenset({"worst"})),
    "pointwise": StrategyEntry(pointwise, _SCORES, takes_prior=True, independent=lambda n: (n, 1)),
    "groups": StrategyEntry(groups, frozenset({"grades"}), takes_prior=True),
}
"""The strategies by name, ``--rerank.strategy.name``."""


def options_model(strategy: Callable[..., Any]) -> type[BaseModel]:
    """The settings of a strategy (or a combination), declared by its keyword-only arguments."""
    hints = get_type_hints(strategy, include_extras=True)
    declared = inspect.signature(strategy).parameters.values()
    fields: dict[str, Any] = {p.name: (hints[p.name], p.default) for p in declared if p.kind is p.KEYWORD_ONLY}
    return create_model(strategy.__name__, __config__=ConfigDict(extra="forbid"), **fields)
