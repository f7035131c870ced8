"""Models that can't answer a reranker's questions are refused from their small files, with a reason and a remedy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.models.catalogue import Model, resolve
from pyserini_reasonrank.models.describe import ModelConfig
from pyserini_reasonrank.prompts import sources
from pyserini_reasonrank.prompts.fitting import Fitter, least_tokens
from pyserini_reasonrank.prompts.tokens import ModelTokens
from pyserini_reasonrank.records import Candidate, Message, Query, Request
from pyserini_reasonrank.run.compatibility import Demand, check, check_room

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NO_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + CHATML
)
ALTERNATING = (
    "{{ bos_token }}{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{{ m.content }}{% endfor %}"
)
FOREIGN = "{% generation %}{{ messages | no_such_filter }}{% endgeneration %}"
CONFIG = {"architectures": ["Qwen2ForCausalLM"], "max_position_embeddings": 4096}
LORA = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "Qwen/Qwen2.5-7B-Instruct", "r": 16}
SYSTEM = (Message("system", "s"), Message("user", "u"))


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def folder(path: Path, *, template: str | None = CHATML, **files: Mapping[str, Any]) -> Path:
    """A model's folder: ``config=...`` is config.json."""
    path.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (path / f"{name}.json").write_text(json.dumps(content))
    if template is not None:
        (path / "chat_template.jinja").write_text(template)
    return path


def model(path: Path | str, adapter: Path | str | None = None, **more: Any) -> Model:
    return Model("mine", str(path), adapter=None if adapter is None else str(adapter), **more)


def demand(tokens: int = 1000) -> Demand:
    return Demand("reasonrank", tokens, SYSTEM)


def refused(given: Model, asked: Demand | None = None) -> str:
    with pytest.raises(UsageError) as error:
        check(given, asked or demand())
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_model_that_fits(tmp_path: Path) -> None:
    assert check(model(folder(tmp_path, config=CONFIG)), demand(4096)) == []


def test_what_cannot_be_known_decides_nothing() -> None:
    assert check(model("Qwen/Qwen2.5-7B-Instruct", "some/adapter"), demand(10**6)) == []


# --- context


def test_a_context_that_is_too_small_is_refused(tmp_path: Path) -> None:
    assert refused(model(folder(tmp_path, config=CONFIG)), demand(4097)) == (
        "model mine has a context of 4096 tokens, and reasonrank needs 4097 for a question and its answer: show fewer passages "
        "per question, or lower --rerank.sampling.max_tokens"
    )


def test_a_context_that_was_lowered_counts(tmp_path: Path) -> None:
    assert "has a context of 512 tokens" in refused(model(folder(tmp_path, config=CONFIG), context=512))


def test_a_context_larger_than_the_model_is_refused(tmp_path: Path) -> None:
    assert "has a context of 4096 tokens, less than --rerank.max_model_len 8192" in refused(
        model(folder(tmp_path, config=CONFIG), context=8192)
    )


@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        ({}, None),
        ({"max_position_embeddings": 4096}, 4096),
        ({"max_position_embeddings": 4096, "rope_scaling": None}, 4096),
        ({"max_position_embeddings": 4096, "rope_scaling": {"type": "yarn", "factor": 4.0}}, 16384),
        ({"max_position_embeddings": 4096, "rope_parameters": {"rope_type": "default"}}, 4096),
        ({"text_config": {"max_position_embeddings": 8192}}, 8192),
    ],
)
def test_the_longest_text_a_config_allows(config: dict[str, Any], tokens: int | None) -> None:
    assert ModelConfig.parse(config).context == tokens


@pytest.mark.parametrize("name", ["listwise-reasoning", "listwise-dialogue", "best"])
def test_the_least_that_is_needed_is_what_fitting_accepts(tokenizer_file: Path, name: str) -> None:
    template, tokens, output = sources.load(name), ModelTokens(tokenizer_file), 200
    needed = least_tokens(template, tokens, 10, output)
    request = Request(Query("q", "why"), tuple(Candidate(f"d{i}", 0.0, "the passage " * 99) for i in range(10)))
    fitter = Fitter(template, tokens, context=needed + 20, output_tokens=output, passage_tokens=None, query_tokens=None)
    fitter.check(request.query)
    prompt = fitter.render(fitter.prepare(request), range(10))
    assert sum(message.content.count("the passage") for message in prompt.messages) > 10


