"""Checks of classes and functions from other packages against the interface by which they are called."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from pyserini_reasonrank.plugins import Unsuitable

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


def check_options(found: type, attribute: str, base: type) -> None:
    """Unsuitable unless the class attribute, the schema of the settings, is a subclass of ``base``."""
    options = getattr(found, attribute, None)
    if not isinstance(options, type) or not issubclass(options, base):
        raise Unsuitable(
            f"{dotted(found)}.{attribute} is {dotted(options)}: expected a subclass of {dotted(base)}, a pydantic model"
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
