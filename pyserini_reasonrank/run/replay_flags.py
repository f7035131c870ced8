"""The flags that replay a run with the engine ``recorded``: its settings without model, machine and inputs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyserini_reasonrank.errors import UsageError, listed
from pyserini_reasonrank.ir.fusion import Fusion
from pyserini_reasonrank.run.recorded_run import NAMED, Restored
from pyserini_reasonrank.settings import files, flags, layers, rerankers
from pyserini_reasonrank.settings.overlay import merge
from pyserini_reasonrank.settings.schema import Settings, Tree

_OF_MODEL_AND_MACHINE = {
    "name", "about", "as", "engine", "model", "checkpoint", "revision", "adapter", "tokenizer", "max_model_len",
    "chat_template_args", "bos", "collection", "overwrite", "journal", "corpus", "topics", "exclude", "strict", "config",
}  # fmt: skip
"""The settings that are left out. ``as`` is one of them, since it selects other settings, by the model."""
_OF_THE_RUN = {"tag", "max_bad", "docid_blanks"}
_ROUNDS = 4
"""The number of times that missing settings are added; each may select others, such as those of another judge."""
_ENGINE = {"engine": {"name": "recorded"}}


def replay_flags(found: Restored) -> tuple[str, ...]:
    """``--rerank NAME`` and the flags with which the engine ``recorded`` has the settings of a run.

    The checkpoint's settings, and those of a settings file or a reranker's file, become flags. Paths of files, such as a
    prompt's, become the names of the files. UsageError if flags can't express the settings.
    """
    base = Base(flags.PREFIX, rerankers.BASE, layers.load, flags.lift)
    return flags_of(base, found.reranker, found.tree, found.settings, {"tag": found.plan.tag})


@dataclass(frozen=True, slots=True)
class Base:
    """What flags set: rerankers or rewriters. ``prefix`` begins the flags, ``key`` names in a YAML file the base of the file.

    ``load`` returns the settings of a name under a tree of flags, and warnings; ``lift`` reads name and tree from words.
    """

    prefix: str
    key: str
    load: Callable[[str, Tree], tuple[Settings, list[str]]]
    lift: Callable[[Sequence[str]], tuple[str | None, Tree, list[str]]]


def flags_of(
    base: Base, name: str, tree: Mapping[str, Any], settings: Settings, more: Mapping[str, Any]
) -> tuple[str, ...]:
    """The flags of ``replay_flags`` for the reranker or rewriter ``name`` under ``tree``, with ``more`` settings."""
    name = _named(base, name)
    tree = _given(dict(tree)) | _ENGINE | dict(more)
    wanted = _compared(settings)
    for _ in range(_ROUNDS):
        missing = _missing(_compared(base.load(name, tree)[0]), wanted)
        if not missing:
            break
        tree = _updated(tree, missing)
    words = [base.prefix, name, *_words(tree, base.prefix, ())]
    again = _compared(base.load(name, base.lift(words)[1])[0])
    if left := sorted(_missing(again, wanted)):
        raise UsageError(f"flags can't express these settings of the run, so it can't be packed: {listed(left, NAMED)}")
    return tuple(os.path.basename(word) if is_path(word) else word for word in words)


def is_path(text: str) -> bool:
    """Whether ``text`` is the path of a file or folder of this machine."""
    return os.path.isabs(text) or text.startswith(("./", "../", "~")) or (os.sep in text and os.path.exists(text))


def _named(base: Base, name: str) -> str:
    """The reranker or rewriter that a YAML file starts from, which has a name; the file itself if there is none."""
    while rerankers.is_file(name) and base.key in (tree := files.read(name, flag=base.prefix)):
        name = str(tree[base.key])
    return name


def _given(tree: Tree) -> Tree:
    """What the user set, also in a settings file, without the settings of model, machine and inputs."""
    if (file := tree.get(flags.CONFIG)) is not None:
        tree = merge(files.read(str(file), flag=f"{flags.PREFIX}.{flags.CONFIG}"), tree)
    kept = {key: value for key, value in tree.items() if key not in _OF_MODEL_AND_MACHINE}
    if isinstance(arms := kept.get("arms"), Mapping):
        kept["arms"] = {name: _given(dict(arm)) if isinstance(arm, Mapping) else arm for name, arm in arms.items()}
    return kept


def _compared(settings: Settings) -> Tree:
    """The settings that decide a replay."""
    dumped = settings.model_dump(mode="json", by_alias=True, exclude={"arms"})
    kept = {key: value for key, value in dumped.items() if key not in _OF_MODEL_AND_MACHINE | {"tag"}}
    fuse = kept["fuse"]
    kept["fuse"] = {
        key: value for key, value in fuse.items() if fuse["method"] in Fusion.USED_BY.get(key, (fuse["method"],))
    }
    arms = {name: _compared(arm) | {"reranker": arm.name} for name, arm in settings.arms.items()}
    for arm in arms.values():
        for key in _OF_THE_RUN:
            arm.pop(key, None)
    return kept | ({"arms": arms} if arms else {})


def _missing(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> Tree:
    """What has to be set on top of ``found`` to get ``wanted``."""
    tree = Tree()
    for key, value in wanted.items():
        other = found.get(key)
        if isinstance(value, Mapping) and isinstance(other, Mapping):
            if below := _missing(other, value):
                tree[key] = below
        elif value != other:
            tree[key] = value
    return tree | {key: None for key in found if key not in wanted and found[key] is not None}


def _updated(tree: Mapping[str, Any], changes: Mapping[str, Any]) -> Tree:
    updated = dict(tree)
    for key, value in changes.items():
        below = updated.get(key)
        updated[key] = _updated(below, value) if isinstance(value, Mapping) and isinstance(below, Mapping) else value
    return updated


def _words(tree: Mapping[str, Any], flag: str, path: tuple[str, ...]) -> Iterator[str]:
    """The flags of a tree. A value that a flag of its own would read differently is written in a mapping."""
    for key, value in tree.items():
        where = (*path, key)
        if isinstance(value, Mapping) and value and "." not in key:
            yield from _words(value, f"{flag}.{key}", where)
        elif (
            isinstance(value, str)
            and "." not in key
            and (flags.asks_for_text(Settings, where) or flags.typed(value) == value)
        ):
            yield from (f"{flag}.{key}", value)
        elif isinstance(value, str) or "." in key:
            yield from (flag, json.dumps({key: value}, ensure_ascii=False))
        else:
            yield from (f"{flag}.{key}", json.dumps(value, ensure_ascii=False))
