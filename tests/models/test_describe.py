"""The one reader of config.json, adapter_config.json and the chat template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.models.describe import (
    AdapterConfig,
    ChatTemplate,
    DecoderShape,
    ModelConfig,
    quantization_method,
    read_adapter_config,
    read_chat_template,
    read_config,
)

SIZES = {
    "num_hidden_layers": 3, "hidden_size": 64, "num_attention_heads": 8, "num_key_value_heads": 2,
    "intermediate_size": 100, "vocab_size": 1000, "tie_word_embeddings": True,
}  # fmt: skip


def write(folder: Path, **files: Any) -> str:
    """Write ``config=...`` to config.json and so on; return the folder as a model source."""
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return str(folder)


def test_config(tmp_path: Path) -> None:
    rope = {"rope_type": "yarn", "factor": 4.0}
    content = SIZES | {
        "architectures": ["A"],
        "max_position_embeddings": 4096,
        "rope_scaling": rope,
        "dtype": "bfloat16",
    }
    config = read_config(write(tmp_path, config=content))
    assert config == ModelConfig(
        architectures=("A",), positions=4096, rope_factor=4.0, rope_type="yarn", dtype="bfloat16",
        shape=DecoderShape(3, 64, 8, 2, 8, 100, 1, 1000, True),
    )  # fmt: skip
    assert config is not None
    assert config.context == 16384


def test_the_text_model_of_a_multimodal_config() -> None:
    inner = {"architectures": ["Inner"], "max_position_embeddings": 512, **SIZES}
    config = ModelConfig.parse({"architectures": ["Outer"], "torch_dtype": "float16", "text_config": inner})
    assert (config.architectures, config.context, config.dtype) == (("Outer",), 512, "float16")
    assert config.shape == ModelConfig.parse(SIZES).shape


def test_a_shape_counts_parameters_and_cached_values() -> None:
    shape = ModelConfig.parse(SIZES).shape
    assert shape is not None
    assert shape.parameters == 3 * (64 * 64 * 2 + 64 * 16 * 2 + 3 * 64 * 100) + 1000 * 64
    assert shape.cached_values == 3 * 2 * 2 * 8
    experts = ModelConfig.parse(SIZES | {"num_experts": 4, "moe_intermediate_size": 50, "head_dim": 16}).shape
    assert experts is not None
    assert (experts.experts, experts.feed_forward, experts.head_size) == (4, 50, 16)


@pytest.mark.parametrize("missing", ["num_hidden_layers", "hidden_size", "num_attention_heads"])
def test_no_shape_without_its_sizes(missing: str) -> None:
    assert ModelConfig.parse({k: v for k, v in SIZES.items() if k != missing}).shape is None


@pytest.mark.parametrize("missing", ["intermediate_size", "vocab_size"])
def test_no_number_of_parameters_without_these_sizes(missing: str) -> None:
    shape = ModelConfig.parse({k: v for k, v in SIZES.items() if k != missing}).shape
    assert shape is not None
    assert (shape.parameters, shape.cached_values) == (None, 96)


@pytest.mark.parametrize(
    ("settings", "method"),
    [
        ({}, None),
        ({"quantization_config": None, "load_in_4bit": False}, None),
        ({"quantization_config": {"quant_method": "awq", "bits": 4}}, "awq"),
        ({"quantization_config": {"bits": 4}}, "unnamed"),
        ({"quantization": "fp8"}, "fp8"),
        ({"load_in_8bit": True}, "True"),
    ],
)
def test_quantization_method(settings: dict[str, Any], method: str | None) -> None:
    assert quantization_method(settings) == method


@pytest.mark.parametrize("kind", ["LlamaConfig", "GPT2Config", "Gemma3Config"])
def test_a_loaded_configuration_is_read_as_its_file_is(kind: str) -> None:
    transformers = pytest.importorskip("transformers")
    config = getattr(transformers, kind)()
    text = config.get_text_config()
    found = ModelConfig.of_loaded(config)
    assert found.positions == text.max_position_embeddings
    assert found.shape is not None
    assert (found.shape.layers, found.shape.hidden_size) == (text.num_hidden_layers, text.hidden_size)
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    assert found.shape.key_value_heads == heads
    if kind == "LlamaConfig":
        assert ModelConfig.parse(json.loads(config.to_json_string(use_diff=False))).shape == found.shape


def test_adapter_config(tmp_path: Path) -> None:
    source = write(tmp_path, adapter_config={"peft_type": "LORA", "base_model_name_or_path": "a/b", "r": 16})
    assert read_adapter_config(source) == AdapterConfig("LORA", "CAUSAL_LM", "a/b", 16)
    source = write(
        tmp_path, adapter_config={"peft_type": "IA3", "task_type": "SEQ_CLS", "base_model_name_or_path": None}
    )
    assert read_adapter_config(source) == AdapterConfig("IA3", "SEQ_CLS", None, None)


def test_files_that_are_missing(tmp_path: Path) -> None:
    source = str(tmp_path)
    assert (read_config(source), read_adapter_config(source), read_chat_template(source)) == (None, None, None)


def test_the_jinja_file_counts_more_than_the_tokenizer_s_template(tmp_path: Path) -> None:
    special = {"bos_token": {"content": "<s>"}, "eos_token": "</s>"}
    source = write(
        tmp_path, tokenizer_config={"chat_template": "old", **special}, chat_template={"chat_template": "no"}
    )
    tokens = {"bos_token": "<s>", "eos_token": "</s>"}
    assert read_chat_template(source) == ChatTemplate("old", tokens)
    (tmp_path / "chat_template.jinja").write_text("new")
    assert read_chat_template(source) == ChatTemplate("new", tokens)


@pytest.mark.parametrize(("text", "fault"), [("{", "is not JSON"), ("[]", "is not a JSON object")])
def test_a_file_that_is_not_a_json_object_is_named(tmp_path: Path, text: str, fault: str) -> None:
    for name, reader in (("config", read_config), ("adapter_config", read_adapter_config)):
        file = tmp_path / f"{name}.json"
        file.write_text(text)
        with pytest.raises(UsageError) as error:
            reader(str(tmp_path))
        assert str(error.value).startswith(f"{file} {fault}")
