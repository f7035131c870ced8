"""Strategies decide which questions to ask a judge, in which order, and which of them are independent.

Each is a pure coroutine ``strategy(n, judge, **options) -> order``. Input: ``n`` candidates, known only by their index
in first-stage order. Output: all ``n`` indices, best first. Independent calls are gathered, so an engine with continuous
batching receives them at once. The keyword-only arguments of a strategy are its settings: their names, types and
defaults are those of ``--rerank.strategy.NAME``.

A strategy that breaks ties or leaves candidates unranked has a third positional argument ``prior``: the order of tied and
unranked candidates, if the candidates are shown in another order than the first stage's (shuffled, or worst first). Its
``StrategyEntry`` has ``takes_prior``.

Other packages register a ``StrategyEntry`` in the entry-point group ``pyserini_reasonrank.strategies``.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, wraps
from operator import index
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, create_model

from pyserini_reasonrank.errors import Failure, UsageError
from pyserini_reasonrank.plugins import Registry, Unsuitable, check_free, dotted, failure_of
from pyserini_reasonrank.strategies.acurank import acurank
from pyserini_reasonrank.strategies.allpairs import allpairs
from pyserini_reasonrank.strategies.blitzrank import blitzrank
from pyserini_reasonrank.strategies.bubblesort import bubblesort
from pyserini_reasonrank.strategies.elimination import elimination
from pyserini_reasonrank.strategies.full import full
from pyserini_reasonrank.strategies.groups import groups
from pyserini_reasonrank.strategies.heapsort import heapsort
from pyserini_reasonrank.strategies.pivot import pivot
from pyserini_reasonrank.strategies.pointwise import pointwise
from pyserini_reasonrank.strategies.sliding import sliding, with_stride
from pyserini_reasonrank.strategies.staged import staged
from pyserini_reasonrank.strategies.tournament import tournament

Strategy = Callable[..., Awaitable[list[int]]]
"""A strategy. Its judge takes indices and returns what a judge of its kind decides: an order, a score or a choice."""


@dataclass(frozen=True, slots=True)
class StrategyEntry:
    """A strategy and the kinds of judge that it can call. ``takes_prior``: it has the argument ``prior``.

    ``resolved`` replaces options that depend on others, and raises UsageError if they contradict each other.
    ``independent``, for a strategy whose questions are all independent: their number, and the candidates that each shows.
    ``resamples``: it asks for several answers to one question, as many as its option ``samples``.
    """

    function: Strategy
    judges: frozenset[str]
    takes_prior: bool = False
    resolved: Callable[[Mapping[str, Any]], dict[str, Any]] = dict
    independent: Callable[[int], tuple[int, int]] | None = None
    resamples: bool = False

    def bound(self, options: Mapping[str, Any], prior: Sequence[int] | None) -> Strategy:
        """The strategy as a function of ``n`` and a judge."""
        return partial(self.function, **({"prior": prior} if self.takes_prior else {}), **options)


ORDERS = frozenset({"permutation", "first_token"})
"""The kinds of judge whose answer is an order of all candidates shown."""
_BEST = frozenset({"best", "best_token"})
_SCORES = frozenset({"score", "rating", "bisection", "likelihood"})

STRATEGIES: dict[str, StrategyEntry] = {
    "sliding": StrategyEntry(sliding, ORDERS, resolved=with_stride),
    "full": StrategyEntry(full, ORDERS, independent=lambda n: (int(n > 1), n)),
    "pivot": StrategyEntry(pivot, ORDERS),
    "blitzrank": StrategyEntry(blitzrank, ORDERS, takes_prior=True),
    "acurank": StrategyEntry(acurank, ORDERS, takes_prior=True),
    "tournament": StrategyEntry(tournament, ORDERS | {"select"}, takes_prior=True),
    "heapsort": StrategyEntry(heapsort, _BEST, takes_prior=True),
    "bubblesort": StrategyEntry(bubblesort, _BEST),
    "allpairs": StrategyEntry(allpairs, _BEST, takes_prior=True, independent=lambda n: (n * (n - 1), 2)),
    "elimination": StrategyEntry(elimination, frozenset({"worst"})),
    "pointwise": StrategyEntry(pointwise, _SCORES, takes_prior=True, independent=lambda n: (n, 1)),
    "staged": StrategyEntry(staged, _SCORES, takes_prior=True, resamples=True),
    "groups": StrategyEntry(groups, frozenset({"grades"}), takes_prior=True),
}
"""The strategies by name, ``--rerank.strategy.name``."""


def options_model(strategy: Callable[..., Any]) -> type[BaseModel]:
    """The settings of a strategy (or a combination), declared by its keyword-only arguments."""
    hints = get_type_hints(strategy, include_extras=True)
    declared = inspect.signature(strategy).parameters.values()
    fields: dict[str, Any] = {
        p.name: (hints.get(p.name, Any), ... if p.default is p.empty else p.default)
        for p in declared
        if p.kind is p.KEYWORD_ONLY
    }
    return create_model(strategy.__name__, __config__=ConfigDict(extra="forbid"), **fields)


def _checked(name: str, found: Any) -> StrategyEntry:
    """The strategy of another package. Unsuitable unless it can be called as ours are."""
    if not isinstance(found, StrategyEntry):
        raise Unsuitable(
            f"{dotted(found)} is not a StrategyEntry: write StrategyEntry({getattr(found, '__name__', name)}, "
            'frozenset({"permutation"})), with the kinds of judge that it calls'
        )
    function = found.function
    where = dotted(function)
    if not inspect.iscoroutinefunction(function):
        raise Unsuitable(f"{where} is not a coroutine function: write async def")
    expected = ["n", "judge", *(["prior"] if found.takes_prior else [])]
    parameters = list(inspect.signature(function).parameters.values())
    if [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD] != expected or any(
        p.kind not in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) for p in parameters
    ):
        raise Unsuitable(
            f"{where}{_without_types(parameters)}: expected the parameters ({', '.join(expected)}, *, OPTION=DEFAULT, ...)"
        )
    if not found.judges or isinstance(found.judges, str):
        raise Unsuitable(
            f"{where}: its StrategyEntry has to name the kinds of judge, such as frozenset({{'permutation'}})"
        )
    try:
        options = options_model(function)
    except Exception as error:
        raise Unsuitable(f"{where}: its options can't be read ({type(error).__name__}: {error})") from None
    check_free(where, options.model_fields, "name")
    return replace(found, function=_guarded(name, function))


def _without_types(parameters: Sequence[inspect.Parameter]) -> str:
    return str(inspect.Signature([parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters]))


def _guarded(name: str, function: Strategy) -> Strategy:
    """The strategy of another package: Failure, in one sentence, if it raises, asks about anything but candidates, each
    once, or returns anything but a permutation. Integers of other libraries become Python's."""

    @wraps(function)
    async def guarded(n: int, judge: Any, *arguments: Any, **options: Any) -> list[int]:
        async def asked(indices: Sequence[int], *further: Any, **named: Any) -> Any:
            question = _integers(indices)
            if not question or len(set(question)) < len(question) or not set(question) <= set(range(n)):
                raise Failure(
                    f"the strategy {name} ({dotted(function)}) asked about {indices!r:.60} of {n} candidates: expected "
                    f"different indices from 0 to {n - 1}, at least one"
                )
            return await judge(question, *further, **named)

        if not n:
            return []
        try:
            found = await function(n, asked, *arguments, **options)
            order = _integers(found)
        except (UsageError, Failure):
            raise
        except Exception as error:
            if sys.flags.dev_mode:
                raise
            fault = f"the strategy {name} ({dotted(function)}) failed: {type(error).__name__}: {error}"
            raise Failure(failure_of(error, STRATEGY_PARTS.origin(name)) or fault) from error
        if order is None or sorted(order) != list(range(n)):
            raise Failure(
                f"the strategy {name} ({dotted(function)}) returned {found!r:.60} for {n} candidates: expected each index "
                "once"
            )
        return order

    return guarded


def _integers(values: Any) -> list[int] | None:
    """The whole numbers in ``values`` as Python's own; None if it is not a sequence of them."""
    try:
        return [index(value) for value in values]
    except TypeError:
        return None


STRATEGY_PARTS = Registry("strategy", "strategies", lambda: STRATEGIES, STRATEGIES.__getitem__, _checked)
"""Our strategies and those of other packages."""
