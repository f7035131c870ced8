"""Paths in a settings file are relative to that file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyserini_reasonrank.prompts.pinned import is_url
from pyserini_reasonrank.prompts.sources import RANK_LLM
from pyserini_reasonrank.settings.schema import Tree

YAML = (".yaml", ".yml")

_FILES = ("corpus", "journal")
_NAMES_OF_FILES = {"prompt": (*YAML, ".toml"), "reranker": YAML}
"""Keys whose value is a path if it ends like this, and a name otherwise."""
_FILES_OR_NAMES = ("model", "adapter", "tokenizer", "topics", "exclude")
"""Keys whose value is a path if the file or folder exists, and a name otherwise."""
_BELOW: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "engine": (("qrels", "path"), ("tokenizer",)),
    "inner": (("qrels", "path"), ("tokenizer",)),
    "combine": (("router",), ()),
}
"""The same two kinds of key in nested mappings: paths, and paths or names."""


def resolved_paths(tree: Mapping[str, Any], folder: Path) -> Tree:
    """``tree``, the content of a settings file in ``folder``, with its paths as the current folder sees them."""
    found = Tree()
    for key, value in tree.items():
        if isinstance(value, str):
            found[key] = str(folder / value) if _is_path(key, value, folder) else value
        elif isinstance(value, Mapping) and key in _BELOW:
            found[key] = _below(key, value, folder)
        elif isinstance(value, Mapping) and key == "arms":
            found[key] = {
                arm: resolved_paths(one, folder) if isinstance(one, Mapping) else one for arm, one in value.items()
            }
        else:
            found[key] = value
    return found


def _is_path(key: str, value: str, folder: Path) -> bool:
    if key in _NAMES_OF_FILES:
        return value.endswith(_NAMES_OF_FILES[key]) and not (is_url(value) or value.startswith(RANK_LLM))
    return key in _FILES or (key in _FILES_OR_NAMES and _exists(folder, value))


def _below(group: str, tree: Mapping[str, Any], folder: Path) -> Tree:
    files, files_or_names = _BELOW[group]
    found = Tree()
    for key, value in tree.items():
        if isinstance(value, str) and (key in files or (key in files_or_names and _exists(folder, value))):
            found[key] = str(folder / value)
        elif isinstance(value, Mapping) and key in _BELOW:
            found[key] = _below(key, value, folder)
        else:
            found[key] = value
    return found


def _exists(folder: Path, value: str) -> bool:
    try:
        return bool(value) and (folder / value).exists()
    except (OSError, ValueError):  # too long, or with a null character
        return False
