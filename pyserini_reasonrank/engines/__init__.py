"""Engines turn prompts into completions. One interface; each inference library is imported inside its own engine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from importlib import import_module
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from pyserini_reasonrank.engines.identity import loading, weights
from pyserini_reasonrank.errors import UsageError, nearest, validated
from pyserini_reasonrank.models.catalogue import Model
from pyserini_reasonrank.records import Call, Capability, Completion, Prompt, Sampling


class EngineOptions(BaseModel):
    """The settings of an engine, ``--rerank.engine.NAME``. Each engine declares its own on top of these."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    concurrency: Annotated[int, Field(ge=1, description="calls in flight at once, at most")] = 256


class Engine[O: EngineOptions](ABC):
    """An engine for one model. Made cheap; ``start`` loads, ``close`` lets go. Safe for hundreds of calls at once.

    ``generate`` is called from one asyncio loop, but which loop may change between runs: an engine that owns
    loop-bound parts keeps them on a background loop of its own. It never raises for what the model or the server
    did: that is a Completion with ``error``. It raises Failure when the engine itself is gone.
    """

    name: ClassVar[str]
    needs_weights: ClassVar[bool] = False
    options_class: ClassVar[type[EngineOptions]] = EngineOptions

    def __init__(self, model: Model, options: O) -> None:
        self.model = model
        self.options = options
        self.capabilities: frozenset[Capability] = frozenset()

    async def start(self) -> None:
        """Load the model or reach the server. UsageError if that cannot work, Failure if it should have."""

    @abstractmethod
    async def generate(self, prompt: Prompt, sampling: Sampling, call: Call) -> Completion: ...

    def identity(self, call: Call) -> str:
        """What, beside prompt and sampling, decides an answer: the journal's calls are shared where it is equal.

        Asked for after start. Weights loaded here are told by their content. Those that a server holds are told by the
        name it gives them: its address says nothing of them and changes with a restart, so a server that comes to serve
        other weights under the same name needs another journal.
        """
        return self._identity

    @cached_property
    def _identity(self) -> str:
        m = self.model
        held = [m.name, m.source, m.revision, m.adapter]
        if self.needs_weights:
            held = [weights(m.source, m.revision), weights(m.adapter, None) if m.adapter else None]
        return "\n".join(map(str, (self.name, *held, dict(m.chat_template_args), loading(self.options))))

    @property
    def max_model_len(self) -> int | None:
        """Tokens of prompt and output together that the loaded model takes; None if unknown. Valid after start."""
        return self.model.context

    async def close(self) -> None:
        """Free memory, connections, processes."""


ENGINES = {
    "vllm": "pyserini_reasonrank.engines.vllm:VLLM",
    "transformers": "pyserini_reasonrank.engines.transformers:Transformers",
    "openai": "pyserini_reasonrank.engines.openai:OpenAI",
    "recorded": "pyserini_reasonrank.engines.recorded:Recorded",
    "oracle": "pyserini_reasonrank.engines.oracle:Oracle",
    "faulty": "pyserini_reasonrank.engines.faulty:Faulty",
}


def engine_class(name: str) -> type[Engine[Any]]:
    """The engine called ``name``; nothing is loaded. UsageError if there is none."""
    if name not in ENGINES:
        raise UsageError(f"there is no engine {name!r}{nearest(name, ENGINES)}")
    module, attribute = ENGINES[name].split(":")
    found: type[Engine[Any]] = getattr(import_module(module), attribute)
    return found


def build_engine(name: str, settings: Mapping[str, Any], model: Model) -> Engine[Any]:
    """The engine called ``name`` for ``model``, not started. UsageError for a setting it does not know."""
    engine = engine_class(name)
    return engine(model, validated(engine.options_class, settings, "--rerank.engine"))
