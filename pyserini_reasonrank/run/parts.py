"""Plans: single and combined rerankers, with validated parts. Nothing is loaded yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pyserini_reasonrank.combine import CombinationEntry
from pyserini_reasonrank.combine.combined import joined
from pyserini_reasonrank.engines import Engine
from pyserini_reasonrank.judges import Judge
from pyserini_reasonrank.prompts.template import Template
from pyserini_reasonrank.prompts.tokens import Tokens
from pyserini_reasonrank.run.build import tokens_for
from pyserini_reasonrank.settings.schema import Settings
from pyserini_reasonrank.strategies import StrategyEntry

if TYPE_CHECKING:
    from pyserini_reasonrank.run.cost import Cost


class _Common:
    """The properties that both kinds of plan derive from their parts."""

    settings: Settings
    parts: Mapping[str, SinglePlan]

    @property
    def engines(self) -> list[Engine[Any]]:
        """The engines, each once, in the order of the parts."""
        return list({id(part.engine): part.engine for part in self.parts.values()}.values())

    @property
    def tag(self) -> str:
        """The run tag."""
        return self.settings.run_tag(*dict.fromkeys(part.engine.model.name for part in self.parts.values()))


@dataclass(frozen=True, eq=False)
class SinglePlan(_Common):
    """One reranker: a judge and a strategy with its ``options``, over an engine that has not started.

    ``candidates`` is the maximum per query, if it is known. ``costs`` and the tokenizers are caches, which
    ``dataclasses.replace`` keeps.
    """

    settings: Settings
    template: Template
    judge: Judge
    strategy: StrategyEntry
    options: Mapping[str, Any]
    engine: Engine[Any]
    warnings: tuple[str, ...] = ()
    candidates: int | None = None
    costs: dict[int, Cost] = field(default_factory=dict, repr=False)
    _tokenizers: dict[str, tuple[Tokens, tuple[str, ...]]] = field(default_factory=dict, repr=False)

    @property
    def parts(self) -> Mapping[str, SinglePlan]:  # type: ignore[override]
        """Itself, under the name ""."""
        return {"": self}

    @property
    def tokens(self) -> Tokens:
        """The tokenizer of the engine's model. A server may name its model only once the engine has started."""
        return self._tokenizer[0]

    @property
    def token_warnings(self) -> tuple[str, ...]:
        """The warnings about that tokenizer."""
        return self._tokenizer[1]

    @property
    def _tokenizer(self) -> tuple[Tokens, tuple[str, ...]]:
        model = self.engine.model
        if model.source not in self._tokenizers:
            self._tokenizers[model.source] = tokens_for(self.settings, model)
        return self._tokenizers[model.source]

    @property
    def context(self) -> int | None:
        """The context length in tokens from the settings and the engine; None as long as it is unknown."""
        known = (self.settings.max_model_len, self.engine.max_model_len)
        return min((n for n in known if n is not None), default=None)

    def output_tokens(self, widest: int) -> int:
        """The maximum number of tokens of an answer about ``widest`` passages."""
        return self.settings.sampling.max_tokens + self.judge.answer_tokens(widest)


@dataclass(frozen=True, eq=False)
class CombinedPlan(_Common):
    """Rerankers by name (``arms``) and the combination that calls them."""

    settings: Settings
    combination: CombinationEntry
    options: Mapping[str, Any]
    arms: Mapping[str, Plan]
    warnings: tuple[str, ...] = ()
    candidates: int | None = None
    costs: dict[int, Cost] = field(default_factory=dict, repr=False)

    @property
    def parts(self) -> Mapping[str, SinglePlan]:  # type: ignore[override]
        """The single rerankers in it, by path: "small", "large/ranker"."""
        return {joined(name, path): part for name, arm in self.arms.items() for path, part in arm.parts.items()}


type Plan = SinglePlan | CombinedPlan
