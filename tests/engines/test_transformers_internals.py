"""Smoke tests of the parts of transformers that engines/local/ uses beyond its documented interface.

Each failure names what changed in transformers and the module here that uses it.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import threading
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from pyserini_reasonrank.engines import build_engine, local
from pyserini_reasonrank.engines.local import packed_attention, prompt_trees
from pyserini_reasonrank.engines.local.sampler import SeededSampler
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.models.catalogue import Model

README = Path(local.__file__).with_name("README.md").read_text(encoding="utf-8")
BATCHING = "generation.continuous_batching"

ATTRIBUTES = [
    (f"{BATCHING}.continuous_api", "ContinuousMixin.init_continuous_batching", "continuous_batching.py"),
    *(
        (f"{BATCHING}.continuous_api", f"ContinuousBatchingManager.{name}", "continuous_batching.py")
        for name in (
            "start", "stop", "destroy", "pause", "is_running", "add_request", "cancel_request", "get_result",
        )
    ),
    (f"{BATCHING}.continuous_api", "BackgroundThreadStatus.can_accept_new_requests", "continuous_batching.py"),
    (f"{BATCHING}.requests", "GenerationOutput.is_finished", "continuous_batching.py"),
    (f"{BATCHING}.cache", "PagedAttentionCache.update", "packed_attention.py"),
    ("utils.import_utils", "is_flash_attn_2_available", "continuous_batching.py"),
    ("utils.import_utils", "is_flash_attn_3_available", "continuous_batching.py"),
    ("utils.import_utils", "is_sklearn_available", "library_setup.py"),
    ("utils", "is_sklearn_available", "library_setup.py"),
    ("modeling_utils", "AttentionInterface.register", "packed_attention.py"),
    ("masking_utils", "AttentionMaskInterface.register", "packed_attention.py"),
]  # fmt: skip
PARAMETERS = [
    (f"{BATCHING}.continuous_api", "ContinuousMixin.init_continuous_batching", "continuous_batching.py",
     {"generation_config", "continuous_batching_config"}),
    (f"{BATCHING}.continuous_api", "ContinuousBatchingManager.add_request", "continuous_batching.py",
     {"streaming", "eos_token_id", "logit_processor_kwargs"}),
    (f"{BATCHING}.continuous_api", "ContinuousBatchingManager.stop", "continuous_batching.py",
     {"block", "timeout", "hard_stop"}),
    (f"{BATCHING}.continuous_api", "ContinuousBatchingManager.get_result", "continuous_batching.py", {"timeout"}),
    (f"{BATCHING}.cache", "PagedAttentionCache.update", "packed_attention.py",
     {"key_states", "value_states", "layer_idx", "kwargs"}),
    ("utils.import_utils", "is_flash_attn_2_available", "continuous_batching.py", {"kernels_fallback_ok"}),
    ("utils.import_utils", "is_flash_attn_3_available", "continuous_batching.py", {"kernels_fallback_ok"}),
]  # fmt: skip
FIELDS = [
    ("generation.configuration_utils", "ContinuousBatchingConfig", "continuous_batching.py",
     {"page_size", "num_blocks", "max_batch_tokens", "max_requests_per_batch", "max_memory_percent", "use_cuda_graph",
      "use_async_batching"}),
    (f"{BATCHING}.requests", "GenerationOutput", "continuous_batching.py",
     {"request_id", "error", "generated_tokens"}),
    (f"{BATCHING}.requests", "RequestState", "sampler.py", {"logit_processor_kwargs", "position_offset"}),
]  # fmt: skip


def changed(what: str, user: str) -> str:
    return (
        f"transformers {transformers.__version__} no longer has {what}, which engines/local/{user} uses: "
        "adapt that module and its README.md"
    )


def found(module: str, path: str, user: str) -> Any:
    """The object at ``path`` of a module of transformers; the test fails with what changed if it is gone."""
    try:
        at: Any = importlib.import_module(f"transformers.{module}")
        for name in path.split("."):
            at = getattr(at, name)
    except (ImportError, AttributeError):
        pytest.fail(changed(f"{module}.{path}", user))
    return at


@pytest.fixture(scope="module")
def model() -> Any:
    """A random Llama of one layer."""
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, bos_token_id=0, eos_token_id=1, pad_token_id=2,
    )  # fmt: skip
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(config).eval()


@pytest.mark.parametrize(("module", "path", "user"), ATTRIBUTES)
def test_attributes(module: str, path: str, user: str) -> None:
    assert callable(found(module, path, user)), changed(f"a callable {module}.{path}", user)


@pytest.mark.parametrize(("module", "path", "user", "names"), PARAMETERS)
def test_parameters(module: str, path: str, user: str, names: set[str]) -> None:
    missing = names - inspect.signature(found(module, path, user)).parameters.keys()
    assert not missing, changed(f"the parameters {sorted(missing)} of {module}.{path}", user)


@pytest.mark.parametrize(("module", "path", "user", "names"), FIELDS)
def test_fields(module: str, path: str, user: str, names: set[str]) -> None:
    missing = names - {field.name for field in fields(found(module, path, user))}
    assert not missing, changed(f"the fields {sorted(missing)} of {module}.{path}", user)


def test_a_request_of_a_batch() -> None:
    slots = found(f"{BATCHING}.requests", "FutureRequestState", "sampler.py").__slots__
    assert {"state", "has_new_token"} <= set(slots), changed(
        "FutureRequestState.state and .has_new_token", "sampler.py"
    )


def test_the_sampler_has_the_interface_that_it_replaces() -> None:
    replaced = found(f"{BATCHING}.cb_logits_processors", "ContinuousBatchingLogitsProcessorList", "sampler.py")
    original = replaced(transformers.LogitsProcessorList())
    for name in ("do_processing", "tensors_required"):
        assert hasattr(original, name), changed(f"ContinuousBatchingLogitsProcessorList.{name}", "sampler.py")
    for name in ("check_kwargs", "fill_defaults", "prepare_tensor_args", "__call__"):
        theirs, ours = (list(inspect.signature(getattr(c, name)).parameters) for c in (replaced, SeededSampler))
        assert len(theirs) == len(ours), changed(f"{name}({', '.join(ours)}); now {', '.join(theirs)}", "sampler.py")
    assert list(inspect.signature(replaced.prepare_tensor_args).parameters)[1:] == [
        "requests_in_batch", "arg_storage",
    ], changed("prepare_tensor_args(requests_in_batch, arg_storage)", "sampler.py")  # fmt: skip


def test_a_name_with_flash_in_it_needs_no_mask() -> None:
    asks = found("utils.generic", "is_flash_attention_requested", "packed_attention.py")
    assert asks(requested_attention_implementation=packed_attention.NAME), changed(
        "the rule that an attention with flash in its name needs no mask", "packed_attention.py"
    )


def test_continuous_batching_calls_a_registered_attention(model: Any) -> None:
    seen: dict[str, Any] = {}

    def attend(module: Any, query: Any, key: Any, value: Any, mask: Any, **kwargs: Any) -> Any:
        seen.update(kwargs, mask=mask, query=query, layer=module.layer_idx)
        return packed_attention.attend(module, query, key, value, mask, **kwargs)

    own = model.config._attn_implementation
    model.config._attn_implementation = packed_attention.register(packed_attention.NAME, attend)
    settings = transformers.ContinuousBatchingConfig(
        page_size=32, num_blocks=4, max_batch_tokens=64, max_requests_per_batch=4, use_cuda_graph=False,
        use_async_batching=False,
    )  # fmt: skip
    try:
        manager = model.init_continuous_batching(
            generation_config=transformers.GenerationConfig(do_sample=False, eos_token_id=[1]),
            continuous_batching_config=settings,
        )
        for name in ("logit_processor", "continuous_batching_config", "batch_processor", "background_thread_status"):
            assert hasattr(manager, name), changed(f"ContinuousBatchingManager.{name}", "continuous_batching.py")
        assert hasattr(manager.background_thread_status, "fatal_error"), changed(
            "BackgroundThreadStatus.fatal_error", "continuous_batching.py"
        )
        manager.logit_processor = SeededSampler()
        manager.start()
        manager.add_request([3, 4, 5], "one", 2, eos_token_id=[1])
        output = manager.get_result(timeout=120)
        fatal = manager.background_thread_status.fatal_error
        manager.stop(block=True, timeout=30, hard_stop=True)
        manager.destroy()
    finally:
        model.config._attn_implementation = own
        packed_attention.register(packed_attention.NAME, packed_attention.attend)
    assert fatal is None
    assert output is not None
    assert output.request_id == "one"
    assert 1 <= len(output.generated_tokens) <= 2
    for name in ("cache", "cu_seq_lens_q", "cu_seq_lens_k", "scaling"):
        assert name in seen, changed(
            f"the argument {name} of an attention in continuous batching", "packed_attention.py"
        )
    assert seen["mask"] is None, changed("packed rows without a mask", "packed_attention.py")
    assert seen["layer"] == 0, changed("layer_idx of attention modules", "packed_attention.py")
    assert seen["query"].shape[:2] == (1, 4), changed(
        "queries of shape (1, heads, tokens, size)", "packed_attention.py"
    )


def test_prompts_are_not_packed_where_a_layer_would_mix_them(tmp_path: Path) -> None:
    """Qwen3.5's linear attention has a state that passes from one text of a row to the next."""
    from transformers import AutoModelForCausalLM, Qwen3_5TextConfig

    torch.manual_seed(0)
    config = Qwen3_5TextConfig(
        vocab_size=64, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, head_dim=16, layer_types=["linear_attention", "full_attention"],
        linear_num_key_heads=2, linear_num_value_heads=2, linear_key_head_dim=16, linear_value_head_dim=16,
    )  # fmt: skip
    model: Any = AutoModelForCausalLM.from_config(config).eval()
    trees = [prompt_trees.PromptTree(list(range(n, n + 9)), ((5,), (6,))) for n in (10, 30)]
    with torch.inference_mode():
        together = torch.stack(prompt_trees.log_probabilities(model, trees))
        logits = torch.stack([model(input_ids=torch.tensor([tree.prompt])).logits[0, -1] for tree in trees])
    assert torch.allclose(together, logits.log_softmax(-1)[:, [5, 6]], atol=1e-5)
    model.save_pretrained(tmp_path)
    with pytest.raises(UsageError, match=r"does not run the layers of tiny \(linear_attention\): use vllm"):
        asyncio.run(build_engine("transformers", {}, Model("tiny", str(tmp_path))).start())


