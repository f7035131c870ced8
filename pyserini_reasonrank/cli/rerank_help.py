"""The help on ``--rerank`` and its dotted flags, written from the declared settings."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from pyserini_reasonrank.engines import EngineOptions
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.judges import Judge
from pyserini_reasonrank.judges.rewrite import Rewrite
from pyserini_reasonrank.resources import dump_yaml
from pyserini_reasonrank.run.known_flags import GENERAL_SKIPPED, OptionGroup, option_groups, unusable
from pyserini_reasonrank.settings import rerankers, rewriters
from pyserini_reasonrank.settings.flags import CONFIG, PREFIX
from pyserini_reasonrank.settings.help import setting_lines
from pyserini_reasonrank.settings.overlay import merge
from pyserini_reasonrank.settings.rewriters import RewriteSettings
from pyserini_reasonrank.settings.schema import Settings, Tree, answering_engine

HELP = {"-h", "--help"}
HELP_ALL = "--help-all"
USUAL_ENGINES = ("vllm", "transformers", "openai")
"""The engines of which auto may choose one, or that a user usually names."""

_OTHER = {
    CONFIG: "YAML file with any of these keys; flags override it",
    "sampling.OTHER": "any other of vLLM's SamplingParams, for engines that support it",
}


def asks_for_help(words: Sequence[str]) -> bool:
    """Whether a command line asks for help, on a reranker or on all flags."""
    return not (HELP | {HELP_ALL}).isdisjoint(words)


def add_rerank_flags(parser: argparse.ArgumentParser) -> None:
    """Show ``--rerank`` among the flags of a command. ``flags.lift`` takes it out before the parser sees it."""
    group = parser.add_argument_group("reranker")
    group.add_argument(f"{PREFIX}", metavar="NAME", help="the reranker; with --help, its settings")
    group.add_argument(f"{PREFIX}.KEY", metavar="VALUE", dest="_key", help="a setting of it; --help-all lists them all")


def printed_help(parser: argparse.ArgumentParser, name: str | None, tree: Tree, words: Sequence[str]) -> bool:
    """Print the help on a command and on the reranker ``name`` under the flags ``tree``, if ``words`` ask for it.

    Returns whether they do. UsageError for a ``--rerank`` without a name.
    """
    if asks_for_help(words):
        parser.print_help()
        print(f"\n{flags_help(name, tree, everything=HELP_ALL in words)}")
        return True
    if PREFIX in words:
        raise rerankers.without_name()
    return False


def search_help(
    command: str,
    name: str | None = None,
    tree: Tree | None = None,
    *,
    everything: bool = False,
    rewriter: str | None = None,
) -> str:
    """The help on a search command of Pyserini with ``--rerank`` or ``--rewrite``, without Pyserini's own flags.

    If only a ``rewriter`` is named, the reranker's flags are left out. UsageError if there is none of that name.
    """
    both = everything or name is not None or rewriter is None
    return "\n".join([
        f"usage: {command} [Pyserini's flags] --output RUN --rerank NAME [--rerank.KEY VALUE ...]",
        "                 [--rewrite NAME [--rewrite.KEY VALUE ...]]",
        "",
        "Search with Pyserini and rerank the run with an LLM. --rewrite: an LLM writes the queries to search with before.",
        "",
        "examples:",
        f"  {command} --index INDEX --topics TOPICS --bm25 --output run.txt --rerank upr",
        f"  {command} --index INDEX --topics TOPICS --bm25 --output run.txt --rerank reasonrank \\",
        "      --rerank.engine.name openai --rerank.engine.base_url http://localhost:8000/v1 --rerank.depth 50",
        f"  {command} --index INDEX --topics TOPICS --bm25 --output run.txt --rewrite keywords --rerank upr",
        *(["", flags_help(name, tree, everything=everything)] if both else []),
        "",
        rewrite_help(rewriter),
    ])  # fmt: skip


def rewrite_help(name: str | None = None) -> str:
    """The ``--rewrite`` flags, and the settings of the rewriter ``name``. UsageError if there is none of that name."""
    tree = dict(rewriters.read(name)) if name else {}
    about = tree.pop("about", "")
    own = [f"{name}: {about}", *(f"  {line}" for line in dump_yaml(tree).splitlines()), ""] if name else []
    return "\n".join([
        *own,
        "rewriters (--rewrite NAME):",
        *_columns({each: str(rewriters.read(each).get("about", "")) for each in rewriters.names()}),
        f"  or the path of a YAML file that starts from one of them ({rewriters.BASE}: NAME)",
        "",
        "settings of a rewriter (engines are those of --rerank.engine):",
        *setting_lines(RewriteSettings, f"{rewriters.PREFIX}.", skip=[*GENERAL_SKIPPED, *rewriters.OF_RERANKERS],
                       more={CONFIG: _OTHER[CONFIG]}),
        *setting_lines(Rewrite.Options, f"{rewriters.PREFIX}.judge.", skip=_NOT_OF_REWRITES),
    ])  # fmt: skip


_NOT_OF_REWRITES = ("shuffle", "seed", "votes", "constrain")
"""Settings of judges that a rewriter does not have."""


def flags_help(name: str | None = None, tree: Tree | None = None, *, everything: bool = False) -> str:
    """The ``--rerank`` flags that the reranker ``name`` uses, under the other flags ``tree``; ``everything``: all flags.

    Without a name, all flags too. UsageError if there is no reranker of that name.
    """
    if everything or name is None:
        lines, groups = _rerankers(), list(option_groups())
    else:
        own = merge(rerankers.read(name), tree or {})
        lines = _own(name)
        groups = list(option_groups({key: _used(own, key) for key in ("judge", "strategy", "combine", "engine")}))
    lines += ["", *_general()]
    for key in dict.fromkeys(group.key for group in groups):
        lines += _sections([group for group in groups if group.key == key])
    if everything or name is None:
        lines += ["", *(f"warning: {reason}" for reason in found)] if (found := unusable()) else []
    note = f"{PREFIX} NAME --help shows the settings that NAME uses, {HELP_ALL} those of all rerankers."
    return "\n".join([*lines, "", note])


def _rerankers() -> list[str]:
    return [
        "rerankers (--rerank NAME):",
        *_columns({name: _about(name) for name in rerankers.names()}),
        f"  or the path of a YAML file that starts from one of them ({rerankers.BASE}: NAME)",
    ]


def _about(name: str) -> str:
    """The description of a reranker; of one of another package that can't be used, the reason."""
    try:
        return str(rerankers.read(name).get("about", ""))
    except UsageError as error:
        return str(error)


