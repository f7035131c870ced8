"""The policy: tokenizer, model and adapter, loaded in the same way for every trainer."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from pyserini_reasonrank.engines.chat import Chat
from pyserini_reasonrank.errors import UsageError, message_of, nearest
from pyserini_reasonrank.models.catalogue import Model, resolve
from pyserini_reasonrank.models.describe import ModelConfig, read_adapter_config
from pyserini_reasonrank.train.folder import BASE, main_process, read_record
from pyserini_reasonrank.train.settings import Lora, PolicySettings, TrainerSettings


@dataclass(frozen=True, slots=True)
class Policy:
    """A loaded policy. ``model`` includes the starting adapter; ``peft_config`` is the new adapter to add, or None."""

    name: str
    base: str
    model: Any
    tokenizer: Any
    chat: Chat
    context: int
    peft_config: Any | None


def load(settings: PolicySettings) -> Policy:
    """Load tokenizer and weights. UsageError if the model can't be loaded or has no chat template.

    The chat template arguments are saved in the tokenizer's template, so a served model gets the prompts it was trained
    on. Telemetry to the Hugging Face hub is switched off, which TRL's trainers would send.
    """
    import datasets
    from huggingface_hub import constants
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging as chatter

    constants.HF_HUB_DISABLE_TELEMETRY = True
    datasets.disable_progress_bars()
    chatter.disable_progress_bar()
    found = _found(settings)
    base = settings.output / BASE if isinstance(settings, TrainerSettings) and settings.lora is not None else None
    # without a record, the base could belong to another run
    if base is not None and base.is_dir() and read_record(base.parent) is not None:
        found = replace(found, source=str(base.resolve()), revision=None, adapter=None)
    try:
        tokenizer = AutoTokenizer.from_pretrained(found.source, revision=found.revision)
        arguments = {"dtype": "float32", **settings.model_args}
        model: Any = AutoModelForCausalLM.from_pretrained(found.source, revision=found.revision, **arguments)
    except (OSError, ValueError, TypeError, ImportError) as error:
        raise UsageError(f"{settings.model} can't be loaded for training: {message_of(error)}") from error
    if tokenizer.chat_template is None:
        raise UsageError(f"the tokenizer of {settings.model} has no chat template: name an instruction-tuned model")
    tokenizer.chat_template = template(tokenizer.chat_template, found.chat_template_args)
    if found.adapter is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, found.adapter, is_trainable=settings.lora is None)
        if settings.lora is not None:
            model = _merged(model)
        if base is not None:
            _keep(model, tokenizer, base)
    contexts = [n for n in (found.context, ModelConfig.of_loaded(model.config).positions) if n is not None]
    if not contexts:
        raise UsageError(f"the context of {settings.model} is unknown: its config.json has no max_position_embeddings")
    return Policy(
        settings.model,
        found.source,
        model,
        tokenizer,
        Chat(tokenizer, found),
        min(contexts),
        None if settings.lora is None else _peft_config(settings.lora, model),
    )


def arguments(kind: type[Any], given: dict[str, Any], **own: Any) -> Any:
    """TRL's configuration of class ``kind``: ``given`` (a recipe's ``args``) over defaults for this device.

    ``own`` are the arguments that the step sets itself. UsageError for a name or value that TRL rejects.
    """
    import torch

    accelerated = torch.accelerator.current_accelerator(check_available=True) is not None
    known = [field.name for field in fields(kind)]
    for name in given:
        if name not in known:
            raise UsageError(f"args.{name} is not a setting of TRL's {kind.__name__}{nearest(name, known)}")
        if name in own:
            raise UsageError(f"args.{name} is set by the step itself: remove it from args")
    defaults = {"report_to": "none", "logging_steps": 1, "logging_nan_inf_filter": False, "save_total_limit": 2,
                "bf16": accelerated, "use_cpu": not accelerated, "gradient_checkpointing": accelerated,
                "disable_tqdm": not sys.stderr.isatty()}  # fmt: skip
    try:
        return kind(**{**defaults, **given, **own})
    except (TypeError, ValueError) as error:
        raise UsageError(f"TRL's {kind.__name__} rejects these args: {' '.join(str(error).split())}") from error


def template(own: str, arguments: Mapping[str, Any]) -> str:
    """The chat template (``own``, or the one in ``arguments``) with the other arguments as defaults of its variables."""
    given = dict(arguments)
    text = str(given.pop("chat_template", own))
    return "".join(f"{{%- set {name} = {name} | default({value!r}) -%}}" for name, value in given.items()) + text


def _merged(model: Any) -> Any:
    if any(hasattr(parameter, "ds_id") for parameter in model.parameters()):
        raise UsageError(
            "ZeRO-3 partitions the weights, so no adapter can be merged into them: merge it before, with `train export`"
        )
    return model.merge_and_unload()


def _keep(model: Any, tokenizer: Any, folder: Path) -> None:
    """Save the merged weights as the base of the new adapter, and have PEFT record that base."""
    if main_process():
        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    model.name_or_path = str(folder.resolve())


def _found(settings: PolicySettings) -> Model:
    """The model; for a folder with only an adapter, its base with that adapter."""
    name, adapter = settings.model, settings.adapter
    own_adapter = read_adapter_config(name) if Path(name).is_dir() else None
    if own_adapter is not None:
        if adapter is not None:
            raise UsageError(
                f"{name} is itself an adapter, so --adapter {adapter} can't be added: merge it first, with `train export`"
            )
        if own_adapter.base is None:
            raise UsageError(f"{name}/adapter_config.json does not name its base: set base_model_name_or_path there")
        name, adapter = own_adapter.base, name
    found = resolve(name, revision=settings.revision, adapter=adapter, context=None)
    own = {**found.chat_template_args, **settings.chat_template_args}
    return Model(settings.model, found.source, found.revision, found.adapter, found.context, own)


def _peft_config(lora: Lora, model: Any) -> Any:
    from peft import LoraConfig

    layers = model.config.get_text_config().num_hidden_layers
    if lora.first_layer >= layers:
        raise UsageError(f"lora.first_layer {lora.first_layer} leaves no layer to train: the model has {layers} layers")
    pattern = {}
    if lora.prilora is not None:
        by_layer = lora.prilora.ranks(layers)
        pattern = {rf"layers\.{layer}\..*": rank for layer, rank in enumerate(by_layer)}
    scale = lora.alpha / lora.r
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.targets,
        exclude_modules=rf".*\.layers\.({'|'.join(map(str, range(lora.first_layer)))})\..*"
        if lora.first_layer
        else None,
        rank_pattern=pattern,
        alpha_pattern={layer: scale * rank for layer, rank in pattern.items()},
    )
