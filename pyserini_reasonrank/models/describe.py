"""The one reader of a model's small files: config.json, adapter_config.json, the chat template.

``source`` is a folder or a hub id everywhere. A function returns None where the model does not have the file, and raises
:class:`~pyserini_reasonrank.models.hub.Unreachable` where only an unreachable hub could answer, never for a folder.
UsageError names a file that is not a JSON object.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.models.hub import model_file

Json = Mapping[str, Any]

_SHAPE = ("num_hidden_layers", "hidden_size", "num_attention_heads")
_FIELDS = (
    *_SHAPE,
    "architectures", "dtype", "head_dim", "intermediate_size", "max_position_embeddings", "moe_intermediate_size",
    "num_experts", "num_key_value_heads", "num_local_experts", "quantization_config", "rope_parameters", "rope_scaling",
    "tie_word_embeddings", "torch_dtype", "vocab_size",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class DecoderShape:
    """The sizes of a Llama-like decoder, dense or mixture of experts.

    ``feed_forward`` is the inner width of one expert's feed-forward layer (3 matrices) and ``vocabulary`` the number of
    token ids; None if not given. ``experts`` is 1 for a dense model.
    """

    layers: int
    hidden_size: int
    attention_heads: int
    key_value_heads: int
    head_size: int
    feed_forward: int | None
    experts: int
    vocabulary: int | None
    tied_embeddings: bool

    @property
    def parameters(self) -> int | None:
        """Number of parameters without biases and norms (under 0.1 % of them); None if a size is not given."""
        if self.feed_forward is None or self.vocabulary is None:
            return None
        heads = self.attention_heads + self.key_value_heads
        attention = 2 * self.hidden_size * self.head_size * heads
        experts = self.experts * 3 * self.hidden_size * self.feed_forward
        embeddings = self.vocabulary * self.hidden_size * (1 if self.tied_embeddings else 2)
        return self.layers * (attention + experts) + embeddings

    @property
    def cached_values(self) -> int:
        """Keys and values that one token adds to the cache, all layers together; multiply by the bytes of their dtype."""
        return 2 * self.layers * self.key_value_heads * self.head_size


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The content of config.json that the package uses; for a multimodal model, mostly that of its text model.

    ``positions`` is ``max_position_embeddings`` (tokens). ``rope_factor`` is by how much RoPE scaling stretches it (at least
    1) and ``rope_type`` the kind of scaling, "" if not given. ``dtype`` is that of the stored weights, such as ``bfloat16``;
    ``quantization`` their quantization method (see :func:`quantization_method`). ``shape`` is None where the fields of a
    Llama-like decoder are missing.
    """

    architectures: tuple[str, ...] = ()
    positions: int | None = None
    rope_factor: float = 1.0
    rope_type: str = ""
    dtype: str | None = None
    quantization: str | None = None
    shape: DecoderShape | None = None

    @property
    def context(self) -> int | None:
        """The most tokens of prompt and output together, RoPE scaling included; None if the file does not say."""
        return None if self.positions is None else int(self.positions * self.rope_factor)

    @classmethod
    def parse(cls, content: Json) -> ModelConfig:
        """Read the content of config.json."""
        merged = {**content, **(content.get("text_config") or {})}
        rope = merged.get("rope_parameters") or merged.get("rope_scaling") or {}
        positions = merged.get("max_position_embeddings")
        return cls(
            architectures=tuple(content.get("architectures") or ()),
            positions=int(positions) if positions else None,
            rope_factor=max(rope.get("factor") or 1.0, 1.0),
            rope_type=str(rope.get("rope_type") or rope.get("type") or ""),
            dtype=_dtype(merged),
            quantization=quantization_method(merged),
            shape=_shape(merged),
        )

    @classmethod
    def of_loaded(cls, config: Any) -> ModelConfig:
        """Read the configuration object of a loaded transformers model."""
        text = config.get_text_config()
        return cls.parse({name: value for name in _FIELDS if (value := getattr(text, name, None)) is not None})


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """The content of adapter_config.json that the package uses.

    ``base`` is the hub id or folder of the model that the adapter was trained on, ``rank`` the LoRA rank; None if not given.
    """

    peft_type: str
    task_type: str
    base: str | None
    rank: int | None


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A model's chat template: its Jinja source and the special tokens it may use (``bos_token``, ``eos_token``)."""

    source: str
    special_tokens: Mapping[str, str]


