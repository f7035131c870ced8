"""Checks whether a model can answer a reranker's questions, from its small files, before its weights are loaded.

If a file is unavailable (the hub does not answer), its check is skipped.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.models.catalogue import Model, shipped_adapter
from pyserini_reasonrank.models.describe import (
    AdapterConfig,
    ChatTemplate,
    ModelConfig,
    read_adapter_config,
    read_chat_template,
    read_config,
)
from pyserini_reasonrank.models.hub import Unreachable
from pyserini_reasonrank.records import Message

_NOT_GENERATIVE = re.compile(r"For(\w*Classification|MaskedLM|QuestionAnswering|MultipleChoice)\Z")
_QUANTIZED = re.compile(r"-(unsloth-)?(bnb-\dbit|awq|gptq.*|fp8|int[48]|gguf)\Z")


@dataclass(frozen=True, slots=True)
class Demand:
    """The needs of a reranker: ``tokens`` of its longest question (see ``least_tokens``), and ``messages`` of a question."""

    reranker: str
    tokens: int
    messages: Sequence[Message]


def check(model: Model, demand: Demand) -> list[str]:
    """Warnings about a model. UsageError, with the reason and a remedy, if the model can't be used."""
    config = _config(model)
    if config is None and (adapter := _adapter_as_model(model)) is not None:
        raise UsageError(
            f"{model.source} is an adapter, which needs its base: set --rerank.model {adapter.base or 'ITS_BASE'} "
            f"--rerank.adapter {model.source}"
        )
    _check_architecture(model, config or ModelConfig())
    _check_context(model, config or ModelConfig(), demand)
    _check_chat_template(model, demand)
    return _check_adapter(model)


def _config(model: Model) -> ModelConfig | None:
    with suppress(Unreachable):
        return read_config(model.source, model.revision)
    return None


def _adapter_as_model(model: Model) -> AdapterConfig | None:
    with suppress(Unreachable):
        return read_adapter_config(model.source, model.revision)
    return None


def _check_architecture(model: Model, config: ModelConfig) -> None:
    for architecture in config.architectures:
        if _NOT_GENERATIVE.search(architecture):
            raise UsageError(
                f"model {model.name} does not generate text (its architecture is {architecture}): choose a model for text "
                "generation with --rerank.model"
            )


def _check_context(model: Model, config: ModelConfig, demand: Demand) -> None:
    own = config.context
    if own is not None and model.context is not None and model.context > own:
        raise UsageError(
            f"model {model.name} has a context of {own} tokens, less than --rerank.max_model_len {model.context}: lower it"
        )
    check_room(model.name, min((n for n in (own, model.context) if n is not None), default=None), demand)


def check_room(name: str, context: int | None, demand: Demand) -> None:
    """UsageError if a question of ``demand`` does not fit the ``context`` of the model ``name``, if that is known."""
    if context is None or demand.tokens <= context:
        return
    raise UsageError(
        f"model {name} has a context of {context} tokens, and {demand.reranker} needs {demand.tokens} for a question and "
        "its answer: show fewer passages per question, or lower --rerank.sampling.max_tokens"
    )


def _check_chat_template(model: Model, demand: Demand) -> None:
    if "chat_template" in model.chat_template_args:
        return
    try:
        template = read_chat_template(model.source, model.revision)
    except Unreachable:
        return
    if template is None:
        raise UsageError(
            f"model {model.name} has no chat template (base models have none): choose an instruction-tuned model, or put the "
            "template it was trained with into its folder as chat_template.jinja"
        )
    if refusal := _refusal(template, demand.messages):
        raise UsageError(
            f"the chat template of {model.name} rejects the prompt of {demand.reranker} ({refusal}): choose another model, or "
            "a prompt with other roles with --rerank.prompt"
        )


def _refusal(template: ChatTemplate, messages: Sequence[Message]) -> str | None:
    """The error that the template raises for these messages; None if it accepts them, or needs its library to render."""
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Refused(Exception):
        pass

    def refuse(message: str) -> None:
        raise Refused(message)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    turns = [{"role": message.role, "content": message.content} for message in messages]
    try:
        compiled = environment.from_string(template.source, globals={"raise_exception": refuse})
        compiled.render(messages=turns, add_generation_prompt=True, **template.special_tokens)
    except Refused as refused:
        return str(refused)
    except Exception:  # tags, filters and variables that only transformers defines
        return None
    return None


def _check_adapter(model: Model) -> list[str]:
    if model.adapter is None or model.adapter == shipped_adapter(model.name):
        return []
    if not Path(model.adapter).is_dir() and (
        model.adapter.count("/") != 1 or model.adapter.startswith((".", "/", "~"))
    ):
        raise UsageError(f"--rerank.adapter {model.adapter} does not exist: name a folder or a hub id (OWNER/NAME)")
    try:
        adapter = read_adapter_config(model.adapter)
    except Unreachable:
        return []
    if adapter is None:
        raise UsageError(f"--rerank.adapter {model.adapter} is not an adapter: it has no adapter_config.json")
    if adapter.peft_type != "LORA":
        raise UsageError(
            f"adapter {model.adapter} is of the unsupported type {adapter.peft_type}; the engines load LoRA adapters"
        )
    if adapter.task_type != "CAUSAL_LM":
        raise UsageError(
            f"adapter {model.adapter} was trained for {adapter.task_type}, not for text generation (CAUSAL_LM)"
        )
    return _compare_bases(model, adapter.base or "")


def _compare_bases(model: Model, trained: str) -> list[str]:
    """Warn, or raise UsageError, if the adapter was trained on a base with another name than ``model``.

    Only names are compared, since a base and its instruct version have the same shape. The name of a folder proves nothing,
    so there a difference is only a warning.
    """
    ours, theirs = (_QUANTIZED.sub("", Path(name).name.lower()) for name in (model.source, trained))
    if not theirs or theirs in (ours, model.name.lower()):
        return []
    difference = f"adapter {model.adapter} was trained on {trained}, not on {model.source}"
    on_the_hub = not Path(model.source).is_dir() and trained.count("/") == 1 and not trained.startswith((".", "/"))
    if on_the_hub and not ours.startswith(theirs) and not theirs.startswith(ours):
        raise UsageError(f"{difference}: set --rerank.model {trained}")
    return [difference]