@pytest.mark.parametrize("name", ["listwise-reasoning", "best", "relevant"])
def test_where_the_least_is_given_no_short_query_is_cut(tokenizer_file: Path, name: str) -> None:
    template, tokens, n = sources.load(name), ModelTokens(tokenizer_file), 1 if name == "relevant" else 10
    query = "the query " * 14
    assert 20 < tokens.cut([query], 1000)[0][1] <= 32
    request = Request(Query("q", query), tuple(Candidate(f"d{i}", 0.0, "the passage " * 99) for i in range(n)))
    context = least_tokens(template, tokens, n, 200) + n
    fitter = Fitter(template, tokens, context=context, output_tokens=200, passage_tokens=None, query_tokens=None)
    fitter.render(fitter.prepare(request), range(n))
    assert (fitter.cuts.queries, fitter.cuts.passages) == (0, 1)
    assert fitter.cuts.shortest_passage >= 32


def test_limits_of_ones_own_need_less(tokenizer_file: Path) -> None:
    template, tokens = sources.load("best"), ModelTokens(tokenizer_file)
    whole = least_tokens(template, tokens, 10, 200)
    assert least_tokens(template, tokens, 10, 200, passage_tokens=12) == whole - 10 * 20
    assert least_tokens(template, tokens, 10, 200, passage_tokens=512) == whole
    assert least_tokens(template, tokens, 10, 200, query_tokens=12) == whole - 20 * sources.load("best").render(
        "Q", [""]
    ).messages[-1].content.count("Q")


def test_room_in_a_context_that_is_known_only_later() -> None:
    check_room("m", None, demand(10**6))
    check_room("m", 1000, demand(1000))
    with pytest.raises(
        UsageError, match=r"^model m has a context of 999 tokens, and reasonrank needs 1000 for a question"
    ):
        check_room("m", 999, demand(1000))


# --- architecture and chat template


@pytest.mark.parametrize("kind", ["BertForMaskedLM", "Qwen3ForSequenceClassification", "BertForTokenClassification"])
def test_a_model_that_writes_no_text(tmp_path: Path, kind: str) -> None:
    assert f"its architecture is {kind}" in refused(model(folder(tmp_path, config=CONFIG | {"architectures": [kind]})))


def test_other_architectures_are_left_to_the_engine(tmp_path: Path) -> None:
    for kind in ("GPT2LMHeadModel", "Gemma3ForConditionalGeneration", "ChatGLMModel"):
        assert check(model(folder(tmp_path, config=CONFIG | {"architectures": [kind]})), demand()) == []


def test_a_base_model(tmp_path: Path) -> None:
    given = model(folder(tmp_path, template=None, config=CONFIG, tokenizer_config={"eos_token": "</s>"}))
    assert "has no chat template (base models have none)" in refused(given)
    own = {"chat_template": "{{ messages[0].content }}"}
    assert check(model(tmp_path, chat_template_args=own), demand()) == []


@pytest.mark.parametrize(
    "files",
    [
        {"tokenizer_config": {"chat_template": CHATML}},
        {"tokenizer_config": {"chat_template": [{"name": "default", "template": CHATML}]}},
        {"tokenizer_config": {}, "chat_template": {"chat_template": CHATML}},
    ],
)
def test_a_chat_template_may_lie_in_any_of_its_places(tmp_path: Path, files: dict[str, Any]) -> None:
    assert check(model(folder(tmp_path, template=None, config=CONFIG, **files)), demand()) == []


def test_a_chat_template_that_refuses_our_turns(tmp_path: Path) -> None:
    given = model(folder(tmp_path, template=NO_SYSTEM, config=CONFIG))
    assert "rejects the prompt of reasonrank (System role not supported)" in refused(given)
    assert check(given, Demand("setwise", 100, SYSTEM[1:])) == []


