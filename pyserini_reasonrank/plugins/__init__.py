"""Parts of other packages: strategies, judges, engines, prompts and rerankers that they register as entry points.

A package is imported only when one of its parts is named or listed. A name that two packages register, or that this package
has already, can't be used: the error names both origins.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pyserini_reasonrank.errors import UsageError, nearest

PACKAGE = "pyserini_reasonrank"


class Unsuitable(Exception):
    """What an entry point loads is not a part of its kind; the message is a sentence that begins with its dotted path."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a part of another package is registered."""

    part: str
    entry: EntryPoint

    @property
    def distribution(self) -> str:
        """The distribution with its version, such as ``my-rerankers 1.0``."""
        found = self.entry.dist
        return "an unnamed distribution" if found is None else f"{found.name} {found.version}"

    def __str__(self) -> str:
        return f"{self.part} {self.entry.name!r} of {self.distribution} (entry point {self.entry.value})"

    def load(self) -> Any:
        """Import what is registered. UsageError, in one sentence, for whatever goes wrong in the other package."""
        try:
            return self.entry.load()
        except (Exception, SystemExit) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise UsageError(
                f"the {self} of the group {self.entry.group} can't be imported: {reason}; repair or uninstall the package"
            ) from error


@dataclass(frozen=True, slots=True)
class Registry[T]:
    """The parts of one kind by name: our own, and those that installed packages register in the entry-point group.

    ``part`` is the singular, ``group`` the end of the group's name. ``own`` returns our names and ``read`` one of our parts;
    ``check`` returns the part that an entry point loads, or raises Unsuitable.
    """

    part: str
    plural: str
    own: Callable[[], Collection[str]]
    read: Callable[[str], T]
    check: Callable[[str, Any], T]

    @property
    def group(self) -> str:
        """The entry-point group, such as ``pyserini_reasonrank.strategies``."""
        return f"{PACKAGE}.{self.plural}"

    def registered(self) -> dict[str, list[Origin]]:
        """The origins in other packages, by name. Nothing is imported."""
        found: dict[str, list[Origin]] = {}
        for entry in _installed(tuple(sys.path)):
            if entry.group == self.group:
                found.setdefault(entry.name, []).append(Origin(self.part, entry))
        return found

    def names(self) -> list[str]:
        """All names: ours in their order, then those of other packages, sorted. Nothing is imported."""
        own = list(self.own())
        return [*own, *sorted(self.registered().keys() - set(own))]

    def __contains__(self, name: object) -> bool:
        return name in self.own() or name in self.registered()

    def origin(self, name: str) -> Origin | None:
        """The only origin of ``name`` in another package; None if it is ours. UsageError if several have the name."""
        origins = self.registered().get(name, [])
        if name in self.own():
            if origins:
                raise UsageError(
                    f"{PACKAGE} has a {self.part} {name!r}, and so has {origins[0].distribution} (entry point "
                    f"{origins[0].entry.value} of the group {self.group}): rename it there, or uninstall that package"
                )
            return None
        if len(origins) > 1:
            both = " and ".join(f"{origin.distribution} (entry point {origin.entry.value})" for origin in origins)
            raise UsageError(
                f"several packages have a {self.part} {name!r} in the group {self.group}: {both}; uninstall all but one"
            )
        return origins[0] if origins else None

    def get(self, name: str, where: str | None = None) -> T:
        """The part ``name``. UsageError for an unknown name, an ambiguous one, or an unusable part of another package.

        ``where`` is the flag that names it, for the message about an unknown name.
        """
        origin = self.origin(name)
        if origin is None:
            if name in self.own():
                return self.read(name)
            unknown = f"there is no {self.part} {name!r}" if where is None else f"{where} {name!r} is not known"
            raise UsageError(f"{unknown}{nearest(name, self.names())}")
        found = origin.load()
        try:
            return self.check(name, found)
        except Unsuitable as error:
            raise UsageError(f"the {origin} of the group {self.group} can't be used: {error}") from None

    def usable(self, name: str) -> T | UsageError:
        """As ``get``, with the error as a value, for lists that show every part."""
        try:
            return self.get(name)
        except UsageError as error:
            return error


def distributions() -> list[str]:
    """The names of the installed distributions that register parts, sorted. Nothing is imported."""
    return sorted({entry.dist.name for entry in _installed(tuple(sys.path)) if entry.dist is not None})


@cache
def _installed(path: tuple[str, ...]) -> list[EntryPoint]:
    """Our groups' entry points of the packages on ``path``, which is ``sys.path``: reading them takes many milliseconds."""
    return [entry for entry in entry_points() if entry.group.startswith(f"{PACKAGE}.")]
