"""The metadata of a run as the page shows them: the main facts, and the whole file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyserini_reasonrank.ir.metadata import nested
from pyserini_reasonrank.ir.recorded_cost import gpus
from pyserini_reasonrank.resources import dump_yaml

_PLACES = {
    "reranker": ("method", "retrieval", 1, "name"),
    "model": ("method", "retrieval", 1, "model", "name"),
    "adapter": ("method", "retrieval", 1, "model", "adapter"),
    "prompt": ("method", "retrieval", 1, "prompt", "name"),
    "judge": ("method", "retrieval", 1, "judge", "kind"),
    "strategy": ("method", "retrieval", 1, "strategy"),
    "depth": ("method", "retrieval", 1, "depth"),
    "fusion": ("method", "retrieval", 1, "fuse"),
    "sampling": ("method", "retrieval", 1, "sampling", "temperature"),
    "engine": ("method", "retrieval", 1, "engine", "name"),
    "first stage": ("method", "retrieval", 0, "run"),
    "topics": ("data", "test collection", "topics"),
    "processor": ("platform", "hardware", "cpu", "model"),
    "GPU": ("platform", "hardware", "gpu"),
    "load": ("resources", "runtime in seconds", "load"),
    "rerank": ("resources", "runtime in seconds", "rerank"),
    "tag": ("tag",),
    "command": ("implementation", "executable", "cmd"),
}
"""The main facts, in the order of the page, with their places in the metadata."""


def facts(metadata: Mapping[str, Any]) -> list[list[str]]:
    """The main facts that the metadata have: name and value."""
    found = (
        (name, gpus(metadata) if name == "GPU" else _shown(name, nested(metadata, *place)))
        for name, place in _PLACES.items()
    )
    return [[name, value] for name, value in found if value]


def metadata_text(metadata: Mapping[str, Any]) -> str:
    """The metadata as YAML; "" for none."""
    return dump_yaml(metadata) if metadata else ""


def _shown(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name == "fusion" and isinstance(value, Mapping):
        method = str(value.get("method", ""))
        return method if method in ("", "none") else f"{method}, weight of the LLM {value.get('weight')}"
    if isinstance(value, Mapping):
        first = value.get("name", "")
        rest = ", ".join(
            f"{key} {each}" for key, each in value.items() if key != "name" and each not in (None, "", [], {})
        )
        return f"{first} ({rest})" if first and rest else str(first or rest)
    if name == "sampling":
        return f"temperature {value}"
    return f"{value} s" if name in ("load", "rerank") else str(value)