def test_a_forward_pass_hands_its_extra_arguments_to_a_registered_attention(model: Any) -> None:
    seen: dict[str, Any] = {}

    def attend(module: Any, query: Any, key: Any, value: Any, mask: Any, **kwargs: Any) -> Any:
        seen.update(kwargs, mask=mask, thread=threading.get_ident())
        return prompt_trees.attend(module, query, key, value, mask, **kwargs)

    tree = prompt_trees.PromptTree([3, 4, 5], ((6,), (7, 8)))
    with packed_attention.using(model, packed_attention.register("probe", attend)), torch.inference_mode():
        texts = [packed_attention.PackedText(range(5), range(5))]
        logits = model(
            input_ids=torch.tensor([[3, 4, 5, 6, 7]]),
            position_ids=torch.arange(5)[None],
            logits_to_keep=torch.tensor([1, 4]),
            use_cache=False,
            texts=texts,
        ).logits
    assert seen.get("texts") is texts, changed("extra arguments of forward that reach the attention", "prompt_trees.py")
    assert seen["mask"] is None, changed("a mask function that may return None", "packed_attention.py")
    assert logits.shape == (1, 2, 64), changed("logits_to_keep as a tensor of places", "prompt_trees.py")
    with torch.inference_mode():
        plain = model(input_ids=torch.tensor([[3, 4, 5, 6, 7]])).logits[:, [1, 4]]
        [packed] = prompt_trees.log_probabilities(model, [tree])
        expected = model(input_ids=torch.tensor([[3, 4, 5]])).logits[0, -1].float().log_softmax(-1)[6]
    assert torch.allclose(logits, plain, atol=1e-5)
    assert packed[0].item() == pytest.approx(expected.item(), abs=1e-5)


def test_linear_layers_and_the_output_layer_are_of_pytorch(model: Any) -> None:
    assert type(model.get_output_embeddings()) is torch.nn.Linear, changed("an nn.Linear head", "batch_invariant.py")
    layers = [name for name, module in model.named_modules() if type(module) is torch.nn.Linear]
    assert len(layers) == 8, changed("nn.Linear in every projection of a Llama", "batch_invariant.py")


@pytest.mark.parametrize("parameter", ["rope_parameters", "max_position_embeddings", "num_key_value_heads"])
def test_a_loaded_configuration(model: Any, parameter: str) -> None:
    assert hasattr(model.config.get_text_config(), parameter), changed(f"config.{parameter}", "alternatives.py")


def test_the_readme_lists_what_is_tested_here() -> None:
    names = {path.rpartition(".")[2] for _, path, _ in ATTRIBUTES}
    names |= {path for _, path, *_ in FIELDS} | {"FutureRequestState", "ContinuousBatchingLogitsProcessorList"}
    names |= {"is_flash_attention_requested", "logits_to_keep", "cu_seq_lens_q", "get_output_embeddings"}
    assert [name for name in sorted(names) if name not in README] == []
