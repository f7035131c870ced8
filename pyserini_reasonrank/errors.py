"""The exceptions of the package, and the validation of settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, get_args

if TYPE_CHECKING:
    from pydantic import BaseModel


class _Sentence(Exception):
    """An exception whose message is one line, also if it quotes a text of several: a value, or a message of a library."""

    def __init__(self, message: str = "") -> None:
        super().__init__(" ".join(message.splitlines()))


class UsageError(_Sentence):
    """The input or the settings are invalid, and the user can correct them. Commands print the message and exit with 2."""

    exit_code = 2


class UnknownKey(UsageError):
    """``FLAG.KEY`` is not declared; ``known`` are the keys that are.

    ``owner`` has them, such as "the sliding strategy"; "" if they are not those of one part among others.
    """

    def __init__(self, flag: str, key: str, known: Iterable[str], owner: str = "") -> None:
        super().__init__(f"{flag}.{key} is not known{nearest(key, known)}")
        self.flag, self.key, self.known, self.owner = flag, key, list(known), owner


class Failure(_Sentence):
    """A run could not be finished (an engine died, too many bad calls). Commands print the message and exit with 1."""

    exit_code = 1


class CallFailed(Failure):
    """A call of the query ``qid`` failed, and the engine still runs: other queries can be finished."""

    def __init__(self, qid: str, message: str) -> None:
        super().__init__(message)
        self.qid = qid


def first_of(error: BaseException) -> BaseException:
    """``error``, or the first exception of a group, at any depth."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def os_error(error: OSError, path: object) -> str:
    """The sentence about a file that can't be read or written: the one that ``error`` names, otherwise ``path``."""
    return f"{error.filename or path}: {error.strerror or error}"


def listed(names: Iterable[str], most: int) -> str:
    """The first ``most`` names for a message, with the number of the others: ``a, b and 3 more``."""
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def message_of(error: BaseException) -> str:
    """The message of another library's error, shortened, on one line; the name of its type if it has none."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error message: ``; did you mean X?``, or ``; known: ...`` if no known name is similar in any case."""
    names = list(known)
    folded = {each.casefold(): each for each in reversed(names)}
    close = get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)
    return f"; did you mean {folded[close[0]]!r}?" if close else f"; known: {', '.join(names)}"


def validated[M: BaseModel](model: type[M], values: Mapping[str, Any], flag: str, owner: str = "") -> M:
    """``values`` as a ``model``. UsageError for the first invalid value; ``flag`` is the dotted prefix.

    ``owner`` is as in UnknownKey.

    A null resets its key: to None if the key accepts that, otherwise to its default.
    """
    from pydantic import ValidationError

    try:
        return model.model_validate(_without_resets(model, values))
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(map(str, fault["loc"]))
        key = ".".join(filter(None, (flag, where)))
        if fault["type"] == "extra_forbidden":
            raise UnknownKey(flag, where, model.model_fields, owner) from None
        if fault["type"] == "missing":
            raise UsageError(f"{key} is required") from None
        if fault["type"] in ("model_type", "dict_type"):
            field = model.model_fields.get(where)
            known = getattr(field.annotation if field else None, "model_fields", ("NAME",))
            raise UsageError(f"{key} has keys of its own: {', '.join(f'{key}.{name}' for name in known)}") from None
        message = fault["msg"].removeprefix("Value error, ")
        message = message[0].lower() + message[1:]
        raise UsageError(f"{key} {fault['input']!r}: {message}") from None


def _without_resets(model: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` without the nulls of keys that do not accept None, so that these keep their defaults."""
    kept = {}
    for key, value in values.items():
        field = model.model_fields.get(key)
        if field is None:
            if value is not None or model.model_config.get("extra") != "allow":
                kept[key] = value
            continue
        kinds = (field.annotation, *get_args(field.annotation))
        nested = next((kind for kind in kinds if hasattr(kind, "model_fields")), None)
        if isinstance(value, Mapping) and nested is not None:
            kept[key] = _without_resets(nested, value)
        elif value is not None or Any in kinds[:1] or type(None) in kinds:
            kept[key] = value
    return kept
