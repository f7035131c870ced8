"""Combinations of rerankers: which of them rank what, and how their orders make one.

Each is a pure coroutine ``combination(request, arms, **options) -> Ranked``. An arm is a reranker bound to the query; it
takes candidates by index in first-stage order, and gives back the order of what it was given. A combination's
keyword-only arguments are its settings, as a strategy's are.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from pyserini_reasonrank.combine import aggregate, aor, cascade, route
from pyserini_reasonrank.records import Ranked

Combination = Callable[..., Coroutine[Any, Any, Ranked]]


@dataclass(frozen=True, slots=True)
class Kind:
    """A combination and the arms it names: those it needs, and those it may have. ``may=None``: any.

    ``check(arms, where, **options)`` raises UsageError for settings that do not go with the names of the arms, and
    returns warnings; ``where`` is the flag above them. ``one_arm``: each query asks but one of the arms. ``repeated``: the
    arm that ranks the same candidates several times, and should differ.
    """

    function: Combination
    needs: frozenset[str] = frozenset()
    may: frozenset[str] | None = frozenset()
    check: Callable[..., Sequence[str]] = lambda arms, where, **options: ()
    one_arm: bool = False
    repeated: str | None = None


COMBINATIONS: dict[str, Kind] = {
    "cascade": Kind(cascade.cascade, frozenset({"small", "large"}), frozenset({"adjuster"}), cascade.check),
    "aggregate": Kind(aggregate.aggregate, frozenset({"ranker"}), repeated="ranker"),
    "aor": Kind(aor.aor, frozenset({"ranker", "critic"}), check=aor.check, repeated="ranker"),
    "route": Kind(route.route, may=None, check=route.check, one_arm=True),
}
"""The combinations by name, ``--rerank.combine.name``."""
