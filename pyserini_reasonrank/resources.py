"""The YAML that ships with the package: the top-level folder ``conf/`` of the repository."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable


def conf(*parts: str) -> Traversable:
    """``conf/`` or what lies in it."""
    return files("pyserini_reasonrank.conf").joinpath(*parts)


def yaml_names(folder: str) -> list[str]:
    """The YAML files of a folder of ``conf/``, without their ending, sorted."""
    return sorted(f.name.removesuffix(".yaml") for f in conf(folder).iterdir() if f.name.endswith(".yaml"))
