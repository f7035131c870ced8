"""The rerankers by name: the YAML files of ``conf/rerankers``, those of other packages, and a YAML file by its path."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.models.catalogue import Published
from pyserini_reasonrank.plugins import Registry, mapping_of
from pyserini_reasonrank.resources import yaml_names
from pyserini_reasonrank.settings import files
from pyserini_reasonrank.settings.overlay import merge
from pyserini_reasonrank.settings.relative import YAML
from pyserini_reasonrank.settings.schema import Tree

BASE = "reranker"
"""The key of a reranker's YAML that names the reranker it starts from."""

_FOLDER = "rerankers"
_FLAG = "--rerank"
_PUBLISHED = "published"


@dataclass(frozen=True, slots=True)
class Definition:
    """A reranker's settings: ``own`` are those that a checkpoint's settings override, ``given`` override both.

    ``published`` is what ``--rerank.as published`` changes.
    """

    own: Tree
    given: Tree = field(default_factory=dict)
    published: Tree | None = None


def names() -> list[str]:
    """Names for ``--rerank``, sorted. Nothing is imported."""
    return sorted(RERANKER_PARTS.names())


def is_file(name: str) -> bool:
    """Whether ``name`` is the path of a YAML file."""
    return name.endswith(YAML)


def label(name: str) -> str:
    """The name of a reranker in messages, tags and metadata: of a file, its stem."""
    return Path(name).stem if is_file(name) else name


def read(name: str | None) -> Tree:
    """The settings of the reranker ``name``. UsageError if there is none, or ``name`` is None."""
    found = definition(name)
    return merge(found.own, found.given)


def published(name: str) -> Published | None:
    """What ``--rerank.as published`` changes in the settings of the reranker ``name``, whatever its model; None if nothing."""
    found = definition(name).published
    return None if found is None else Published.model_validate(found)


def definition(name: str | None, users: tuple[str, ...] = ()) -> Definition:
    """The settings of the reranker ``name``; ``users`` are the rerankers that start from it, the nearest last.

    UsageError if there is none, if ``name`` is None, or if a reranker starts from itself.
    """
    if name is None:
        raise without_name()
    if _place(name) in map(_place, users):
        raise UsageError(f"the reranker {name} starts from itself: {' -> '.join((*users, name))}")
    if is_file(name):
        tree = files.read(name, flag=_FLAG)
        if BASE not in tree and not {"prompt", "combine"} & tree.keys():
            raise UsageError(
                f"{name} has neither a reranker to start from ({BASE}: NAME) nor a prompt nor a combination"
            )
    else:
        if name not in RERANKER_PARTS and (
            file := next(filter(os.path.isfile, (f"{name}{end}" for end in YAML)), None)
        ):
            raise UsageError(f"there is no {RERANKER_PARTS.part} {name!r}; did you mean the file {file}?")
        tree = RERANKER_PARTS.get(name)
    tree = dict(tree)
    base, release = tree.pop(BASE, None), tree.pop(_PUBLISHED, None)
    if base is None:
        return Definition({}, tree, release) if is_file(name) else Definition(tree, {}, release)
    below = definition(str(base), (*users, name))
    return Definition(below.own, merge(below.given, tree), release or below.published)


def without_name() -> UsageError:
    """The error for a command line without ``--rerank NAME``."""
    return UsageError(f"{_FLAG} needs the name of a reranker: {', '.join(names())}")


def _place(name: str) -> str:
    return os.path.realpath(name) if is_file(name) else name


def _registered(name: str, found: Any) -> Tree:
    """The reranker of another package. Unsuitable unless it is a mapping or a YAML file."""
    return mapping_of(found, lambda path: files.read(str(path), flag=_FLAG), "YAML")


RERANKER_PARTS: Registry[Tree] = Registry(
    "reranker", "rerankers", lambda: yaml_names(_FOLDER), lambda name: files.shipped_file(_FOLDER, name), _registered
)
"""Our rerankers, and those that other packages register in the entry-point group ``pyserini_reasonrank.rerankers``."""
