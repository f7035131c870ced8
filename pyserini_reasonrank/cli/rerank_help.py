"""The help on ``--rerank`` and its dotted flags, written from the declared settings."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pydantic import BaseModel

from pyserini_reasonrank.combine import COMBINATIONS
from pyserini_reasonrank.engines import ENGINES, engine_class
from pyserini_reasonrank.judges.registry import JUDGES
from pyserini_reasonrank.settings import rerankers
from pyserini_reasonrank.settings.flags import CONFIG, PREFIX
from pyserini_reasonrank.settings.help import setting_lines
from pyserini_reasonrank.settings.schema import Settings
from pyserini_reasonrank.strategies import STRATEGIES, options_model

_OTHER = {
    CONFIG: "YAML file with any of these keys; flags override it",
    "sampling.OTHER": "any other of vLLM's SamplingParams, for engines that support it",
}


def search_help(command: str) -> str:
    """The help on a search command of Pyserini with ``--rerank``, without Pyserini's own flags."""
    return "\n".join([
        f"usage: {command} [Pyserini's flags] --output RUN --rerank NAME [--rerank.KEY VALUE ...]",
        "",
        "Search with Pyserini and rerank the run with an LLM.",
        "",
        "examples:",
        f"  {command} --index INDEX --topics TOPICS --bm25 --output run.txt --rerank reasonrank",
        f"  {command} --index INDEX --topics TOPICS --bm25 --output run.txt --rerank reasonrank \\",
        "      --rerank.engine.name openai --rerank.engine.base_url http://localhost:8000/v1 --rerank.depth 50",
        "",
        flags_help(),
    ])  # fmt: skip


def flags_help() -> str:
    """All ``--rerank`` flags: the general ones, then those of each judge, strategy, combination and engine."""
    lines = [
        "rerankers (--rerank NAME):",
        *_columns({name: str(rerankers.read(name).get("about", "")) for name in rerankers.names()}),
        "",
        "settings (each flag takes one value; null resets a key to its default):",
        *setting_lines(Settings, f"{PREFIX}.", skip=("name", "about"), more=_OTHER),
    ]
    lines += _sections("judge", {name: judge.Options for name, judge in JUDGES.items()})
    for name, entry in STRATEGIES.items():
        title = f"{name} (judges: {', '.join(sorted(entry.judges))})"
        lines += _section("strategy", title, options_model(entry.function))
    for name, combination in COMBINATIONS.items():
        arms = [*sorted(combination.needs), *(f"optionally {arm}" for arm in sorted(combination.may or ()))]
        lines += _section("combine", f"{name} (arms: {', '.join(arms) or 'any'})", options_model(combination.function))
    lines += _sections("engine", {name: engine_class(name).options_class for name in ENGINES})
    return "\n".join(lines)


def _sections(group: str, models: Mapping[str, type[BaseModel]]) -> list[str]:
    """The keys that all ``models`` share, once; then the others of each."""
    first, *others = models.values()
    shared = [key for key in first.model_fields if all(_same(key, first, other) for other in others)]
    lines = _section(group, "(all)", first, skip=set(first.model_fields) - set(shared))
    for name, model in models.items():
        lines += _section(group, name, model, skip=shared)
    return lines


def _section(group: str, title: str, model: type[BaseModel], skip: Collection[str] = ()) -> list[str]:
    lines = setting_lines(model, f"{PREFIX}.{group}.", skip=skip)
    return ["", f"{group} {title}:", *(lines or ["  (no settings of its own)"])]


def _same(key: str, one: type[BaseModel], other: type[BaseModel]) -> bool:
    return repr(one.model_fields[key]) == repr(other.model_fields.get(key))


def _columns(rows: Mapping[str, str]) -> list[str]:
    width = max(map(len, rows))
    return [f"  {name:<{width}}  {about}" for name, about in rows.items()]
