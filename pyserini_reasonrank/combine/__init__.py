"""Combinations of rerankers: which of them rank what, and how their orders make one.

Each is a pure coroutine ``combination(request, arms, **options) -> Ranked``. An arm is a reranker bound to the query; it
takes candidates by index in first-stage order, and gives back the order of what it was given. A combination's
keyword-only arguments are its settings, as a strategy's are.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from pyserini_reasonrank.combine.cascade import cascade
from pyserini_reasonrank.records import Ranked

Combination = Callable[..., Coroutine[Any, Any, Ranked]]


@dataclass(frozen=True, slots=True)
class Kind:
    """A combination and the arms it names: those it needs, and those it may have. ``may=None``: any."""

    function: Combination
    needs: frozenset[str] = frozenset()
    may: frozenset[str] | None = frozenset()


COMBINATIONS: dict[str, Kind] = {
    "cascade": Kind(cascade, frozenset({"small", "large"}), frozenset({"adjuster"})),
}
"""The combinations by name, ``--rerank.combine.name``."""
