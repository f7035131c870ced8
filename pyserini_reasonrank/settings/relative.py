"""Paths in a settings file are relative to that file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyserini_reasonrank.prompts.pinned import is_url
from pyserini_reasonrank.prompts.sources import RANK_LLM
from pyserini_reasonrank.settings.schema import Tree

YAML = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class _Keys:
    """Keys with paths: ``files`` always; ``or_names`` if the file or folder exists; ``by_ending`` if they end like one."""

    files: tuple[str, ...] = ()
    or_names: tuple[str, ...] = ()
    by_ending: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


_TOP = _Keys(
    ("corpus", "journal"),
    ("model", "adapter", "tokenizer", "topics", "exclude"),
    {"prompt": (*YAML, ".toml"), "reranker": YAML, "rewriter": YAML},
)
_BELOW: Mapping[str, _Keys] = {
    "engine": _Keys(("qrels", "path"), ("tokenizer",)),
    "inner": _Keys(("qrels", "path"), ("tokenizer",)),
    "combine": _Keys(("router",)),
}
"""Those in nested mappings, by the key of the mapping."""


def resolved_paths(tree: Mapping[str, Any], folder: Path) -> Tree:
    """``tree``, the content of a settings file in ``folder``, with its paths as the current folder sees them."""
    return _resolved(tree, folder, _TOP)


def _resolved(tree: Mapping[str, Any], folder: Path, keys: _Keys) -> Tree:
    return {key: _value(key, value, folder, keys) for key, value in tree.items()}


def _value(key: str, value: Any, folder: Path, keys: _Keys) -> Any:
    if isinstance(value, str):
        return str(folder / value) if _is_path(key, value, folder, keys) else value
    if not isinstance(value, Mapping):
        return value
    if key in _BELOW:
        return _resolved(value, folder, _BELOW[key])
    if key == "arms" and keys is _TOP:
        return {arm: resolved_paths(one, folder) if isinstance(one, Mapping) else one for arm, one in value.items()}
    return value


def _is_path(key: str, value: str, folder: Path, keys: _Keys) -> bool:
    if key in keys.by_ending:
        return value.endswith(keys.by_ending[key]) and not (is_url(value) or value.startswith(RANK_LLM))
    return key in keys.files or (key in keys.or_names and _exists(folder, value))


def _exists(folder: Path, value: str) -> bool:
    try:
        return bool(value) and (folder / value).exists()
    except (OSError, ValueError):  # too long, or with a null character
        return False
