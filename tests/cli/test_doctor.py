"""The doctor: what it looks at is there, memory is reckoned right, and a model too large is said to be so."""

import json
import struct
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from pyserini_reasonrank.cli import doctor as doctor_module
from pyserini_reasonrank.cli import models as models_module
from pyserini_reasonrank.cli.doctor import Check, State, doctor, render
from pyserini_reasonrank.cli.models import models_table
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.models import devices
from pyserini_reasonrank.models.catalogue import known_models
from pyserini_reasonrank.models.describe import ModelConfig
from pyserini_reasonrank.models.devices import Device, device_of, own_memory
from pyserini_reasonrank.models.memory import Need, Verdict, memory_needed
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.settings import layers
from pyserini_reasonrank.settings.flags import lift

QWEN_2_5_7B = {
    "hidden_size": 3584, "intermediate_size": 18944, "num_attention_heads": 28, "num_key_value_heads": 4,
    "num_hidden_layers": 28, "vocab_size": 152064, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    "max_position_embeddings": 32768,
}  # fmt: skip
QWEN_3_30B_A3B = {
    "hidden_size": 2048, "intermediate_size": 6144, "moe_intermediate_size": 768, "num_experts": 128, "head_dim": 128,
    "num_attention_heads": 32, "num_key_value_heads": 4, "num_hidden_layers": 48, "vocab_size": 151936,
    "tie_word_embeddings": False,
}  # fmt: skip
CONFIG = ModelConfig.parse(QWEN_2_5_7B)


def parameters(config: ModelConfig) -> int:
    assert config.shape is not None
    assert config.shape.parameters is not None
    return config.shape.parameters


@pytest.mark.skipif(find_spec("pyserini") is None, reason="Pyserini is not installed")
def test_doctor_looks_at_everything() -> None:
    checks = {check.name: check for check in doctor()}
    assert {"Python", "Java", "Pyserini", "engine vllm", "engine openai", "memory"} <= checks.keys()
    assert checks["Pyserini"].state is State.OK
    assert checks["model smollm2-135m"].sentence.endswith("fits")
    assert all(check.sentence for check in checks.values())


@pytest.mark.parametrize(
    ("missing", "engine"), [("aiohttp", "openai"), ("torch", "transformers"), ("vllm", "vllm"), ("openai", None)]
)
def test_an_engine_is_missing_if_a_module_that_it_imports_is(
    missing: str, engine: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_module, "find_spec", lambda module: None if module == missing else object())
    monkeypatch.setattr(doctor_module, "installed", lambda names: dict.fromkeys(names, "9.9"))
    found = {check.name: check.state for check in doctor_module._engines()}
    assert [name for name, state in found.items() if state is State.WARN] == ([f"engine {engine}"] if engine else [])


@pytest.mark.parametrize(
    ("version", "older"),
    [
        ("2.1.9", True),
        ("2.2", False),
        ("2.2rc1", False),
        ("1", True),
        ("3", False),
        ("2.10.dev1", False),
        ("main", False),
    ],
)
def test_versions_of_any_form_are_compared(version: str, older: bool) -> None:
    assert doctor_module._older(version, (2, 2)) is older


def test_render() -> None:
    checks = [Check("Java", State.OK, "21"), Check("engine vllm", State.WARN, "not installed")]
    assert render(checks) == "ok    Java         21\nwarn  engine vllm  not installed"


def test_models_table() -> None:
    header, _, *rows = models_table().splitlines()
    assert header.split()[:2] == ["model", "parameters"]
    assert any(row.startswith("reasonrank-7b ") and " 32,768 " in row for row in rows)


@pytest.mark.parametrize(("config", "published"), [(QWEN_2_5_7B, 7_615_616_512), (QWEN_3_30B_A3B, 30_532_122_624)])
def test_parameters_from_a_config(config: dict[str, Any], published: int) -> None:
    assert parameters(ModelConfig.parse(config)) == pytest.approx(published, rel=1e-3)


