"""The parser of dotted flags, for ``--rerank.KEY VALUE`` among other flags and for ``train``'s ``--KEY VALUE``.

Every flag takes exactly one value, in the next word or after ``=``, so ours can be taken out of a command line without
knowing the other flags on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.resources import SCALARS, DuplicateKey, Loader
from pyserini_reasonrank.settings.schema import Settings, Tree

PREFIX = "--rerank"
CONFIG = "config"  # the key that names a settings file


def lift(
    argv: Sequence[str], prefix: str = PREFIX, schema: type[BaseModel] = Settings
) -> tuple[str | None, Tree, list[str]]:
    """Take ``--rerank NAME`` and all ``--rerank.KEY VALUE`` out of ``argv``: the name, the tree of keys, the rest.

    With another ``prefix``, the flags are ``PREFIX NAME`` and ``PREFIX.KEY VALUE``, with keys of ``schema``.

    UsageError for a flag that is given twice, and for one without a value, except the bare ``--rerank``: it is Faiss' own
    switch and stays in the rest, also without a name. See ``settings.rerankers.read`` for a command line that names no reranker.
    """
    ours, rest = split(argv, prefix)
    name, tree, named = None, Tree(), False
    for flag, value in ours:
        if flag == prefix:
            if named:
                raise twice(flag)
            name, named = value or None, True
        else:
            _plant(tree, flag, f"{prefix}.", value, schema)
    return name, tree, rest


def split(argv: Sequence[str], prefix: str = PREFIX) -> tuple[list[tuple[str, str]], list[str]]:
    """Our flags in ``argv``, each with its value as it is written, and the other words. UsageError as for ``lift``."""
    ours, rest, words = list[tuple[str, str]](), list[str](), list(argv)
    while words:
        word = words.pop(0)
        flag, equals, value = word.partition("=")
        if flag.startswith(f"{prefix}."):
            ours.append((flag, value if equals else _value(flag, words)))
        elif flag == prefix and (equals or (words and not words[0].startswith("-"))):
            ours.append((flag, value if equals else words.pop(0)))
        else:
            rest.append(word)
    return ours, rest


def parse(argv: Sequence[str], schema: type[BaseModel]) -> Tree:
    """``--KEY.SUB VALUE`` and ``--KEY.SUB=VALUE`` as a tree of keys of ``schema``.

    UsageError for any other word, and for a flag that is given twice.
    """
    tree, words = Tree(), list(argv)
    while words:
        flag, equals, value = words.pop(0).partition("=")
        if not flag.startswith("--"):
            raise UsageError(f"{flag!r} is not a flag; write --KEY VALUE")
        _plant(tree, flag, "--", value if equals else _value(flag, words), schema)
    return tree


def typed(text: str) -> Any:
    """The value that ``text`` means where the key does not ask for text.

    ``20``, ``1e-5``, ``true`` and ``null`` have their types, ``[1, 2]`` is a list and ``{a: 1}`` a mapping, in YAML's
    flow style; anything else is text as it is written (``0012``, ``2024-01-31``, ``a: b``, a path). UsageError for a
    mapping that gives a key twice.
    """
    if text.lstrip().startswith(("[", "{")):
        try:
            value = yaml.load(text, Loader)
        except DuplicateKey as error:
            raise UsageError(f"{text}: {error.problem}") from None
        except yaml.YAMLError:
            return text
        return value if isinstance(value, list | dict) else text
    if text and any(pattern.match(text) for pattern in SCALARS.values()):
        return yaml.load(text, Loader)
    return text


def _value(flag: str, words: list[str]) -> str:
    if not words or words[0].startswith("--"):
        raise UsageError(f"{flag} needs a value")
    return words.pop(0)


def _plant(tree: Tree, flag: str, prefix: str, text: str, schema: type[BaseModel]) -> None:
    *parents, leaf = path = flag.removeprefix(prefix).split(".")
    if not all(path):
        raise UsageError(f"{flag} is not a key: there must be a name before and after each dot")
    for depth, key in enumerate(parents, 1):
        tree = tree.setdefault(key, {})
        if not isinstance(tree, dict):
            raise UsageError(f"{flag} and {prefix}{'.'.join(path[:depth])} can't both be given")
    value = text if text != "null" and asks_for_text(schema, path) else typed(text)
    below = tree.get(leaf)
    if isinstance(below, dict):
        if below and not isinstance(value, dict):
            raise UsageError(f"{flag} and {flag}.{next(iter(below))} can't both be given")
        if isinstance(value, dict) and (again := [key for key in below if key in value]):
            raise twice(f"{flag}.{again[0]}")
        value = below | value if isinstance(value, dict) else value
    elif leaf in tree:
        raise twice(flag)
    tree[leaf] = value


def twice(flag: str) -> UsageError:
    """The error for a flag that is given again, where only one of the values could be used."""
    return UsageError(f"{flag} is given twice; give it once")


def asks_for_text(schema: type[BaseModel], path: Sequence[str]) -> bool:
    """Whether the key at ``path`` of ``schema`` is declared as text (or a path), so that no value is a number."""
    if list(path) == [CONFIG]:
        return True
    annotation: Any = schema
    for key in path:
        annotation = _below(annotation, key)
    kinds = [kind for kind in _union(annotation) if kind is not type(None)]
    return bool(kinds) and all(kind in (str, Path) or _is_choice_of_text(kind) for kind in kinds)


def _is_choice_of_text(kind: Any) -> bool:
    return get_origin(kind) is Literal and all(isinstance(choice, str) for choice in get_args(kind))


def _below(annotation: Any, key: str) -> Any:
    for kind in _union(annotation):
        if isinstance(kind, type) and issubclass(kind, BaseModel) and key in kind.model_fields:
            return kind.model_fields[key].annotation
        if get_origin(kind) in (dict, Mapping):
            return get_args(kind)[1]
    return None


def _union(annotation: Any) -> tuple[Any, ...]:
    """The members of a union; of any other type, the type alone."""
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
