"""All flags of ``--rerank``: the general ones, and those that judges, strategies, combinations and engines declare."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from typing import Any, NamedTuple

from pydantic import BaseModel

from pyserini_reasonrank.combine import COMBINATIONS
from pyserini_reasonrank.engines import ENGINE_PARTS
from pyserini_reasonrank.errors import UnknownKey, UsageError, listed
from pyserini_reasonrank.judges.registry import JUDGE_PARTS
from pyserini_reasonrank.plugins import Registry
from pyserini_reasonrank.settings.flags import PREFIX
from pyserini_reasonrank.settings.help import setting_flags
from pyserini_reasonrank.settings.schema import Settings
from pyserini_reasonrank.strategies import STRATEGY_PARTS, options_model

GENERAL_SKIPPED = ("name", "about")
"""Keys of a reranker's YAML that are not flags."""
_GROUP = re.compile(r"\.(judge|strategy|combine|engine|sampling|fuse|passage|segments)\Z")
_NAMED = 3  # the most flags that a message names
_NAMED_PARTS = 8  # likewise, of judges, strategies and engines
_PLURAL = {"judge": "judges", "strategy": "strategies", "combine": "combinations", "engine": "engines"}


class OptionGroup(NamedTuple):
    """The settings below ``--rerank.KEY`` if ``name`` is selected there; ``note`` says with what it can be used."""

    key: str
    name: str
    model: type[BaseModel]
    note: str = ""

    @property
    def prefix(self) -> str:
        return f"{PREFIX}.{self.key}."


def option_groups(used: Mapping[str, Collection[str]] | None = None) -> Iterator[OptionGroup]:
    """The groups in the order of the help; with ``used``, only those of these names by key.

    Of parts of other packages, those that can't be used have no group: see ``unusable``. UsageError if one of them is in
    ``used``.
    """
    for name, judge in _parts("judge", JUDGE_PARTS, used):
        yield OptionGroup("judge", name, judge.Options)
    for name, entry in _parts("strategy", STRATEGY_PARTS, used):
        yield OptionGroup("strategy", name, options_model(entry.function), f"judges: {', '.join(sorted(entry.judges))}")
    for name, combination in COMBINATIONS.items():
        if used is not None and name not in used.get("combine", ()):
            continue
        arms = [*sorted(combination.needs), *(f"optionally {arm}" for arm in sorted(combination.may or ()))]
        note = f"arms: {', '.join(arms) or 'any'}"
        yield OptionGroup("combine", name, options_model(combination.function), note)
    for name, engine in _parts("engine", ENGINE_PARTS, used):
        yield OptionGroup("engine", name, engine.options_class)


def unusable() -> list[str]:
    """Why parts of other packages can't be used, a sentence for each."""
    registries: tuple[Registry[Any], ...] = (JUDGE_PARTS, STRATEGY_PARTS, ENGINE_PARTS)
    return [
        str(found)
        for registry in registries
        for name in registry.registered()
        if isinstance(found := registry.usable(name), UsageError)
    ]


def _parts[T](key: str, registry: Registry[T], used: Mapping[str, Collection[str]] | None) -> Iterator[tuple[str, T]]:
    for name in registry.names():
        if used is not None:
            if name in used.get(key, ()):
                yield name, registry.get(name)
        elif not isinstance(found := registry.usable(name), UsageError):
            yield name, found


@cache
def by_leaf() -> dict[str, list[str]]:
    """The flags by their last part, such as ``window_size``; general flags first."""
    flags = list(setting_flags(Settings, f"{PREFIX}.", skip=GENERAL_SKIPPED))
    for group in option_groups():
        flags += setting_flags(group.model, group.prefix)
    found: dict[str, list[str]] = {}
    for flag in dict.fromkeys(flags):
        found.setdefault(flag.rpartition(".")[2], []).append(flag)
    return found


def _having(error: UnknownKey, base: str) -> str:
    """The end of the message about a setting that other parts of its kind have, with their names."""
    flag = PREFIX + f"{error.flag}.{error.key}".removeprefix(base)
    having = [group for group in option_groups() if flag in setting_flags(group.model, group.prefix)]
    if not having:
        return ""
    names = listed([group.name for group in having], _NAMED_PARTS)
    return f" ({error.flag}.{error.key}); {_PLURAL[having[0].key]} with this setting: {names}"


def explained(error: UnknownKey) -> str:
    """The message about an unknown key, with the flags that have its name elsewhere, or a similar one."""
    if not error.flag.startswith(PREFIX):
        return str(error)
    leaf = error.key.rpartition(".")[2]
    flags = by_leaf().get(leaf)
    if flags is None:
        close = get_close_matches(leaf, [*error.known, *by_leaf()], n=1, cutoff=0.6)
        flags = by_leaf()[close[0]] if close and close[0] not in error.known else None
    if flags is None:
        return str(error)
    base = _GROUP.sub("", error.flag)  # of one arm of a combination
    named = [base + flag.removeprefix(PREFIX) for flag in flags]
    if (own := f"{error.flag}.{error.key}") in named:
        return f"{error.owner or own} has no setting {error.key}{_having(error, base)}"
    more = f" (or {len(named) - _NAMED} others)" if len(named) > _NAMED else ""
    return f"{error.flag}.{error.key} is not known; did you mean {' or '.join(named[:_NAMED])}{more}?"
