"""From flags to settings.

Layers, later over earlier: the reranker's YAML, the chosen checkpoint's preset, ``--rerank.config FILE``, flags.
Every flag takes exactly one value, so ours can be lifted out of an argv without knowing the others in it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import yaml

from pyserini_reasonrank.errors import UsageError, nearest, validated
from pyserini_reasonrank.models.catalogue import AUTO, EMBEDDED, choose, entry, known_models
from pyserini_reasonrank.models.collections import for_collection
from pyserini_reasonrank.prompts import sources
from pyserini_reasonrank.resources import conf, yaml_names
from pyserini_reasonrank.run.compatibility import check_kind
from pyserini_reasonrank.settings.schema import SamplingSettings, Settings, Tree

PREFIX = "--rerank"
MODELLESS = ("recorded", "oracle")

_EMBEDDED_CAN = ("likelihood",)
_AT_CHANCE = "the embedded SmolLM2-135M writes rankings no better than chance; name a model with --rerank.model"


def lift(argv: Sequence[str]) -> tuple[str | None, Tree, list[str]]:
    """Take ``--rerank NAME`` and all ``--rerank.KEY VALUE`` out of ``argv``: the name, the tree of keys, the rest.

    ``--rerank`` without a value is left in: it is a switch of Faiss' own.
    """
    name, tree, rest, words = None, Tree(), list[str](), list(argv)
    while words:
        flag, equals, value = words.pop(0).partition("=")
        named = flag == PREFIX and (equals or (words and not words[0].startswith("-")))
        if not named and not flag.startswith(f"{PREFIX}."):
            rest.append(flag + equals + value)
            continue
        if not equals:
            if not words:
                raise UsageError(f"{flag} needs a value")
            value = words.pop(0)
        if named:
            name = value or None
        else:
            _plant(tree, flag.removeprefix(f"{PREFIX}."), _scalar(value), flag)
    return name, tree, rest


def load(name: str, flags: Tree, data: Sequence[str] = ()) -> tuple[Settings, list[str]]:
    """The settings of the reranker ``name`` under ``flags``, and warnings to show. UsageError names what is wrong.

    ``data`` are the names of index, corpus and topics, which tell the collection.
    """
    given = flags
    if "config" in flags:
        given = merge(_yaml_file(str(flags["config"])), {k: v for k, v in flags.items() if k != "config"})
    return _load(name, given, PREFIX, [str(given["collection"])] if given.get("collection") else data)


def _load(name: str, given: Tree, where: str, data: Sequence[str]) -> tuple[Settings, list[str]]:
    own = reranker(name)
    if "combine" in merge(own, given):
        return _load_combined(name, own, given, where, data)
    asked = merge(own, given)
    _check_names(asked, where)
    engine = answering(asked.get("engine", {}))
    model, kind, warnings = asked.get("model", AUTO), str(asked.get("judge", {}).get("kind")), list[str]()
    if engine in MODELLESS:
        model = asked["engine"].get("name")
    elif model == AUTO and engine != "openai":
        model = choose(asked.get("checkpoint"), asked.get("engine", {}), asked.get("max_model_len"))
        if model == EMBEDDED and kind not in _EMBEDDED_CAN and "adapter" not in asked:
            warnings.append(_AT_CHANCE)
    preset = Tree()
    check_kind(str(model), kind, name)
    if (named := entry(str(model), asked.get("adapter"), kind)) is not None:
        preset = known_models()[named].brings(own)
    if "prompt" in preset and "prompt" not in given and (reason := sources.missing(preset["prompt"])):
        warnings.append(f"{model} was trained with the prompt {preset.pop('prompt')}, which can't be had ({reason}); "
                        f"the project's own wording {own.get('prompt')} is used")  # fmt: skip
    collection, limits = for_collection(known_models()[named].collections if named else {}, data)
    if collection is not None:
        said = ", ".join(f"{key} {value}" for key, value in limits.items())
        warnings.append(f"{collection}: {said}, as {model} was published for it, where no flag says otherwise")
    tree = merge(merge(merge(own, preset), limits), given)
    return validated(
        Settings, tree | {"name": name, "model": model, "collection": collection or given.get("collection")}, where
    ), warnings


_OF_EVERY_ARM = frozenset({
    "model", "revision", "adapter", "tokenizer", "max_model_len", "engine", "sampling", "chat_template_args",
    "passage_tokens", "query_tokens", "mend", "on_error",
})  # fmt: skip
_OF_ONE_RERANKER = frozenset({"judge", "strategy", "prompt", "checkpoint"})
_OF_THE_RUN = frozenset({"fuse", "tag", "max_bad", "docid_blanks", "corpus", "journal"})
_DEPTH = Settings.model_fields["depth"].default
_DROPPED = "none"  # what an arm of a reranker's YAML is set to that is not wanted


def _load_combined(name: str, own: Tree, given: Tree, where: str, data: Sequence[str]) -> tuple[Settings, list[str]]:
    """A combination's settings. What is said of all arms gives way to what is said of one, a YAML file to the user."""
    asked, arms, warnings = merge(own, given), dict[str, Settings](), list[str]()
    _check_names(asked, where)
    if own_to_one := sorted(_OF_ONE_RERANKER & asked.keys()):
        raise UsageError(f"{where}.{own_to_one[0]} is set for each arm: say {where}.arms.NAME.{own_to_one[0]}")
    for arm in (name for name, arm in asked.get("arms", {}).items() if arm != _DROPPED):
        tree = Tree()
        for layer in (own, given):
            shared = {key: value for key, value in layer.items() if key in _OF_EVERY_ARM}
            one: Tree = layer.get("arms", {}).get(arm, {})
            if one.get("reranker", tree.get("reranker")) != tree.get("reranker"):
                tree = {key: value for key, value in own.items() if key in _OF_EVERY_ARM}  # another brings its own
            tree = merge(merge(tree, shared), one)
        of_arm = f"{where}.arms.{arm}"
        if (base := tree.pop("reranker", None)) is None:
            raise UsageError(f"{of_arm}.reranker is not given: it names the reranker, e.g. reasonrank")
        tree.setdefault("depth", reranker(str(base)).get("depth", asked.get("depth", _DEPTH)))
        if of_all := sorted(_OF_THE_RUN & tree.keys()):
            raise UsageError(f"{of_arm}.{of_all[0]} can't be set for one arm: it is of the whole run")
        arms[arm], more = _load(str(base), tree, of_arm, data)
        warnings += [warning for warning in more if warning not in warnings]
    settings = validated(Settings, {k: v for k, v in asked.items() if k != "arms"} | {"name": name}, where)
    return settings.model_copy(update={"arms": arms}), warnings


