"""Parts of other packages: strategies, judges, engines, prompts and rerankers that they register as entry points.

A package is imported only when one of its parts is named or listed. A name that two packages register, or that this package
has already, can't be used: the error names both origins. Classes and functions are checked against the interface by which
they are called.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.machinery import PathFinder
from importlib.metadata import Distribution, EntryPoint, entry_points
from os import PathLike
from pathlib import Path
from traceback import walk_tb
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


def failure_of(error: BaseException, origin: Origin | None = None) -> str | None:
    """The sentence about an ``error`` that arose while a part of another package ran; None if none did.

    It names the part, which is ``origin`` if that is given, its package, and the last line of the package that ran. None
    also in Python's development mode (``python -X dev``), which shows the traceback.
    """
    if sys.flags.dev_mode:
        return None
    lines = [(frame, number) for frame, number in walk_tb(error.__traceback__) if frame.f_globals.get("__name__")]
    entries = _installed(tuple(sys.path)) if lines else []
    for frame, number in reversed(lines):
        module = str(frame.f_globals["__name__"])
        near = [entry for entry in entries if _is_of(entry, module)]
        if not near:
            continue
        said = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
        return (
            f"the {origin or _ran(near, module, frame.f_code.co_qualname)} failed in {frame.f_code.co_filename}, "
            f"line {number}: {said}; python -X dev shows the traceback"
        )
    return None


def _ran(near: Sequence[EntryPoint], module: str, qualname: str) -> str:
    """The part that a function belongs to, in words; only its package if that has several and none has this name."""
    named = [one for one in near if (one.module, one.attr.partition(".")[0]) == (module, qualname.partition(".")[0])]
    if len(found := named or near) > 1:
        return f"package {Origin('part', found[0]).distribution}"
    return str(Origin(_SINGULAR.get(found[0].group.removeprefix(f"{PACKAGE}."), "part"), found[0]))


_SINGULAR = {
    "strategies": "strategy", "judges": "judge", "engines": "engine", "prompts": "prompt", "rerankers": "reranker"
}  # fmt: skip


def _is_of(entry: EntryPoint, module: str) -> bool:
    """Whether ``module`` belongs to the package that registers ``entry``."""
    top = entry.module.partition(".")[0]
    return top != PACKAGE and (module == top or module.startswith(f"{top}."))


@cache
def _installed(path: tuple[str, ...]) -> list[EntryPoint]:
    """Our groups' entry points of the packages on ``path``, which is ``sys.path``.

    Of a package that is there twice, the first counts. Only the files that name our groups are parsed: an environment has
    hundreds of them.
    """
    if any(os.path.isfile(folder) or folder.endswith(".egg") for folder in path) or any(
        hasattr(finder, "find_distributions") and finder is not PathFinder for finder in sys.meta_path
    ):  # metadata that are not in folders
        found = list(entry_points())
    else:
        found = [entry for folder in _metadata_folders(path) for entry in Distribution.at(folder).entry_points]
    return [entry for entry in found if entry.group.startswith(f"{PACKAGE}.")]


def _metadata_folders(path: Sequence[str]) -> Iterator[str]:
    """The metadata folders on ``path`` whose entry points name our groups."""
    seen = set[str]()
    for parent in path:
        try:
            names = sorted(os.listdir(parent or "."))
        except OSError:
            continue
        for name in names:
            if not name.endswith((".dist-info", ".egg-info")):
                continue
            package = re.sub("[-_.]+", "_", name.rpartition(".")[0].partition("-")[0]).lower()
            if package in seen:
                continue
            seen.add(package)
            folder = os.path.join(parent, name)
            with suppress(OSError), open(os.path.join(folder, "entry_points.txt"), "rb") as file:
                if f"{PACKAGE}.".encode() in file.read():
                    yield folder


def mapping_of(found: Any, read: Callable[[Path], Mapping[str, Any]], kinds: str) -> dict[str, Any]:
    """The mapping that an entry point loads, or that ``read`` reads from the file whose path it loads.

    Unsuitable for anything else, and if there is no such file. ``kinds`` names the kinds of file.
    """
    found = found() if callable(found) else found
    if isinstance(found, Mapping):
        return dict(found)
    if not isinstance(found, str | PathLike):
        raise Unsuitable(
            f"{dotted(found)}: expected a mapping, the path of a {kinds} file, or a function that returns one"
        )
    if not Path(found).is_file():
        raise Unsuitable(f"the file {found} does not exist")
    return dict(read(Path(found)))


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def dotted(found: Any) -> str:
    """The dotted path of a class or function; for any other object, its type and value."""
    if hasattr(found, "__qualname__") and hasattr(found, "__module__"):
        return f"{found.__module__}.{found.__qualname__}"
    return f"{type(found).__name__} {found!r:.60}"


def check_subclass(found: Any, base: type, example: str) -> None:
    """Unsuitable unless ``found`` is a subclass of ``base`` with all its methods, which accept what callers pass.

    ``example`` is the line that a class definition begins with.
    """
    if not isinstance(found, type) or not issubclass(found, base):
        what = "" if isinstance(found, type) else ", which is not a class"
        raise Unsuitable(f"{dotted(found)}{what}: expected a subclass of {dotted(base)}, such as {example}")
    for name in sorted(getattr(found, "__abstractmethods__", ())):
        method = inspect.getattr_static(base, name)
        raise Unsuitable(f"{dotted(found)} lacks the method {_written(name, method)}")
    for name in dir(base):
        if name == "__init__" or not name.startswith("_"):
            _check_member(found, base, name)


def check_attribute(found: type, attribute: str, value: str) -> None:
    """Unsuitable unless the class attribute is ``value``, the name of the entry point."""
    own = getattr(found, attribute, None)
    if own is None:
        raise Unsuitable(f"{dotted(found)} has no attribute {attribute}: set {attribute} = {value!r}")
    if own != value:
        raise Unsuitable(
            f"{dotted(found)}.{attribute} is {own!r}, and the entry point is named {value!r}: give both the same name"
        )


def check_options(found: type, attribute: str, base: type, taken: str) -> None:
    """Unsuitable unless the class attribute, the schema of the settings, is a subclass of ``base`` without a field ``taken``,
    the key that names the part."""
    options = getattr(found, attribute, None)
    if not isinstance(options, type) or not issubclass(options, base):
        raise Unsuitable(
            f"{dotted(found)}.{attribute} is {dotted(options)}: expected a subclass of {dotted(base)}, a pydantic model"
        )
    check_free(f"{dotted(found)}.{attribute}", getattr(options, "model_fields", {}), taken)


def check_free(where: str, names: Collection[str], taken: str) -> None:
    """Unsuitable if ``taken``, the key that names the part in the settings, is among the ``names`` of its options."""
    if taken in names:
        raise Unsuitable(
            f"{where} has an option {taken}, the key that names the part in the settings: rename the option"
        )


def _check_member(found: type, base: type, name: str) -> None:
    ours, theirs = inspect.getattr_static(base, name), inspect.getattr_static(found, name)
    if theirs is ours or (not isinstance(ours, property | staticmethod | classmethod) and not inspect.isfunction(ours)):
        return
    where = f"{dotted(found)}.{name}"
    if isinstance(ours, property):
        if inspect.isfunction(theirs):
            raise Unsuitable(f"{where} is a method: expected a property; write @property above it")
        return
    if not callable(getattr(theirs, "__func__", theirs)):
        raise Unsuitable(f"{where} is not a method: expected {_written(name, ours)}")
    called = _parameters(ours)
    positional = [p.name for p in called if p.kind in _POSITIONAL]
    keywords = {p.name: None for p in called if p.kind is p.KEYWORD_ONLY}
    own = _parameters(theirs)
    try:
        inspect.Signature(own).bind(*positional, **keywords)
    except TypeError as error:
        raise Unsuitable(
            f"{where}({', '.join(p.name for p in own)}) can't be called as {_written(name, ours)}: {error}"
        ) from None
    if inspect.iscoroutinefunction(ours) and not inspect.iscoroutinefunction(theirs):
        raise Unsuitable(f"{where} is not a coroutine function: write async def {_written(name, ours)}")


def _parameters(method: Any) -> list[inspect.Parameter]:
    """The parameters that a caller passes: without ``self`` or ``cls``."""
    function: Callable[..., Any] = getattr(method, "__func__", method)
    parameters = list(inspect.signature(function).parameters.values())
    bound = not isinstance(method, staticmethod) and parameters and parameters[0].kind in _POSITIONAL
    return parameters[1:] if bound else parameters


def _written(name: str, method: Any) -> str:
    """The call of a method of our interface: ``judge(ask, prompt, shown)``."""
    if isinstance(method, property):
        return name
    return f"{name}({', '.join(p.name for p in _parameters(method))})"
