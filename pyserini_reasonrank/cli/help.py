"""``--help`` for the dotted flags, written from the declared settings so that it can't drift from them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from pyserini_reasonrank.combine import COMBINATIONS
from pyserini_reasonrank.engines import ENGINES, engine_class
from pyserini_reasonrank.judges.registry import JUDGES
from pyserini_reasonrank.orders.fusion import Fusion
from pyserini_reasonrank.settings import layers
from pyserini_reasonrank.settings.schema import SamplingSettings, Settings
from pyserini_reasonrank.strategies import STRATEGIES, options_model

_HIDDEN = {"name", "about"}


def flags_help(command: str) -> str:
    """All ``--rerank`` flags: the general ones, then those of each judge, strategy, combination and engine."""
    lines = [
        f"usage: {command} [flags of the host] --output RUN --rerank NAME [--rerank.KEY VALUE ...]",
        "",
        "Rerank what the host finds with an LLM. Every flag takes one value; --rerank.config FILE holds the same keys as YAML.",
        "",
        "rerankers:",
        *(f"  {name:<14} {layers.reranker(name).get('about', '')}" for name in layers.rerankers()),
        "",
        "--rerank.",
        *_fields(Settings),
        "",
        "--rerank.sampling.  (and any other of vLLM's SamplingParams, for engines that take it)",
        *_fields(SamplingSettings),
    ]
    for kind, judge in JUDGES.items():
        lines += ["", f"--rerank.judge.  (kind {kind})", *_fields(judge.Options)]
    for name, entry in STRATEGIES.items():
        lines += [
            "",
            f"--rerank.strategy.  (name {name}; judges: {', '.join(sorted(entry.judges))})",
            *_fields(options_model(entry.function)),
        ]
    for name, combination in COMBINATIONS.items():
        arms = ", ".join([*sorted(combination.needs), *(f"{arm} if wanted" for arm in sorted(combination.may or ()))])
        lines += [
            "",
            f"--rerank.combine.  (name {name}; arms: {arms or 'any'})",
            *_fields(options_model(combination.function)),
        ]
    lines += ["", "--rerank.fuse.", *_fields(Fusion)]
    for name in ENGINES:
        lines += ["", f"--rerank.engine.  (name {name})", *_fields(engine_class(name).options_class)]
    return "\n".join([*lines, ""])


def _fields(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if name in _HIDDEN and model is Settings:
            continue
        default = "" if field.default in (None, "", {}, ()) else f" [{_short(field.default)}]"
        about = "; ".join(filter(None, (field.description, choices(field.annotation))))
        yield f"  {name:<22} {about or _type(field.annotation)}{default}"


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k}: {v}" for k, v in value.items())
    return "see below" if isinstance(value, BaseModel) else str(value)


def choices(annotation: Any) -> str:
    """The values of a ``Literal``, or of one that may be None or comes in a list; empty for any other type."""
    parts = get_args(annotation)
    if get_origin(annotation) is Literal:
        return " | ".join(map(str, parts))
    return next(filter(None, map(choices, parts)), "")


def _type(annotation: Any) -> str:
    kinds = [kind for kind in get_args(annotation) or [annotation] if kind not in (None, type(None), ...)]
    return " | ".join(getattr(kind, "__name__", str(kind)) for kind in kinds)
