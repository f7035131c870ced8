"""Resolves ``--rerank.model``, a hub id, a folder or a name in conf/models.yaml, to a model that an engine can load."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from pyserini_reasonrank.errors import UsageError, nearest
from pyserini_reasonrank.models.memory import Need, memory_needed
from pyserini_reasonrank.resources import conf, parse_yaml

AUTO = "auto"
EMBEDDED = "smollm2-135m"
EMBEDDED_SOURCE = "embedded"


@dataclass(frozen=True, slots=True)
class Model:
    """A model an engine can load.

    ``source`` is a folder or a hub id, ``adapter`` a LoRA folder or hub id. ``context`` is the limit on tokens of prompt and
    output together, None if it is unknown until the model is loaded. ``chat_template_args`` are variables of the chat
    template (e.g. ``enable_thinking``). ``bos``: prompts begin with the tokenizer's BOS token.
    """

    name: str
    source: str
    revision: str | None = None
    adapter: str | None = None
    context: int | None = None
    chat_template_args: Mapping[str, Any] = field(default_factory=dict)
    bos: bool = False


class Published(BaseModel):
    """What a release does otherwise than this package by default: the part ``published`` of an entry of conf/models.yaml, or
    of a reranker's YAML for what does not depend on the model.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    settings: Annotated[dict[str, Any], Field(description="reranker settings")] = {}
    needs: Annotated[
        dict[str, str],
        Field(description="keys that the user has to set, since the release does not have them; and why"),
    ] = {}
    lacks: Annotated[str, Field(description="what of the release is unavailable, and what is used instead")] = ""
    collections: Annotated[
        dict[str, dict[str, Any]], Field(description="settings that differ for a collection, by a word in its name")
    ] = {}


class Known(BaseModel):
    """The schema of an entry of conf/models.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    about: str
    source: Annotated[str, Field(description="hub id, 'embedded', or adapters/NAME of this package")]
    revision: str | None = None
    base: Annotated[str | None, Field(description="for an adapter: its base model, or 'embedded'")] = None
    licence: str = ""
    parameters: Annotated[
        float, Field(description="billions, for an adapter those of its base; quantized weights: half their GB")
    ]
    cache: Annotated[int, Field(description="bytes of keys and values per token (bf16)")]
    context: int | None = None
    kind: Annotated[str | None, Field(description="the judge kind that it was trained for, if only one")] = None
    reranker: Annotated[str | None, Field(description="the reranker or rewriter it was published with")] = None
    chat_template_args: dict[str, Any] = {}
    fallback: Annotated[
        str | None, Field(description="our prompt, if its own is unavailable [that of the reranker]")
    ] = None
    settings: Annotated[
        dict[str, Any], Field(description="reranker settings that this checkpoint was trained with")
    ] = {}
    collections: Annotated[
        dict[str, dict[str, Any]], Field(description="settings that differ for a collection, by a word in its name")
    ] = {}
    published: Annotated[
        Published | None, Field(description="for a release: what --rerank.as published changes in the settings above")
    ] = None

    def needs(self, context: int | None = None, arguments: Mapping[str, Any] | None = None) -> Need:
        """Return the memory that it needs; ``arguments`` are those of the engine."""
        context = context or self.context
        return memory_needed(self.parameters, context=context, cache=self.cache, arguments=arguments)

    def brings(self, own: Mapping[str, Any]) -> dict[str, Any]:
        """Return its settings for a reranker with the settings ``own``; those of a strategy only if it is the same one."""
        return _suited(self.settings, own)

    def released(self, own: Mapping[str, Any]) -> dict[str, Any]:
        """Return what ``--rerank.as published`` changes in ``brings``; {} without a release."""
        return _suited(self.published.settings, own) if self.published else {}


def _suited(settings: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``settings``, without a strategy that is not the one of ``own``."""
    strategies = [tree.get("strategy", {}).get("name") for tree in (settings, own)]
    return {k: v for k, v in settings.items() if k != "strategy" or strategies[0] == strategies[1]}


@cache
def known_models() -> Mapping[str, Known]:
    """Return the checkpoints of conf/models.yaml by name."""
    data = parse_yaml(conf("models.yaml").read_text(encoding="utf-8"), "conf/models.yaml")
    return {name: Known.model_validate(entry) for name, entry in data.items()}


def entry(name: str, adapter: str | None = None, kind: str | None = None) -> str | None:
    """Return the name in conf/models.yaml of the model ``name`` with ``adapter``.

    ``name`` is a name there, or the hub id of the weights (for an adapter: its hub id, or that of its base together with
    ``adapter``). With ``kind``, a hub id is found for questions of this kind only: under its hub id, a checkpoint can be
    used for other questions. None if there is no such entry, or several.
    """
    if name in known_models():
        return name
    if "/" not in name or Path(name).is_dir():
        return None
    found = [
        own
        for own, known in known_models().items()
        if (name, adapter) in ((known.source, None), (known.base, known.source)) and known.base != EMBEDDED_SOURCE
        if None in (kind, known.kind) or kind == known.kind
    ]
    return found[0] if len(found) == 1 else None


def resolve(name: str, *, revision: str | None, adapter: str | None, context: int | None) -> Model:
    """Return the model called ``name``. The existence of a hub id is not checked.

    UsageError for a name that is neither a known model, nor a folder, nor a hub id.
    """
    if Path(name).is_dir():
        return Model(name, str(Path(name)), revision, adapter, context)
    known = known_models().get(name)
    if known is None:
        if "/" not in name or name.startswith(("/", ".", "~")):
            raise UsageError(
                f"there is no model {name!r}: it is neither a folder nor a hub id{nearest(name, known_models())}"
            )
        return Model(name, name, revision, adapter, context)
    source = known.source
    if known.base is not None:
        source, adapter = known.base, adapter or _folder_if_shipped(known.source)
    if source == EMBEDDED_SOURCE:
        from pyserini_reasonrank.models.embedded import ensure_embedded

        source = str(ensure_embedded(None, progress=True))
    return Model(name, source, revision or known.revision, adapter, context or known.context, known.chat_template_args)


def shipped_adapter(name: str) -> str | None:
    """Return the folder of the adapter of the known model ``name`` if it comes with the package."""
    known = known_models().get(name)
    if known is None or known.base is None:
        return None
    folder = _folder_if_shipped(known.source)
    return folder if folder != known.source else None


def _folder_if_shipped(source: str) -> str:
    """Return the folder of an adapter that comes with the package; other sources unchanged."""
    folder = Path(__file__).parent / source
    return str(folder) if folder.is_dir() else source
