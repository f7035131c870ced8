"""Whether a model can answer a reranker's questions at all, from its small files, before its weights are loaded.

A file that can't be had here (a hub that does not answer) decides nothing: the engine will find out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.models.catalogue import Model, known_models
from pyserini_reasonrank.models.hub import Unreachable, model_file
from pyserini_reasonrank.prompts.fitting import FLOOR, TURN, WHOLE, repeats
from pyserini_reasonrank.prompts.template import Template
from pyserini_reasonrank.prompts.tokens import Tokens
from pyserini_reasonrank.records import Message

Json = Mapping[str, Any]

_NOT_GENERATIVE = re.compile(r"For(\w*Classification|MaskedLM|QuestionAnswering|MultipleChoice)\Z")
_QUANTIZED = re.compile(r"-(unsloth-)?(bnb-\dbit|awq|gptq.*|fp8|int[48]|gguf)\Z")


@dataclass(frozen=True, slots=True)
class Demand:
    """What a reranker asks of a model. ``tokens``: as ``least`` counts its longest question. ``messages``: a question."""

    reranker: str
    tokens: int
    messages: Sequence[Message]


def least(
    template: Template,
    tokens: Tokens,
    passages: int,
    output_tokens: int,
    *,
    passage_tokens: int | None = None,
    query_tokens: int | None = None,
) -> int:
    """Tokens that a question about ``passages`` takes with its answer, query and passages cut as far as they may be.

    ``passage_tokens`` and ``query_tokens`` are their own limits, if they have any.
    """
    prompt = template.render("", [""] * passages)
    texts = [*(message.content for message in prompt.messages), prompt.prefill, template.reminder]
    frame = sum(count for _, count in tokens.cut(texts, WHOLE)) + TURN * (len(texts) + 1)
    passage, query = (min(FLOOR, limit or FLOOR) for limit in (passage_tokens, query_tokens))
    return frame + passages * passage + repeats(template) * query + output_tokens


def check(model: Model, demand: Demand) -> list[str]:
    """Warnings about a model that can be used; UsageError for one that can't, with the reason and a remedy."""
    config = _json(model.source, "config.json", model.revision)
    if config is None and (adapter := _json(model.source, "adapter_config.json", model.revision)) is not None:
        base = adapter.get("base_model_name_or_path") or "ITS_BASE"
        raise UsageError(
            f"{model.source} is an adapter, which needs its base: say --rerank.model {base} --rerank.adapter {model.source}"
        )
    _check_architecture(model, config or {})
    _check_context(model, config or {}, demand)
    _check_chat_template(model, demand)
    return _check_adapter(model)


def _check_architecture(model: Model, config: Json) -> None:
    for architecture in config.get("architectures") or ():
        if _NOT_GENERATIVE.search(architecture):
            raise UsageError(
                f"model {model.name} writes no text (it is a {architecture}), and every reranker here reads what a model "
                "writes: name one for text generation with --rerank.model"
            )


def _check_context(model: Model, config: Json, demand: Demand) -> None:
    own = longest(config)
    if own is not None and model.context is not None and model.context > own:
        raise UsageError(
            f"model {model.name} holds {own} tokens, not the {model.context} asked for: lower --rerank.max_model_len"
        )
    check_room(model.name, min((n for n in (own, model.context) if n is not None), default=None), demand)


def check_room(name: str, context: int | None, demand: Demand) -> None:
    """UsageError if the model ``name``, which holds ``context`` tokens where that is known, has no room for a question."""
    if context is None or demand.tokens <= context:
        return
    raise UsageError(
        f"model {name} holds {context} tokens, and {demand.reranker} needs {demand.tokens} for a question and its "
        "answer: show fewer passages at once, or lower --rerank.sampling.max_tokens"
    )


def longest(config: Json) -> int | None:
    """The most tokens a model of this config.json can hold, however its positions are stretched; None if it says none."""
    config = {**config, **config.get("text_config", {})}
    positions = config.get("max_position_embeddings")
    stretch = config.get("rope_parameters") or config.get("rope_scaling") or {}
    return int(positions * max(stretch.get("factor") or 1, 1)) if positions else None


