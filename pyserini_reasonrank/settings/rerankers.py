"""The catalogue of rerankers: the YAML files of ``conf/rerankers``, and those of packages that register their own."""

from __future__ import annotations

from importlib.metadata import entry_points

from pyserini_reasonrank.errors import UsageError, nearest
from pyserini_reasonrank.models.catalogue import Published
from pyserini_reasonrank.resources import yaml_names
from pyserini_reasonrank.settings.files import shipped_file
from pyserini_reasonrank.settings.schema import Tree

GROUP = "pyserini.rerankers"
"""The entry-point group for rerankers of other packages: each entry is a mapping, or a function that returns one."""

_FOLDER = "rerankers"
_PUBLISHED = "published"


def names() -> list[str]:
    """Names for ``--rerank``, sorted."""
    return sorted({*yaml_names(_FOLDER), *(entry.name for entry in entry_points(group=GROUP))})


def read(name: str | None) -> Tree:
    """The settings of the reranker ``name``; a shipped one goes before a registered one of that name.

    UsageError if there is none, or ``name`` is None.
    """
    return {key: value for key, value in _read(name).items() if key != _PUBLISHED}


def published(name: str) -> Published | None:
    """What ``--rerank.as published`` changes in the settings of the reranker ``name``, whatever its model; None if nothing."""
    found = _read(name).get(_PUBLISHED)
    return None if found is None else Published.model_validate(found)


def _read(name: str | None) -> Tree:
    if name is None:
        raise UsageError(f"--rerank needs the name of a reranker: {', '.join(names())}")
    if name in yaml_names(_FOLDER):
        return shipped_file(_FOLDER, name)
    registered = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name in registered:
        found = registered[name].load()
        return dict(found() if callable(found) else found)
    raise UsageError(f"there is no reranker {name!r}{nearest(name, names())}")
