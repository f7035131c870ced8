"""Deferred import of packages that the host imports at its start, but a Lucene search does not use.

Pyserini's encoders and tokenizers import PyTorch and transformers, which take most of the time and memory of the start of
a Lucene search.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from importlib import import_module
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

HEAVY = ("pyserini.encode", "transformers")


def defer(names: Iterable[str] = HEAVY) -> None:
    """Install stand-ins for the packages ``names``, which import them on first use of one of their classes."""
    for name in names:
        if name not in sys.modules and (spec := find_spec(name)):
            sys.modules[name] = stand_in = _StandIn(name)
            stand_in.__spec__, stand_in.__file__ = spec, spec.origin
            stand_in.__path__ = list(spec.submodule_search_locations or ())
            parent, _, child = name.rpartition(".")
            if parent:
                setattr(sys.modules[parent], child, stand_in)
    if _Submodules not in sys.meta_path:
        sys.meta_path.insert(0, _Submodules)


class _StandIn(ModuleType):
    """A package in ``sys.modules``, until one of its attributes is used."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            return getattr(_package(self.__name__), name)
        return _Deferred(name, (), {"package": self.__name__})


class _Deferred(type):
    """The metaclass of stand-ins for the classes of a deferred package."""

    package: str

    def __call__(cls, *arguments: Any, **named: Any) -> Any:
        return _original(cls)(*arguments, **named)

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _original(cls))

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, _original(cls))

    def __getattr__(cls, name: str) -> Any:
        return getattr(_original(cls), name)


class _Submodules:
    """Finds the submodules of a deferred package: it imports the package first, which may import the submodule."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        parent = name.rpartition(".")[0]
        if not isinstance(sys.modules.get(parent), _StandIn):
            return None
        _package(parent)
        return ModuleSpec(name, _Loaded()) if name in sys.modules else None


class _Loaded(Loader):
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return sys.modules[spec.name]

    def exec_module(self, module: ModuleType) -> None:
        """The module is already executed."""


def _original(stand_in: _Deferred) -> Any:
    return getattr(_package(stand_in.package), stand_in.__name__)


def _package(name: str) -> ModuleType:
    """Import the package. It may import other deferred packages, so all stand-ins are removed."""
    for other in [other for other, module in sys.modules.items() if isinstance(module, _StandIn)]:
        del sys.modules[other]
    return import_module(name)