def test_its_special_tokens_are_at_hand(tmp_path: Path) -> None:
    special = {"bos_token": {"content": "<s>"}}
    given = model(folder(tmp_path, template=ALTERNATING, config=CONFIG, tokenizer_config=special))
    assert "roles must alternate" in refused(given)
    assert check(given, Demand("setwise", 100, SYSTEM[1:])) == []


def test_a_chat_template_that_only_its_library_can_render_is_left_to_it(tmp_path: Path) -> None:
    assert check(model(folder(tmp_path, template=FOREIGN, config=CONFIG)), demand()) == []


# --- adapters


def test_an_adapter_given_as_the_model(tmp_path: Path) -> None:
    folder(tmp_path, template=None, adapter_config=LORA)
    assert f"--rerank.model Qwen/Qwen2.5-7B-Instruct --rerank.adapter {tmp_path}" in refused(model(tmp_path))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"peft_type": "PROMPT_TUNING"}, "is of the unsupported type PROMPT_TUNING; the engines load LoRA adapters"),
        ({"task_type": "SEQ_CLS"}, "was trained for SEQ_CLS, not for text generation"),
    ],
)
def test_an_adapter_of_another_kind(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    adapter = folder(tmp_path / "adapter", template=None, adapter_config=LORA | change)
    assert says in refused(model("Qwen/Qwen2.5-7B-Instruct", adapter))


def test_a_folder_that_is_no_adapter(tmp_path: Path) -> None:
    assert "is not an adapter: it has no adapter_config.json" in refused(model("Qwen/Qwen2.5-7B-Instruct", tmp_path))


@pytest.mark.parametrize(
    ("base", "trained", "outcome"),
    [
        ("Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-7B-Instruct", "fits"),
        ("Qwen/Qwen2.5-7B-Instruct", "unsloth/qwen2.5-7b-instruct-bnb-4bit", "fits"),
        ("Qwen/Qwen2.5-7B-Instruct-AWQ", "/home/them/Qwen2.5-7B-Instruct", "fits"),
        ("Qwen/Qwen2.5-7B-Instruct", None, "fits"),
        ("Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-7B", "warned"),
        ("Qwen/Qwen2.5-7B-Instruct", "/data/checkpoint-530", "warned"),
        ("Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-14B-Instruct", "refused"),
        ("Qwen/Qwen3-8B", "Qwen/Qwen2.5-7B-Instruct", "refused"),
    ],
)
def test_the_base_an_adapter_was_trained_on(tmp_path: Path, base: str, trained: str | None, outcome: str) -> None:
    adapter = folder(tmp_path, template=None, adapter_config=LORA | {"base_model_name_or_path": trained})
    given = model(base, adapter)
    if outcome == "refused":
        assert (
            refused(given) == f"adapter {adapter} was trained on {trained}, not on {base}: set --rerank.model {trained}"
        )
    else:
        warnings = check(given, demand())
        assert warnings == (
            [f"adapter {adapter} was trained on {trained}, not on {base}"] if outcome == "warned" else []
        )


def test_a_base_in_a_folder_of_any_name_is_warned_of_only(tmp_path: Path) -> None:
    base = folder(tmp_path / "weights", config=CONFIG)
    adapter = folder(tmp_path / "adapter", template=None, adapter_config=LORA)
    [warning] = check(model(base, adapter), demand())
    assert "was trained on Qwen/Qwen2.5-7B-Instruct, not on" in warning


@pytest.mark.skipif(not find_spec("torch"), reason="the embedded model is converted with PyTorch")
def test_an_adapter_may_name_its_base_as_models_does(tmp_path: Path) -> None:
    adapter = folder(
        tmp_path / "adapter", template=None, adapter_config=LORA | {"base_model_name_or_path": "smollm2-135m"}
    )
    base = resolve("smollm2-135m", revision=None, adapter=str(adapter), context=None)
    assert check(base, demand()) == []


def test_a_file_that_is_broken_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    assert f"{tmp_path / 'config.json'} is not JSON" in refused(model(tmp_path))
    (tmp_path / "config.json").write_text("[]")
    assert f"{tmp_path / 'config.json'} is not a JSON object" in refused(model(tmp_path))