def test_need_from_a_config() -> None:
    need = memory_needed(CONFIG)
    assert need.weights == pytest.approx(15.2e9, rel=5e-3)
    assert need.cache == 32768 * 2 * 28 * 4 * 128 * 2
    assert memory_needed(CONFIG, context=1024).cache == need.cache // 32
    assert memory_needed(ModelConfig.parse({"text_config": QWEN_2_5_7B})) == need


def test_need_from_a_folder(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(QWEN_2_5_7B))
    assert memory_needed(tmp_path).weights == 2 * parameters(CONFIG)
    (tmp_path / "model.safetensors.index.json").write_text('{"metadata": {"total_size": 4321}}')
    assert memory_needed(tmp_path).weights == 4321
    for i in (1, 2):
        (tmp_path / f"model-0000{i}-of-00002.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}" + b"\0" * 90)
    assert memory_needed(tmp_path).weights == 200


def test_need_of_a_folder_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no readable config.json"):
        memory_needed(tmp_path)


def test_verdict() -> None:
    verdict = Verdict(memory_needed(CONFIG, context=10_000), 22_000_000_000, 256)
    assert (verdict.fits, verdict.at_once) == (True, 7)
    assert str(verdict) == "needs 15.2 GB + 4.0 GB (7 x 10,000 tokens in flight), 22.0 GB free: fits"
    verdict = Verdict(memory_needed(7.6, context=10_000), 16_000_000_000)
    assert not verdict.fits
    assert str(verdict) == "needs 15.2 GB + 3.8 GB (1 x 10,000 tokens in flight), 16.0 GB free: does not fit"
    assert Verdict(Need(9, 1, 1), 11, 1).at_once == 0  # 10 of 11 bytes would leave no headroom


def test_known_models_state_their_own_cache() -> None:
    assert known_models()["reasonrank-7b"].needs().cache == memory_needed(CONFIG).cache
    assert known_models()["reasonrank-7b"].needs(1024).cache == memory_needed(CONFIG, context=1024).cache


def quantized(**how: Any) -> ModelConfig:
    return ModelConfig.parse(QWEN_2_5_7B | {"quantization_config": how})


def test_quantization_needs_less() -> None:
    whole = memory_needed(CONFIG)
    assert memory_needed(quantized(quant_method="fp8")).weights == whole.weights // 2
    assert memory_needed(quantized(bits=4)).weights == whole.weights // 4
    assert memory_needed(CONFIG, arguments={"quantization": "fp8"}).weights == whole.weights // 2
    assert memory_needed(7.6, arguments={"load_in_4bit": True}).weights == 3_800_000_000
    assert memory_needed(CONFIG, arguments={"dtype": "bfloat16"}) == whole


def test_another_dtype_needs_more() -> None:
    whole, known = memory_needed(CONFIG), known_models()["reasonrank-7b"]
    for wide in (
        memory_needed(CONFIG, arguments={"dtype": "float32"}),
        known.needs(arguments={"dtype": "float32"}),
    ):
        assert wide.weights == pytest.approx(2 * whole.weights, rel=5e-3)
        assert wide.cache == 2 * whole.cache


def gpus(monkeypatch: pytest.MonkeyPatch, *sizes: float) -> None:
    """As many accelerators, of these sizes in GB."""
    found = tuple(Device(f"cuda:{i}", "GPU", int(gb * 1e9), int(gb * 1e9)) for i, gb in enumerate(sizes))
    for module in (devices, doctor_module, models_module):
        monkeypatch.setattr(module, "accelerators", lambda: found)


@pytest.mark.parametrize(
    ("engine", "free"),
    [
        ({}, 40),
        ({"args": {"tensor_parallel_size": 2}}, 80),
        ({"args": {"tensor_parallel_size": 2, "pipeline_parallel_size": 2}}, 120),
        ({"args": {"tensor_parallel_size": 8}}, 120),
        ({"args": {"device_map": "auto"}}, 120),
        ({"device": "cuda:3"}, 30),
        ({"device": "cuda:9"}, 40),
        ({"args": {"tensor_parallel_size": "many"}}, 40),
        ({"args": "nonsense"}, 40),
    ],
)
def test_an_engine_fills_one_accelerator_unless_told_otherwise(
    engine: dict[str, Any], free: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus(monkeypatch, 40, 40, 40, 30)
    assert device_of(engine).free == free * 10**9


def test_without_an_accelerator_it_fills_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch)
    assert device_of({"args": {"tensor_parallel_size": 2}}).kind == "cpu"
    gpus(monkeypatch, 80)
    assert device_of({"device": "cpu"}).kind == "cpu"