def _check_chat_template(model: Model, demand: Demand) -> None:
    if "chat_template" in model.chat_template_args:
        return
    try:
        template, tokenizer = _chat_template(model)
    except Unreachable:
        return
    if template is None:
        raise UsageError(
            f"model {model.name} has no chat template, as base models have none: name an instruction-tuned model, or put "
            "the template it was trained with into its folder as chat_template.jinja"
        )
    if refusal := _refusal(template, tokenizer, demand.messages):
        raise UsageError(
            f"the chat template of {model.name} takes no prompt like that of {demand.reranker} ({refusal}): "
            "name another model, or a prompt of other turns with --rerank.prompt"
        )


def _chat_template(model: Model) -> tuple[str | None, Json]:
    """The template as text, and tokenizer_config.json. Unreachable where a file that may hold it can't be had."""
    tokenizer = _parse(model_file(model.source, "tokenizer_config.json", model.revision)) or {}
    file = model_file(model.source, "chat_template.jinja", model.revision)
    if file is not None:
        return file.read_text(encoding="utf-8"), tokenizer
    template = tokenizer.get("chat_template")
    if isinstance(template, list):  # several, by name
        template = {entry["name"]: entry["template"] for entry in template}.get("default")
    if template is None:
        older = _parse(model_file(model.source, "chat_template.json", model.revision)) or {}
        template = older.get("chat_template")
    return template, tokenizer


def _refusal(template: str, tokenizer: Json, messages: Sequence[Message]) -> str | None:
    """What the template itself has against these turns; None if nothing, or if it can't be rendered outside its library."""
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Refused(Exception):
        pass

    def refuse(message: str) -> None:
        raise Refused(message)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    turns = [{"role": message.role, "content": message.content} for message in messages]
    try:
        compiled = environment.from_string(template, globals={"raise_exception": refuse})
        compiled.render(messages=turns, add_generation_prompt=True, **_specials(tokenizer))
    except Refused as refused:
        return str(refused)
    except Exception:  # tags, filters and variables that only its library knows
        return None
    return None


def _specials(tokenizer: Json) -> dict[str, str]:
    named = {name: tokenizer.get(name) or "" for name in ("bos_token", "eos_token")}
    return {name: token["content"] if isinstance(token, dict) else token for name, token in named.items()}


def _check_adapter(model: Model) -> list[str]:
    if model.adapter is None or (model.name in known_models() and known_models()[model.name].base == "embedded"):
        return []
    try:
        file = model_file(model.adapter, "adapter_config.json")
    except Unreachable:
        return []
    adapter = _parse(file)
    if adapter is None:
        raise UsageError(
            f"{model.adapter} is no adapter (it has no adapter_config.json): name one with --rerank.adapter"
        )
    kind, task = adapter.get("peft_type", "LORA"), adapter.get("task_type") or "CAUSAL_LM"
    if kind != "LORA":
        raise UsageError(f"adapter {model.adapter} is of type {kind}; the engines load LoRA adapters")
    if task != "CAUSAL_LM":
        raise UsageError(f"adapter {model.adapter} was trained for {task}, not for text generation (CAUSAL_LM)")
    return _compare_bases(model, str(adapter.get("base_model_name_or_path") or ""))


def _compare_bases(model: Model, trained: str) -> list[str]:
    """Names alone are compared (ours is one in `models`, or its source): a folder may be called anything, and a base and its
    instruct version share a shape."""
    ours, theirs = (_QUANTIZED.sub("", Path(name).name.lower()) for name in (model.source, trained))
    if not theirs or theirs in (ours, model.name.lower()):
        return []
    difference = f"adapter {model.adapter} was trained on {trained}, not on {model.source}"
    on_the_hub = not Path(model.source).is_dir() and trained.count("/") == 1 and not trained.startswith((".", "/"))
    if on_the_hub and not ours.startswith(theirs) and not theirs.startswith(ours):
        raise UsageError(f"{difference}: say --rerank.model {trained}")
    return [difference]


def _json(source: str, name: str, revision: str | None) -> Json | None:
    try:
        return _parse(model_file(source, name, revision))
    except Unreachable:
        return None


def _parse(file: Path | None) -> Json | None:
    if file is None:
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{file} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{file} holds no JSON object")
    return content
