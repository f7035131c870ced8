"""The layers of settings. Later ones override earlier ones:

1. the reranker's YAML (``settings/rerankers.py``); the user's own YAML, named by its path, is layer 4 over its base,
2. the settings that the chosen checkpoint was trained with (conf/models.yaml), and with ``--rerank.as published``, those in
   which the reranker's publication (its YAML) and the checkpoint's release differ from this package,
3. the limits published for the collection (conf/models.yaml), likewise,
4. ``--rerank.config FILE``,
5. flags.

A null in a layer resets its key to the default that ``settings/schema.py`` declares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pyserini_reasonrank.engines import engine_class, is_without_model
from pyserini_reasonrank.errors import UsageError, nearest, validated
from pyserini_reasonrank.ir.fusion import Fusion
from pyserini_reasonrank.models.auto import Choice, choose
from pyserini_reasonrank.models.catalogue import AUTO
from pyserini_reasonrank.models.kinds import check_kind
from pyserini_reasonrank.settings import files, rerankers
from pyserini_reasonrank.settings.flags import CONFIG, PREFIX
from pyserini_reasonrank.settings.overlay import merge
from pyserini_reasonrank.settings.releases import Presets, presets_for, with_available_texts
from pyserini_reasonrank.settings.schema import (
    SamplingSettings,
    Settings,
    Tree,
    answering_engine,
    local_engine,
)

_SELECTORS = {"judge": "kind", "strategy": "name", "engine": "name", "combine": "name"}
"""The key of each of these mappings that selects which settings the others are."""

MAIN_KEYS = {**_SELECTORS, "fuse": "method"}
"""The key of each mapping that a plain name is meant for: the engine vllm is the engine with the name vllm."""

_OF_EVERY_ARM = frozenset({
    "as", "model", "revision", "adapter", "tokenizer", "max_model_len", "engine", "sampling", "chat_template_args", "bos",
    "passage_tokens", "query_tokens", "passage", "instruction", "on_error",
})  # fmt: skip
_OF_ONE_RERANKER = frozenset({"judge", "strategy", "prompt", "checkpoint", "segments"})
_OF_THE_RUN = frozenset({
    "fuse", "keep", "threshold", "tag", "max_bad", "strict", "overwrite", "docid_blanks", "corpus", "topics", "exclude", "journal",
})  # fmt: skip
_REMOVED = (None, "none")  # a value that removes an arm of a reranker's YAML


@dataclass(frozen=True, slots=True)
class Use:
    """What the settings are for: ``data`` as in ``load``, and ``here``, whether this machine is to run them."""

    data: Sequence[str]
    here: bool


def load(name: str | None, flags: Tree, data: Sequence[str] = (), *, here: bool = True) -> tuple[Settings, list[str]]:
    """The settings of the reranker ``name`` under ``flags``, and warnings to show. UsageError for the first fault.

    ``data`` are the names of index, corpus and topics, by which a collection is recognised. A model ``auto`` that this
    machine can't run is an error; with ``here`` False, for settings of a run on another machine, it is the checkpoint.
    """
    definition = rerankers.definition(name)
    given = {key: value for key, value in flags.items() if key != CONFIG}
    if (file := flags.get(CONFIG)) is not None:
        given = merge(_config(str(file)), given)
    given = merge(definition.given, given)
    if given.get("collection"):
        data = [str(given["collection"])]
    return _load(str(name), definition.own, given, PREFIX, Use(data, here))


def _config(file: str) -> Tree:
    """The settings in the file of ``--rerank.config``. UsageError if it is a reranker, with a base."""
    tree = files.read(file, flag=f"{PREFIX}.{CONFIG}")
    if rerankers.BASE in tree:
        raise UsageError(
            f"{PREFIX}.{CONFIG} {file} is a reranker that starts from {tree[rerankers.BASE]}: pass it with {PREFIX} {file}"
        )
    return tree


def _load(name: str, own: Tree, given: Tree, where: str, use: Use) -> tuple[Settings, list[str]]:
    if merge(own, given).get("combine") is not None:
        return _load_combined(name, own, given, where, use)
    return load_single(name, own, given, where, use, Settings)


def load_single[S: Settings](
    name: str, own: Tree, given: Tree, where: str, use: Use, schema: type[S]
) -> tuple[S, list[str]]:
    """The settings of one reranker, as a ``schema``, and warnings to show. UsageError for the first fault.

    ``own`` is its YAML, ``given`` what the user set, ``where`` the flags' prefix.
    """
    asked = merge(own, given)
    _check_names(asked, where)
    asked = _with_default_selectors(asked)
    kind = str(asked.get("judge", {}).get("kind"))
    choice = _chosen_model(name, asked, kind, where, use)
    model = choice.model
    check_kind(model, kind, name)

    presets = presets_for(name, asked, model, where)
    warnings = presets.lacking(asked, given, where)
    collection, limits = presets.limits(use.data)
    if collection is not None:
        listed = ", ".join(f"{key} {value}" for key, value in limits.items())
        warnings.append(f"collection {collection}: {listed}, as published for {model}, unless a flag sets it")

    tree = dict(own)
    for layer in (*presets.layers(own), limits):
        tree = merge(tree, layer)
    strict = asked.get("as") == "published" and not is_without_model(model)
    if choice.problem is None:  # texts may be downloaded
        tree, more = with_available_texts(tree, own, given, presets.known, model, where, strict=strict)
        warnings += more
    tree = _with_default_selectors(merge(tree, given))
    tree |= {"name": rerankers.label(name), "model": model, "collection": collection or given.get("collection")}
    made = validated(schema, _with_as(tree), where)
    _check_fusion(given, made, where)
    if choice.problem is not None:
        raise UsageError(choice.problem)
    return made, warnings


def _with_as(tree: Tree) -> Tree:
    """``tree`` without a null for ``as``, whose field has another name in the schema."""
    return {key: value for key, value in tree.items() if key != "as" or value is not None}


def _chosen_model(name: str, asked: Tree, kind: str, where: str, use: Use) -> Choice:
    """The model that ``asked`` names, with ``auto`` resolved for engines that load a model. UsageError for an unknown engine."""
    engine = asked.get("engine", {})
    answering = answering_engine(engine)
    if is_without_model(answering):
        return Choice(str(local_engine(engine).get("name")))
    model = str(AUTO if asked.get("model") is None else asked["model"])
    if model != AUTO or answering == "openai":
        return Choice(model)
    here = use.here and (answering == AUTO or engine_class(answering).needs_weights)
    who = rerankers.label(name) if where == PREFIX else f"{rerankers.label(name)} ({where})"
    given = asked.get("max_model_len")
    context = given if isinstance(given, int) else None  # it has not been validated yet
    return choose(who, asked.get("checkpoint"), kind, engine, context=context, adapter=asked.get("adapter"), here=here)


def _load_combined(name: str, own: Tree, given: Tree, where: str, use: Use) -> tuple[Settings, list[str]]:
    """The settings of a combination and of its arms. ``own`` is its YAML, ``given`` what the user set."""
    asked, arms, warnings = merge(own, given), dict[str, Settings](), list[str]()
    if asked.get("as") == "published" and (release := rerankers.published(name)):
        own = merge(own, release.settings)
        asked = merge(own, given)
        warnings += Presets(None, release).lacking(asked, given, where)
    _check_names(asked, where)
    asked = _with_default_selectors(asked)
    if of_one := sorted(_OF_ONE_RERANKER & asked.keys()):
        raise UsageError(f"{where}.{of_one[0]} can't be set for all arms; set {where}.arms.NAME.{of_one[0]}")
    depth = Settings.model_fields["depth"].default if asked.get("depth") is None else asked["depth"]
    for arm in (arm for arm, value in (asked.get("arms") or {}).items() if value not in _REMOVED):
        arms[arm], more = _load_arm(arm, own, given, f"{where}.arms.{arm}", depth, use)
        warnings += [warning for warning in more if warning not in warnings]
    tree = {key: value for key, value in asked.items() if key != "arms"} | {"name": rerankers.label(name)}
    made = validated(Settings, _with_as(tree), where)
    _check_fusion(given, made, where)
    return made.model_copy(update={"arms": arms}), warnings


def _load_arm(arm: str, own: Tree, given: Tree, where: str, depth: Any, use: Use) -> tuple[Settings, list[str]]:
    """The settings of one arm. Its own keys override those for all arms; the user's override the YAML's, except that ``as`` of
    one arm in the YAML overrides ``as`` for all arms.

    An arm that the user gives another reranker inherits from the YAML only what applies to all arms. ``depth`` is
    that of the combination, for a reranker whose YAML has none.
    """
    tree = Tree()
    for layer in (own, given):
        one = _arm_of(layer, arm)
        if one.get("reranker", tree.get("reranker")) != tree.get("reranker"):
            tree = _for_every_arm(own)
        tree = merge(merge(tree, _for_every_arm(layer)), one)
    if (one_as := [one["as"] for layer in (own, given) if "as" in (one := _arm_of(layer, arm))]) and one_as[-1]:
        tree["as"] = one_as[-1]
    if (base := tree.pop("reranker", None)) is None:
        raise UsageError(f"{where}.reranker is required: the name of a reranker, such as reasonrank")
    if of_all := sorted(_OF_THE_RUN & tree.keys()):
        raise UsageError(f"{where}.{of_all[0]} can't be set for one arm; it applies to the whole run")
    definition = rerankers.definition(str(base))
    tree = merge(definition.given, tree)
    tree.setdefault("depth", definition.own.get("depth", depth))
    return _load(str(base), definition.own, tree, where, use)


def _arm_of(layer: Tree, arm: str) -> Mapping[str, Any]:
    """What a layer sets for one arm; {} if nothing, or if it removes the arm."""
    one = (layer.get("arms") or {}).get(arm)
    return one if isinstance(one, Mapping) else {}


def _for_every_arm(layer: Tree) -> Tree:
    return {key: value for key, value in layer.items() if key in _OF_EVERY_ARM}


def _check_fusion(given: Tree, settings: Settings, where: str) -> None:
    """UsageError for a setting of fusion that the user gave, in ``given``, and that the method does not use.

    A method none that is given turns off the fusion of a settings file, whose other settings may stay.
    """
    method, fuse = settings.fuse.method, given.get("fuse")
    if not isinstance(fuse, Mapping) or fuse.get("method") == "none":
        return
    for key, methods in Fusion.USED_BY.items():
        if fuse.get(key) is not None and method not in methods:
            raise UsageError(
                f"{where}.fuse.{key} {fuse[key]} needs {where}.fuse.method {' or '.join(methods)}, not {method}"
            )


def _with_default_selectors(tree: Tree) -> Tree:
    """``tree`` with the nulls of judge, strategy, engine and combine, or of their selectors, set to the defaults."""
    tree = dict(tree)
    for group, selector in _SELECTORS.items():
        default, found = Settings.model_fields[group].default, tree.get(group, {})
        if found is None:
            tree[group] = dict(default)
        elif isinstance(found, Mapping) and found.get(selector, "") is None:
            tree[group] = default | {key: value for key, value in found.items() if key != selector}
    return tree


def _check_names(tree: Tree, where: str) -> None:
    """Refuse what the schema can't, since these mappings are open: a missing last key, a mistyped parameter."""
    for key, main in [*MAIN_KEYS.items(), ("segments", "tokens")]:
        if not isinstance(tree.get(key, {}), Mapping | None):
            raise UsageError(f"{where}.{key} has keys of its own; use {where}.{key}.{main} {tree[key]}")
    arms = tree.get("arms") or {}
    for name, arm in arms.items() if isinstance(arms, dict) else [("NAME", arms)]:
        if not isinstance(arm, dict) and arm not in _REMOVED:
            raise UsageError(f"{where}.arms.{name} has keys of its own; use {where}.arms.{name}.reranker {arm}")
    sampling = tree.get("sampling") or {}
    known = SamplingSettings.model_fields
    for name in map(str, sampling) if isinstance(sampling, dict) else ():
        if name not in known and get_close_matches(name, known, 1, 0.85):
            raise UsageError(f"{where}.sampling.{name} is not known{nearest(name, known)}")