def refusal(*words: str, engine: str = "vllm", model: str = "reasonrank-32b") -> str:
    """What is said of reasonrank, by default with 32 billion parameters; "" if it can be held."""
    flags = lift(["--rerank.engine.name", engine, "--rerank.model", model, *words])[1]
    try:
        plan(*layers.load("reasonrank", flags))
    except UsageError as error:
        return str(error)
    return ""


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_32_billion_parameters_fit_an_accelerator_of_80_gigabytes(
    offline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus(monkeypatch, 85)  # as such a one tells it, in units of 10^9 bytes
    assert refusal() == ""
    gpus(monkeypatch, 80)
    said = refusal()
    assert said == (
        "model reasonrank-32b needs 65.6 GB + 8.6 GB (1 x 32,768 tokens in flight), 80.0 GB free: does not fit (GPU): choose "
        "a smaller model with --rerank.model, or set --rerank.max_model_len 23552"
    )
    assert refusal("--rerank.max_model_len", "23552") == ""


@pytest.mark.parametrize(("engine", "flag"), [("vllm", "tensor_parallel_size 2"), ("transformers", "device_map auto")])
def test_several_accelerators_are_filled_only_if_the_engine_is_told_to(
    engine: str, flag: str, offline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus(monkeypatch, 48, 48)
    said = refusal(engine=engine)
    assert said.endswith(
        f"choose a smaller model with --rerank.model, or spread it over 2 accelerators with --rerank.engine.args.{flag}"
    )
    assert "max_model_len" not in said  # the weights alone are too large for one
    assert refusal(f"--rerank.engine.args.{flag.split(maxsplit=1)[0]}", flag.split()[1], engine=engine) == ""
    assert refusal("--rerank.engine.args.quantization", "fp8", engine="vllm") == ""


def test_transformers_loads_float32_on_a_cpu(offline: None, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch)
    monkeypatch.setattr(devices, "own_memory", lambda: Device("cpu", "this machine", int(22e9), int(22e9)))
    half, smaller = ["--rerank.engine.args.dtype", "bfloat16"], "reasonrank-7b"
    assert "needs 30.4 GB + 3.8 GB" in refusal(engine="transformers", model=smaller)
    assert refusal(*half, engine="transformers", model=smaller) == refusal(engine="vllm", model=smaller) == ""


def test_a_folder_of_another_shape_is_left_to_the_engine(
    offline: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gpus(monkeypatch, 16)
    (tmp_path / "config.json").write_text(json.dumps({"n_layer": 12, "n_embd": 768}))
    (tmp_path / "chat_template.jinja").write_text("{{ messages[0].content }}")
    assert refusal(model=str(tmp_path)) == ""


def test_where_nothing_helps_only_a_smaller_model_is_named(offline: None, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, 16, 16)
    assert refusal().endswith("does not fit (GPU): choose a smaller model with --rerank.model")


def test_models_and_doctor_count_accelerators_as_the_engine_does(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, 48, 48)
    rows = {line.split()[0]: line for line in models_table().splitlines() if line.strip()}
    assert " yes " in rows["reasonrank-7b"]
    assert " on 2 " in rows["reasonrank-32b"]
    assert rows["here:"] == "here: GPU, 48.0 GB free; 2 of them"
    checks = {check.name: check for check in doctor()}
    assert checks["model reasonrank-32b"].state is State.OK
    assert checks["model reasonrank-32b"].sentence.endswith("does not fit; 2 accelerators hold it together")
    gpus(monkeypatch, 16, 16)
    assert " no " in next(line for line in models_table().splitlines() if line.startswith("reasonrank-32b"))


def test_own_memory() -> None:
    own = own_memory()
    assert 0 < own.free <= own.total