def _check_names(tree: Tree, where: str) -> None:
    """What the declared settings can't say, since these trees are open: a missing last key, a mistyped parameter."""
    for key, leaf in (("judge", "kind"), ("strategy", "name"), ("engine", "name"), ("combine", "name")):
        if not isinstance(tree.get(key, {}), dict):
            raise UsageError(f"{where}.{key} has keys of its own: say {where}.{key}.{leaf} {tree[key]}")
    arms = tree.get("arms", {})
    for name, arm in arms.items() if isinstance(arms, dict) else [("NAME", arms)]:
        if not isinstance(arm, dict) and arm != _DROPPED:
            raise UsageError(f"{where}.arms.{name} has keys of its own: say {where}.arms.{name}.reranker {arm}")
    sampling = tree.get("sampling", {})
    for name in sampling if isinstance(sampling, dict) else ():
        if name not in SamplingSettings.model_fields and get_close_matches(
            name, SamplingSettings.model_fields, 1, 0.85
        ):
            raise UsageError(f"{where}.sampling.{name} is not known{nearest(name, SamplingSettings.model_fields)}")


def answering(engine: Mapping[str, Any]) -> str:
    """The name of the engine that answers in the end: of a faulty one, the one inside."""
    inner = engine.get("inner", {})
    if engine.get("name") == "faulty" and isinstance(inner, Mapping):
        return answering({"name": "oracle", **inner})
    return str(engine.get("name", AUTO))


def reranker(name: str) -> Tree:
    """The YAML of a reranker: shipped, or of a package in entry-point group ``pyserini.rerankers``."""
    shipped = yaml_names("rerankers")
    if name in shipped:
        return dict(yaml.safe_load(conf("rerankers", f"{name}.yaml").read_text(encoding="utf-8")))
    others = {entry.name: entry for entry in entry_points(group="pyserini.rerankers")}
    if name in others:
        found = others[name].load()
        return dict(found() if callable(found) else found)
    raise UsageError(f"there is no reranker {name!r}{nearest(name, [*shipped, *others])}")


def rerankers() -> list[str]:
    """Names for ``--rerank``, sorted."""
    return sorted({*yaml_names("rerankers"), *(entry.name for entry in entry_points(group="pyserini.rerankers"))})


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> Tree:
    """``over`` laid on ``under``, mapping by mapping. A new judge kind, strategy or engine brings its own settings."""
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            fresh = any(value.get(k, below.get(k)) != below.get(k) for k in ("kind", "name"))
            merged[key] = dict(value) if fresh else merge(below, value)
        else:
            merged[key] = value
    return merged


def tag(settings: Settings, *model_names: str) -> str:
    """The run tag: reranker and models, without blanks."""
    models = "+".join(os.path.basename(name.rstrip("/")) for name in model_names)
    return settings.tag or f"{settings.name}-{models}".replace(" ", "_")


def _plant(tree: Tree, path: str, value: Any, flag: str) -> None:
    *parents, leaf = path.split(".")
    for key in parents:
        tree = tree.setdefault(key, {})
        if not isinstance(tree, dict):
            raise UsageError(f"{flag} and --rerank.{key} can't both be given")
    if isinstance(tree.get(leaf), dict) and not isinstance(value, dict):
        raise UsageError(f"{flag} and --rerank.{path}.{next(iter(tree[leaf]))} can't both be given")
    tree[leaf] = value


def _scalar(text: str) -> Any:
    """A flag's value as YAML would read it: ``20`` a number, ``true`` a truth, ``{a: 1}`` a mapping, else a string.

    ``0123`` is no number: YAML reads it as octal, and it may be a revision.
    """
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    if type(value) is int and str(value) != text:
        return text
    structured = isinstance(value, list | dict) and text.lstrip().startswith(("[", "{"))
    return value if structured or isinstance(value, bool | int | float) else text


def _yaml_file(path: str) -> Tree:
    if not Path(path).is_file():
        raise UsageError(f"--rerank.config {path} does not exist")
    try:
        tree = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise UsageError(f"{path} holds no YAML mapping")
    return tree
