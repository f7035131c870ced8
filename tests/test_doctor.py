"""The doctor: what it looks at is there, memory is reckoned right, and a model too large is said to be so."""

import json
import struct

import pytest

from pyserini_reasonrank.doctor import Check, State, doctor, models_table, render
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.memory import Need, Verdict, fits, memory_needed, own_memory, parameters

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


def test_doctor_looks_at_everything():
    checks = {check.name: check for check in doctor()}
    assert {"Python", "Java", "Pyserini", "engine vllm", "engine openai", "memory"} <= checks.keys()
    assert checks["Pyserini"].state is State.OK
    assert checks["model smollm2-135m"].sentence.endswith("fits")
    assert all(check.sentence for check in checks.values())


def test_render():
    checks = [Check("Java", State.OK, "21"), Check("engine vllm", State.WARN, "not installed")]
    assert render(checks) == "ok    Java         21\nwarn  engine vllm  not installed"


def test_models_table():
    header, _, *rows = models_table().splitlines()
    assert header.split()[:2] == ["model", "parameters"]
    assert any(row.startswith("reasonrank-7b ") and " 32,768 " in row for row in rows)


@pytest.mark.parametrize(("config", "published"), [(QWEN_2_5_7B, 7_615_616_512), (QWEN_3_30B_A3B, 30_532_122_624)])
def test_parameters_from_a_config(config, published):
    assert parameters(config) == pytest.approx(published, rel=1e-3)


def test_need_from_a_config():
    need = memory_needed(QWEN_2_5_7B)
    assert need.weights == pytest.approx(15.2e9, rel=5e-3)
    assert need.cache == 32768 * 2 * 28 * 4 * 128 * 2
    assert memory_needed(QWEN_2_5_7B, context=1024).cache == need.cache // 32
    assert memory_needed({"text_config": QWEN_2_5_7B}) == need


def test_need_from_a_folder(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(QWEN_2_5_7B))
    assert memory_needed(tmp_path).weights == 2 * parameters(QWEN_2_5_7B)
    (tmp_path / "model.safetensors.index.json").write_text('{"metadata": {"total_size": 4321}}')
    assert memory_needed(tmp_path).weights == 4321
    for i in (1, 2):
        (tmp_path / f"model-0000{i}-of-00002.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}" + b"\0" * 90)
    assert memory_needed(tmp_path).weights == 200


def test_need_of_a_folder_that_is_no_model(tmp_path):
    with pytest.raises(UsageError, match=r"no readable config.json"):
        memory_needed(tmp_path)


def test_verdict():
    verdict = fits(QWEN_2_5_7B, 22_000_000_000, context=10_000, concurrency=256)
    assert (verdict.fits, verdict.at_once) == (True, 7)
    assert str(verdict) == "needs 15.2 GB + 4.0 GB (7 x 10,000 tokens in flight), 22.0 GB free: fits"
    verdict = fits(7.6, 16_000_000_000, context=10_000)
    assert not verdict.fits
    assert str(verdict) == "needs 15.2 GB + 3.8 GB (1 x 10,000 tokens in flight), 16.0 GB free: does not fit"
    assert Verdict(Need(9, 1, 1), 11, 1).at_once == 0  # 10 of 11 bytes would leave no headroom


def test_own_memory():
    own = own_memory()
    assert 0 < own.free <= own.total
