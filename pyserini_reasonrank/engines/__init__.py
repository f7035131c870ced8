"""Engines turn prompts into completions. They share one interface; each imports its inference library when it starts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from importlib import import_module
from typing import Annotated, Any, ClassVar, cast

from pydantic import BaseModel, ConfigDict, Field

from pyserini_reasonrank.engines.identity import is_local, loading, weights
from pyserini_reasonrank.errors import UsageError, validated
from pyserini_reasonrank.models.catalogue import Model
from pyserini_reasonrank.plugins import Registry, check_attribute, check_options, check_subclass
from pyserini_reasonrank.records import Call, Capability, Completion, PrefixCache, Prompt, Sampling

DETERMINISTIC = "--rerank.engine.deterministic true"


class EngineOptions(BaseModel):
    """The settings of every engine, ``--rerank.engine.NAME``. Each engine adds its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    concurrency: Annotated[int, Field(ge=1, description="the most calls in flight at once")] = 256
    deterministic: Annotated[
        bool,
        Field(
            description="answers do not depend on the other calls in flight; an engine that can't ensure it is rejected"
        ),
    ] = False


class Engine[O: EngineOptions](ABC):
    """An engine for one model. Construction is cheap; ``start`` loads the model, ``close`` frees it. Safe for hundreds of
    concurrent calls.

    ``generate`` is called from one asyncio loop, which may be another one in the next run: an engine with loop-bound parts
    keeps them on a background loop of its own. A fault of the model or server becomes a Completion with ``error``;
    ``generate`` raises Failure only if the engine itself is gone.
    """

    name: ClassVar[str]
    needs_weights: ClassVar[bool] = False
    """Whether it loads the model in this process."""
    without_model: ClassVar[bool] = False
    """Whether it answers without a model; its name then takes the place of the model's."""
    options_class: ClassVar[type[EngineOptions]] = EngineOptions

    def __init__(self, model: Model, options: O) -> None:
        self.model = model
        self.options = options
        self.capabilities: frozenset[Capability] = frozenset()
        self.notices: list[str] = []
        """Warnings that arise when the engine starts."""

    def require_determinism(self, how: str) -> None:
        """UsageError unless an answer can be made independent of the other calls in flight; ``how`` names the setting."""
        if not self.without_model:
            raise UsageError(
                f"the {self.name} engine can't ensure {how}: leave it out, or use --rerank.engine.name transformers on a CPU"
            )

    @property
    def answering(self) -> Engine[Any]:
        """The engine that answers: this one, or the one that runs in its replicas."""
        return self

    async def start(self) -> None:
        """Load the model or reach the server. UsageError if the settings can't work, Failure if starting failed otherwise."""

    @abstractmethod
    async def generate(self, prompt: Prompt, sampling: Sampling, call: Call) -> Completion:
        """Answer ``prompt``; ``call`` says what it is about, for engines that are not models."""

    def identity(self, call: Call) -> str:
        """Return what decides an answer beside prompt and sampling. Calls with equal identities share answers in the journal.

        Valid after start. Weights loaded here are identified by their content, weights on a server by the name it gives
        them, since its address changes with a restart. A server that starts to serve other weights under the same name
        therefore needs another journal.
        """
        return self._identity

    @cached_property
    def _identity(self) -> str:
        m = self.model
        loaded = [m.name, m.source, m.revision, m.adapter]
        if self.needs_weights:
            loaded = [weights(m.source, m.revision), weights(m.adapter, None) if m.adapter else None]
        bos = ("bos",) if m.bos else ()
        return "\n".join(map(str, (self.name, *loaded, dict(m.chat_template_args), loading(self.options), *bos)))

    def weights_identity(self) -> str | None:
        """``identity`` of weights that are on this machine, also before start; None for other engines, as it is not yet known."""
        if not self.needs_weights:
            return None
        sources = [(self.model.source, self.model.revision), (self.model.adapter, None)]
        here = all(source is None or is_local(source, revision) for source, revision in sources)
        return self._identity if here else None

    def resume(self, context: int) -> None:
        """Take ``max_model_len`` from an earlier run with the same weights, so that prompts can be written before start."""
        self._context: int | None = context

    @property
    def max_model_len(self) -> int | None:
        """The loaded model's limit on tokens of prompt and output together; None if unknown. Valid after start."""
        return self.model.context

    async def prefix_cache(self) -> PrefixCache | None:
        """What the servers counted since start, of all their clients; None if they count nothing. Raises no errors."""
        return None

    async def close(self) -> None:
        """Free memory, connections, processes."""


ENGINES = {
    "vllm": "pyserini_reasonrank.engines.vllm:VLLM",
    "transformers": "pyserini_reasonrank.engines.transformers:Transformers",
    "openai": "pyserini_reasonrank.engines.openai:OpenAI",
    "ray": "pyserini_reasonrank.engines.ray:Ray",
    "recorded": "pyserini_reasonrank.engines.recorded:Recorded",
    "oracle": "pyserini_reasonrank.engines.oracle:Oracle",
    "faulty": "pyserini_reasonrank.engines.faulty:Faulty",
}
"""Our engines by name: module and class."""


def engine_class(name: str) -> type[Engine[Any]]:
    """Return the class of the engine called ``name``; no library is loaded. UsageError for an unknown name."""
    return ENGINE_PARTS.get(name)


def is_without_model(name: str) -> bool:
    """Whether ``name`` is an engine that answers without a model."""
    return name in ENGINE_PARTS and engine_class(name).without_model


def _own(name: str) -> type[Engine[Any]]:
    module, attribute = ENGINES[name].split(":")
    found: type[Engine[Any]] = getattr(import_module(module), attribute)
    return found


def _checked(name: str, found: Any) -> type[Engine[Any]]:
    """The engine class of another package. Unsuitable unless it can be used as ours are."""
    check_subclass(found, Engine, "class Mine(Engine[EngineOptions])")
    check_attribute(found, "name", name)
    check_options(found, "options_class", EngineOptions, "name")
    return cast(type[Engine[Any]], found)


ENGINE_PARTS = Registry("engine", "engines", lambda: ENGINES, _own, _checked)
"""Our engines and those that other packages register in the entry-point group ``pyserini_reasonrank.engines``."""


def build_engine(name: str, settings: Mapping[str, Any], model: Model) -> Engine[Any]:
    """Make the engine called ``name`` for ``model`` without starting it.

    UsageError for an unknown setting, and for ``deterministic`` if the engine is known not to ensure it.
    """
    part = engine_class(name)
    options = validated(part.options_class, settings, "--rerank.engine", f"the {name} engine")
    engine = part(model, options)
    if options.deterministic:
        engine.require_determinism(DETERMINISTIC)
    return engine
