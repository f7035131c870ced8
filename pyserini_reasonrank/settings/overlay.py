"""One layer of settings on top of another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyserini_reasonrank.settings.schema import Tree


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> Tree:
    """``over`` on top of ``under``, mapping by mapping.

    A mapping whose ``kind`` or ``name`` differs replaces the one below: another judge, strategy or engine does not
    inherit the settings of the old one.
    """
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            replaces = any(value.get(k, below.get(k)) != below.get(k) for k in ("kind", "name"))
            merged[key] = dict(value) if replaces else merge(below, value)
        else:
            merged[key] = value
    return merged
