"""The two exceptions of the package, and the end of an error's sentence: the nearest known name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel


class UsageError(Exception):
    """The input or the settings can't be used as given. One clear sentence; the command exits with 2."""

    exit_code = 2


class Failure(Exception):
    """The run could not be finished (an engine died, too many bad calls). One clear sentence; exits with 1."""

    exit_code = 1


def nearest(name: str, known: Iterable[str]) -> str:
    """``; did you mean X?`` or, where nothing is near, ``; known: ...``: the end of an error's sentence."""
    known = list(known)
    close = get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"


def validated[M: BaseModel](model: type[M], values: Mapping[str, Any], flag: str) -> M:
    """``values`` as a ``model``. UsageError with one sentence on the first fault; ``flag`` is the dotted prefix."""
    from pydantic import ValidationError

    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(map(str, fault["loc"]))
        if fault["type"] == "extra_forbidden":
            raise UsageError(f"{flag}.{where} is not known{nearest(where, model.model_fields)}") from None
        message = fault["msg"][0].lower() + fault["msg"][1:]
        raise UsageError(f"{flag}.{where} {fault['input']!r}: {message}") from None
