"""Combinations of rerankers: which reranker ranks which candidates, and how their orders are combined.

Each is a pure coroutine ``combination(request, arms, **options) -> Ranked``. An arm is a reranker bound to the query: it
takes candidates by index in first-stage order and returns their new order. The keyword-only arguments of a combination
are its settings, as for strategies.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from pyserini_reasonrank.combine import aggregate, aor, cascade, route
from pyserini_reasonrank.records import Ranked

Combination = Callable[..., Coroutine[Any, Any, Ranked]]


@dataclass(frozen=True, slots=True)
class CombinationEntry:
    """A combination, with the arms that it needs and the optional ones. If ``may`` is None, any names are allowed.

    ``check(arms, where, **options)`` raises UsageError for settings that do not fit the names of the arms and returns
    warnings; ``where`` is the flag prefix. ``load(**options)`` loads what the combination reads beside the arms, before the
    first query. ``one_arm``: each query calls only one arm. ``repeated`` names the arm that
    ranks the same candidates several times; its answers have to differ.
    """

    function: Combination
    needs: frozenset[str] = frozenset()
    may: frozenset[str] | None = frozenset()
    check: Callable[..., Sequence[str]] = lambda arms, where, **options: ()
    load: Callable[..., None] = lambda **options: None
    one_arm: bool = False
    repeated: str | None = None


COMBINATIONS: dict[str, CombinationEntry] = {
    "cascade": CombinationEntry(cascade.cascade, frozenset({"small", "large"}), frozenset({"adjuster"}), cascade.check),
    "aggregate": CombinationEntry(aggregate.aggregate, frozenset({"ranker"}), repeated="ranker"),
    "aor": CombinationEntry(aor.aor, frozenset({"ranker", "critic"}), check=aor.check, repeated="ranker"),
    "route": CombinationEntry(route.route, may=None, check=route.check, load=route.load, one_arm=True),
}
"""The combinations by name, ``--rerank.combine.name``."""