def _general() -> list[str]:
    return [
        "settings (each flag takes one value; null resets a key to its default):",
        *setting_lines(Settings, f"{PREFIX}.", skip=GENERAL_SKIPPED, more=_OTHER),
    ]


def _own(name: str) -> list[str]:
    """What a reranker is, and the settings of its YAML."""
    tree = dict(rerankers.read(name))
    about = tree.pop("about", "")
    return [
        f"{name}: {about}" if about else name,
        "",
        f"its settings, where they differ from the defaults ({PREFIX}.KEY.SUB for nested keys):",
        *(f"  {line}" for line in dump_yaml(tree).splitlines()),
    ]


def _used(tree: Mapping[str, Any], key: str) -> Collection[str]:
    """The names of ``key`` that a reranker uses, with those of its arms."""
    selector = "kind" if key == "judge" else "name"
    names = set()
    for each in _with_arms(tree):
        found = each.get(key) or {}
        if key == "combine" and not found:
            continue
        default = (Settings.model_fields[key].default or {}).get(selector)
        selected = found.get(selector, default) if isinstance(found, Mapping) else default
        if selected is not None and not (key in ("judge", "strategy") and each.get("combine")):
            names.add(str(selected))
        if key == "engine" and selected == "ray":
            names.add(answering_engine(found))
    return set(USUAL_ENGINES) if names == {"auto"} else names


def _with_arms(tree: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The settings of a reranker and of the rerankers in its arms."""
    yield tree
    for arm in (tree.get("arms") or {}).values():
        if isinstance(arm, Mapping) and (base := arm.get("reranker")) is not None:
            yield from _with_arms(merge(rerankers.read(str(base)), {k: v for k, v in arm.items() if k != "reranker"}))


_SHARED: Mapping[str, type[BaseModel]] = {"judge": Judge.Options, "engine": EngineOptions}
"""The settings that all judges or all engines share."""


def _sections(groups: Sequence[OptionGroup]) -> list[str]:
    """The settings that all judges or all engines share, once; then the others of each group."""
    key = groups[0].key
    base = _SHARED.get(key)
    lines = _section(key, "(all)", base) if base else []
    for group in groups:
        title = f"{group.name} ({group.note})" if group.note else group.name
        same = [name for name in base.model_fields if _same(name, base, group.model)] if base else []
        lines += _section(key, title, group.model, skip=same)
    return lines


def _section(key: str, title: str, model: type[BaseModel], skip: Collection[str] = ()) -> list[str]:
    lines = setting_lines(model, f"{PREFIX}.{key}.", skip=skip)
    return ["", f"{key} {title}:", *(lines or ["  (no settings of its own)"])]


def _same(key: str, one: type[BaseModel], other: type[BaseModel]) -> bool:
    return repr(one.model_fields[key]) == repr(other.model_fields.get(key))


def _columns(rows: Mapping[str, str]) -> list[str]:
    width = max(map(len, rows))
    return [f"  {name:<{width}}  {about}" for name, about in rows.items()]
