"""The help on declared settings: one line a key, with description, choices and default, so that it can't go stale."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

_WIDEST = 40


def setting_lines(
    model: type[BaseModel], prefix: str = "--", *, skip: Collection[str] = (), more: Mapping[str, str] | None = None
) -> list[str]:
    """``  --KEY.SUB  description; choices [default]`` for every key of ``model`` and of the models nested in it.

    ``skip`` are keys of ``model`` to leave out, ``more`` other keys with their descriptions, to list after these.
    """
    rows = [*_rows(model, prefix, skip), *((prefix + key, about) for key, about in (more or {}).items())]
    width = min(max((len(flag) for flag, _ in rows), default=0), _WIDEST)
    return [f"  {flag:<{width}}  {about}".rstrip() for flag, about in rows]


def setting_flags(model: type[BaseModel], prefix: str, *, skip: Collection[str] = ()) -> Iterator[str]:
    """The flags of the keys that ``setting_lines`` lists."""
    return (flag for flag, _ in _rows(model, prefix, skip))


def _rows(
    model: type[BaseModel], prefix: str, skip: Collection[str] = (), parent: str = ""
) -> Iterator[tuple[str, str]]:
    for name, field in model.model_fields.items():
        if name in skip:
            continue
        nested = None if _is_converted(field) else nested_settings(field.annotation)
        about = "; ".join(filter(None, (field.description, choices(field.annotation))))
        if nested is None:
            about = (about or _type(field.annotation)) + _default(field, parent)
        yield prefix + (field.alias or name), about
        if nested is not None and nested is not model:
            yield from _rows(nested, f"{prefix}{name}.", parent=prefix + name)


def _is_converted(field: FieldInfo) -> bool:
    """Whether the value is something else that a validator converts, such as the path of a file."""
    return any(isinstance(item, BeforeValidator) for item in field.metadata)


def nested_settings(annotation: Any) -> type[BaseModel] | None:
    """The model below a key: ``Lora`` for ``Lora | None``; None for a key without one, and for lists and mappings."""
    kinds = [annotation, *get_args(annotation)] if get_origin(annotation) not in (dict, list, tuple) else []
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def choices(annotation: Any) -> str:
    """The values of a ``Literal``, also of one in a union or a list; empty for any other type."""
    parts = get_args(annotation)
    if get_origin(annotation) is Literal:
        return " | ".join(map(str, parts))
    return next(filter(None, map(choices, parts)), "")


def _default(field: FieldInfo, parent: str) -> str:
    if field.is_required():
        return f" (required with {parent})" if parent else " (required)"
    value = field.default
    if value in (None, "", {}, [], ()):
        return ""
    shown = ", ".join(f"{key}: {item}" for key, item in value.items()) if isinstance(value, dict) else str(value)
    return f" [{shown if shown.isprintable() else repr(shown)}]"


def _type(annotation: Any) -> str:
    kinds = [kind for kind in get_args(annotation) or [annotation] if kind not in (None, type(None), ...)]
    return " | ".join(getattr(kind, "__name__", str(kind)) for kind in kinds)