def read_config(source: str, revision: str | None = None) -> ModelConfig | None:
    """Read config.json. None if there is none, as in an adapter's folder."""
    content = _read(source, "config.json", revision)
    return None if content is None else ModelConfig.parse(content)


def read_adapter_config(source: str, revision: str | None = None) -> AdapterConfig | None:
    """Read adapter_config.json. None if there is none, as in the folder of a whole model."""
    content = _read(source, "adapter_config.json", revision)
    if content is None:
        return None
    base, rank = content.get("base_model_name_or_path"), content.get("r")
    return AdapterConfig(
        peft_type=content.get("peft_type", "LORA"),
        task_type=content.get("task_type") or "CAUSAL_LM",
        base=str(base) if base else None,
        rank=None if rank is None else int(rank),
    )


def read_chat_template(source: str, revision: str | None = None) -> ChatTemplate | None:
    """Read the chat template from chat_template.jinja, tokenizer_config.json or chat_template.json, in this order.

    None if the tokenizer has none, as those of base models.
    """
    tokenizer = _read(source, "tokenizer_config.json", revision) or {}
    file = model_file(source, "chat_template.jinja", revision)
    template = tokenizer.get("chat_template") if file is None else file.read_text(encoding="utf-8")
    if isinstance(template, list):  # several, by name
        template = {entry["name"]: entry["template"] for entry in template}.get("default")
    if template is None:
        template = (_read(source, "chat_template.json", revision) or {}).get("chat_template")
    return None if template is None else ChatTemplate(template, _special_tokens(tokenizer))


def quantization_method(settings: Json) -> str | None:
    """The quantization method in a config.json or in the arguments of an engine: ``fp8``, ``awq``, ..., or ``unnamed``.

    None if the weights are not quantized.
    """
    names = ("quantization", "quantization_config", "load_in_4bit", "load_in_8bit")
    how = next(filter(None, map(settings.get, names)), None)
    if isinstance(how, Mapping):
        return str(how.get("quant_method") or "unnamed")
    return None if how is None else str(how)


def _read(source: str, name: str, revision: str | None) -> Json | None:
    file: Path | None = model_file(source, name, revision)
    if file is None:
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{file} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{file} is not a JSON object")
    return content


def _dtype(content: Json) -> str | None:
    name = content.get("dtype") or content.get("torch_dtype")
    return None if name is None else str(name).removeprefix("torch.")


def _shape(content: Json) -> DecoderShape | None:
    if any(content.get(name) is None for name in _SHAPE):
        return None
    layers, hidden, heads = (int(content[name]) for name in _SHAPE)
    feed_forward, vocabulary = (
        content.get("moe_intermediate_size") or content.get("intermediate_size"),
        content.get("vocab_size"),
    )
    return DecoderShape(
        layers=layers,
        hidden_size=hidden,
        attention_heads=heads,
        key_value_heads=int(content.get("num_key_value_heads") or heads),
        head_size=int(content.get("head_dim") or hidden // heads),
        feed_forward=int(feed_forward) if feed_forward else None,
        experts=int(content.get("num_experts") or content.get("num_local_experts") or 1),
        vocabulary=int(vocabulary) if vocabulary else None,
        tied_embeddings=bool(content.get("tie_word_embeddings")),
    )


def _special_tokens(tokenizer: Json) -> dict[str, str]:
    named = {name: tokenizer.get(name) or "" for name in ("bos_token", "eos_token")}
    return {name: token["content"] if isinstance(token, dict) else token for name, token in named.items()}
