"""Settings: layers and flags, every one of which arrives; errors name the nearest."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from pyserini_reasonrank.cli.rerank_help import search_help
from pyserini_reasonrank.engines import ENGINES, build_engine, engine_class
from pyserini_reasonrank.errors import UsageError, nearest
from pyserini_reasonrank.judges.registry import JUDGES
from pyserini_reasonrank.models import devices, embedded
from pyserini_reasonrank.models.catalogue import Model, known_models
from pyserini_reasonrank.prompts import sources
from pyserini_reasonrank.records import Capability
from pyserini_reasonrank.run.build import build
from pyserini_reasonrank.run.cost import estimate
from pyserini_reasonrank.run.parts import SinglePlan
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.settings import layers, rerankers
from pyserini_reasonrank.settings.flags import lift
from pyserini_reasonrank.settings.overlay import merge
from pyserini_reasonrank.settings.schema import SamplingSettings, Settings, local_engine
from pyserini_reasonrank.strategies import STRATEGIES, options_model

ORACLE = {"engine": {"name": "oracle", "qrels": "q"}}


def flags(*words: str) -> dict[str, Any]:
    return lift(words)[1]


def settings(name: str, *words: str) -> Settings:
    return layers.load(name, flags(*words))[0]


# --- layers


def test_text_that_looks_like_a_number_stays_as_it_was_typed() -> None:
    made = settings("reasonrank", "--rerank.engine.name", "oracle", "--rerank.revision", "0123456", "--rerank.tag", "7")
    assert (made.revision, made.tag) == ("0123456", "7")


def test_flags_go_over_the_file_goes_over_the_checkpoint_goes_over_the_reranker(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("depth: 30\nsampling: {temperature: 0.3, top_p: 0.7}\nstrategy: {stride: 5}\n")
    named = ["--rerank.model", "smollm2-135m", "--rerank.config", str(file), "--rerank.sampling.temperature", "0.1"]
    made = settings("reasonrank", *named)
    assert made.sampling.temperature == 0.1  # flag
    assert (made.depth, made.sampling.top_p) == (30, 0.7)  # file
    assert made.passage_tokens == known_models()["smollm2-135m"].settings["passage_tokens"] != 100  # checkpoint
    assert made.strategy == {"name": "sliding", "window_size": 20, "stride": 5}  # reranker and file
    assert made.judge["tags"] is True


def test_a_file_may_hold_all_that_flags_can_say(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    words = ["--rerank.engine.name", "oracle", "--rerank.depth", "7"]
    words += ["--rerank.strategy.window_size", "4", "--rerank.strategy.stride", "2"]
    file.write_text(yaml.safe_dump(flags(*words)))
    assert settings("reasonrank", "--rerank.config", str(file)) == settings("reasonrank", *words)


def test_another_strategy_judge_or_engine_does_not_inherit_the_old_ones_settings() -> None:
    made = settings("reasonrank", "--rerank.engine.name", "oracle", "--rerank.strategy.name", "full")
    assert made.strategy == {"name": "full"}
    under = {"engine": {"name": "openai", "base_url": "u", "concurrency": 3}}
    assert merge(under, {"engine": {"name": "oracle"}}) == {"engine": {"name": "oracle"}}
    assert merge(under, {"engine": {"name": "openai", "concurrency": 5}})["engine"]["base_url"] == "u"
    assert merge(under, {"engine": {"concurrency": 5}})["engine"] == {
        "name": "openai",
        "base_url": "u",
        "concurrency": 5,
    }


def test_merging_changes_neither_side() -> None:
    under, over = {"a": {"b": 1}}, {"a": {"c": 2}}
    assert merge(under, over) == {"a": {"b": 1, "c": 2}}
    assert (under, over) == ({"a": {"b": 1}}, {"a": {"c": 2}})


def test_a_checkpoint_brings_its_own_prompt_and_sampling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    made = settings("reasonrank", "--rerank.model", "reasonrank-7b")
    assert made.prompt == "reasonrank:reasoning"
    qwen3 = settings("reasonrank", "--rerank.model", "reasonrank-8b").sampling
    assert (qwen3.temperature, qwen3.top_p, qwen3.top_k) == (0.6, 0.95, 20)
    assert (
        settings(
            "reasonrank", "--rerank.model", "reasonrank-8b", "--rerank.sampling.temperature", "0"
        ).sampling.temperature
        == 0
    )


def test_a_checkpoints_prompt_that_is_not_installed_gives_ours_and_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "find_spec", lambda name: None)
    made, warnings = layers.load("reasonrank", flags("--rerank.model", "reasonrank-7b"))
    assert made.prompt == "listwise-reasoning"
    assert len(warnings) == 1
    assert "reasonrank:reasoning" in warnings[0]
    assert "listwise-reasoning" in warnings[0]


@pytest.mark.parametrize("name", rerankers.names())
def test_every_shipped_reranker_is_a_plan(name: str) -> None:
    made = plan(*layers.load(name, dict(ORACLE)))
    assert all(part.template.contract == part.judge.kind for part in made.parts.values())
    assert made.tag == f"{name}-oracle"
    assert estimate(made, 100).calls >= 1


def test_the_model_is_that_of_the_engine_that_answers(tmp_path: Path) -> None:
    def model(*words: str) -> Model:
        made: Any = plan(settings("reasonrank", *words))
        found: Model = made.engine.model
        return found

    assert model("--rerank.engine.name", "oracle", "--rerank.model", "x").source == "oracle"
    assert model("--rerank.engine.name", "openai").source == "auto"
    assert model("--rerank.engine.name", "openai", "--rerank.model", "any/name").source == "any/name"
    faulty = ["--rerank.engine.name", "faulty", "--rerank.engine.inner.name"]
    assert model(*faulty, "recorded", "--rerank.model", "x").source == "faulty"
    assert model(*faulty, "openai", "--rerank.model", "any/name").source == "any/name"
    assert model(*faulty, "openai").source == "auto"
    assert model(*faulty, "transformers", "--rerank.model", str(tmp_path)).source == str(tmp_path)


CHECKPOINTS = {
    name: str(own["checkpoint"]) for name in rerankers.names() if "checkpoint" in (own := rerankers.read(name))
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_what_auto_takes_was_trained_for_these_questions(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    known = known_models()[CHECKPOINTS[name]]
    assert known.kind in (None, rerankers.read(name)["judge"]["kind"])
    monkeypatch.setattr(devices, "accelerators", lambda: [devices.Device("cuda:0", "GPU", 80 * 10**9, 80 * 10**9)])
    made, warnings = layers.load(name, {})
    assert made.model == CHECKPOINTS[name]
    assert not any("at chance level" in warning for warning in warnings)


def test_every_reranker_with_a_judge_has_a_checkpoint_or_says_that_it_has_none() -> None:
    without = [name for name in rerankers.names() if "judge" in rerankers.read(name) and name not in CHECKPOINTS]
    assert without == ["order-adjuster", "setwise-likelihood"]


# --- null


@pytest.mark.parametrize(
    ("key", "kept", "reset"),
    [
        ("depth", "7", 100),
        ("passage_tokens", "7", None),
        ("sampling.temperature", "0.7", 0.0),
        ("sampling.repetition_penalty", "1.1", None),
        ("sampling", "{seed: 3, max_tokens: 5}", SamplingSettings()),
        ("strategy.window_size", "7", None),
        ("strategy.name", "full", "sliding"),
        ("strategy", "{name: full}", {"name": "sliding"}),
        ("judge.kind", "score", "permutation"),
        ("judge", "{kind: score}", {"kind": "permutation"}),
        ("engine", "{name: oracle}", {"name": "auto"}),
        ("engine.name", "oracle", "auto"),
        ("model", "org/model", "reasonrank-7b"),
        ("tag", "mine", None),
        ("fuse.method", "rrf", "none"),
        ("chat_template_args.enable_thinking", "false", None),
    ],
)
def test_null_resets_a_key_to_its_default(
    key: str, kept: str, reset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    any_kind = [] if key == "model" else ["--rerank.model", "smollm2-135m"]
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(flags(f"--rerank.{key}", kept)))
    words = ["--rerank.config", str(file), *any_kind]
    assert _at(elsewhere(*words), key) != reset
    assert _at(elsewhere(*words, f"--rerank.{key}", "null"), key) == reset
    file.write_text(yaml.safe_dump(flags(f"--rerank.{key}", "null")))
    assert _at(elsewhere(*words), key) == reset


def elsewhere(*words: str) -> Settings:
    """The settings of reasonrank on a machine that can run its checkpoint."""
    return layers.load("reasonrank", flags(*words), here=False)[0]


def _at(made: Any, key: str) -> Any:
    for name in key.split("."):
        made = made.get(name) if isinstance(made, dict) else getattr(made, name, None)
    return made


@pytest.mark.parametrize("size", [20, 10, 5, 2])
@pytest.mark.parametrize("reranker", ["reasonrank", "rankgpt", "first"])
def test_a_window_size_alone_gives_half_of_it_as_the_stride(reranker: str, size: int) -> None:
    made = plan(settings(reranker, "--rerank.strategy.window_size", str(size), "--rerank.engine.name", "oracle"))
    assert isinstance(made, SinglePlan)
    assert made.options == {"window_size": size, "stride": size // 2, "passes": 1}
    assert made.settings.strategy == {"name": "sliding", "window_size": size, "stride": size // 2}  # in the metadata


def test_null_resets_options_of_judge_strategy_and_engine() -> None:
    words = ["--rerank.engine.name", "openai", "--rerank.engine.concurrency", "null"]
    words += [
        "--rerank.strategy.window_size",
        "null",
        "--rerank.strategy.stride",
        "null",
        "--rerank.judge.tags",
        "null",
    ]
    made = plan(settings("reasonrank", *words))
    assert isinstance(made, SinglePlan)
    assert (made.options["window_size"], made.options["stride"]) == (20, 10)
    assert made.judge.options.model_dump()["tags"] is True
    assert made.engine.options.concurrency == 256


def test_null_among_the_arguments_of_an_engine_is_passed_on() -> None:
    words = ["--rerank.engine.name", "vllm", "--rerank.engine.args.quantization", "null"]
    made = settings("reasonrank", "--rerank.model", "smollm2-135m", *words)
    assert made.engine == {"name": "vllm", "args": {"quantization": None}}
    built = build_engine("vllm", {"args": {"quantization": None}}, Model("m", "m"))
    assert built.options.model_dump()["args"] == {"quantization": None}


@pytest.mark.parametrize("value", ["null", "none"])
def test_null_removes_an_arm(value: str) -> None:
    own = ["--rerank.arms.adjuster.reranker", "order-adjuster", "--rerank.engine.name", "oracle"]
    assert set(settings("coranking", *own).arms) == {"small", "large", "adjuster"}
    file = flags(*own)
    file["arms"]["adjuster"] = flags("--rerank.x", value)["x"]
    assert set(layers.load("coranking", file)[0].arms) == {"small", "large"}


# --- a known checkpoint under its hub id


@pytest.mark.parametrize(
    ("reranker", "words"),
    [
        ("reasonrank", "--rerank.model liuwenhan/reasonrank-7B"),
        ("reasonrank", "--rerank.model liuwenhan/reasonrank-7B --rerank.engine.name openai"),
    ],
)
def test_a_known_checkpoint_may_be_named_by_its_hub_id(
    reranker: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    made = settings(reranker, *words.split())
    by_name = settings(reranker, *words.replace("liuwenhan/reasonrank-7B", "reasonrank-7b").split())
    assert made.model == "liuwenhan/reasonrank-7B"
    assert made.model_dump(exclude={"model"}) == by_name.model_dump(exclude={"model"})
    assert made.prompt == "reasonrank:reasoning"


@pytest.mark.parametrize(
    ("reranker", "model", "adapter", "brought"),
    [
        ("rank-r1", "Qwen/Qwen2.5-7B-Instruct", "ielabgroup/Rank-R1-7B-v0.1", True),
        ("rank-r1", "ielabgroup/Rank-R1-7B-v0.1", None, True),
        ("rank-r1", "Qwen/Qwen2.5-7B-Instruct", "my/lora", False),
        ("rank-r1", "Qwen/Qwen2.5-7B-Instruct", None, False),
        ("rank-r1", "Qwen/Qwen2.5-14B-Instruct", "ielabgroup/Rank-R1-7B-v0.1", False),
        ("reasonrank", "ielabgroup/Rank-R1-7B-v0.1", None, False),  # asked all the same, with no word against it
    ],
)
def test_an_adapter_is_known_with_its_base_or_alone(
    reranker: str, model: str, adapter: str | None, brought: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "missing", lambda name: None)
    given = {"model": model} | ({"adapter": adapter} if adapter else {})
    prompt = layers.load(reranker, given)[0].prompt
    assert (prompt == "llm_rankers:setwise-r1") is brought


# --- a server's model


def openai(name: str, *words: str) -> SinglePlan:
    made = plan(*layers.load(name, flags("--rerank.engine.name", "openai", *words)))
    assert isinstance(made, SinglePlan)
    return made


def test_a_served_model_is_asked_as_it_was_trained_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert openai("reasonrank", "--rerank.model", "reasonrank-8b").engine.model == Model(
        "reasonrank-8b", "reasonrank-8b", context=40960, chat_template_args={"enable_thinking": True}
    )
    own = ["--rerank.chat_template_args", "{enable_thinking: null, other: 1}"]
    assert openai("reasonrank", "--rerank.model", "reasonrank-8b", *own).engine.model.chat_template_args == {"other": 1}
    assert openai("reasonrank", "--rerank.model", "any").engine.model == Model("any", "any")


@pytest.mark.parametrize("flag", ["adapter", "revision"])
def test_what_a_server_can_not_be_told_is_refused(flag: str) -> None:
    with pytest.raises(UsageError) as error:
        openai("reasonrank", "--rerank.model", "m", f"--rerank.{flag}", "org/thing")
    assert str(error.value) == (
        f"--rerank.{flag} org/thing is for engines that load the model: let the server serve it under a name of "
        "its own, and pass that name with --rerank.model"
    )


# --- every flag arrives

GENERAL: list[tuple[str, str, Any]] = [
    ("prompt", "listwise", "listwise"),
    ("model", "org/model", "org/model"),
    ("checkpoint", "x", "x"),
    ("revision", "abc", "abc"),
    ("adapter", "org/lora", "org/lora"),
    ("tokenizer", "t", "t"),
    ("max_model_len", "4096", 4096),
    ("keep", "relevant", "relevant"),
    ("threshold", "0.25", 0.25),
    ("depth", "7", 7),
    ("passage_tokens", "33", 33),
    ("query_tokens", "44", 44),
    ("instruction", "a proof of {query}", "a proof of {query}"),
    ("bos", "true", True),
    ("tag", "mine", "mine"),
    ("on_error", "keep", "keep"),
    ("max_bad", "0.05", 0.05),
    ("strict", "true", True),
    ("overwrite", "true", True),
    ("collection", "bright", "bright"),
    ("docid_blanks", "_", "_"),
    ("topics", "originals.tsv", "originals.tsv"),
    ("exclude", "bright-aops", "bright-aops"),
    ("corpus", "c.jsonl", "c.jsonl"),
    ("journal", "j.sqlite", "j.sqlite"),
]


def test_the_list_of_general_flags_is_whole() -> None:
    trees = {
        "name",
        "about",
        "as_",  # tested below, under the name of its flag
        "judge",
        "strategy",
        "engine",
        "sampling",
        "chat_template_args",
        "combine",
        "arms",
        "fuse",
        "passage",
        "segments",  # tests/rerankers/test_long_documents.py
    }
    assert {name for name, _, _ in GENERAL} == set(Settings.model_fields) - trees


@pytest.mark.parametrize(("name", "text", "value"), GENERAL)
def test_general_flags(name: str, text: str, value: Any) -> None:
    made = settings("reasonrank", "--rerank.engine.name", "openai", f"--rerank.{name}", text)
    assert getattr(made, name) == value


SAMPLING = {
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 5,
    "min_p": 0.1,
    "max_tokens": 77,
    "seed": 3,
    "stop": ["END", "x"],
}


def test_sampling_flags_reach_the_engine() -> None:
    assert set(SAMPLING) == set(SamplingSettings.model_fields)
    words = [word for name, value in SAMPLING.items() for word in (f"--rerank.sampling.{name}", str(value))]
    made: Any = plan(
        settings("reasonrank", "--rerank.engine.name", "oracle", *words, "--rerank.sampling.repetition_penalty", "1.1")
    )
    sampling = made.judge.sampling
    assert {name: getattr(sampling, name) for name in SAMPLING} == SAMPLING | {"stop": ("END", "x")}
    assert sampling.extra == {"repetition_penalty": 1.1}


SHUFFLED = {"shuffle": True, "seed": 5, "repair": "close", "votes": 3, "constrain": True}
WRITTEN = SHUFFLED | {"tags": False, "thought_tokens": 5}
OTHER: dict[str, dict[str, Any]] = {
    "judge permutation": WRITTEN
    | {"identifiers": "digits", "untagged": "mention_order", "form": "lines", "parser": "reasonrank"},
    "judge first_token": SHUFFLED | {"apart": True},
    "judge best_token": SHUFFLED | {"apart": True},
    "judge score": SHUFFLED
    | {"scale": "0-10", "think": False, "opening": "", "thought_tokens": 5, "parser": "rank1"}
    | {"answers": ("1", "0"), "value": "difference", "sigmoid": 2.5},
    "judge bisection": SHUFFLED | {"think": False, "thought_tokens": 5},
    "judge best": WRITTEN | {"parser": "rank-r1"},
    "judge select": WRITTEN,
    "judge worst": WRITTEN | {"drop": 2, "match": "name", "labels": "places", "parser": "iranker"},
    "judge rating": WRITTEN | {"top": 10, "parser": "retro-star"},
    "judge grades": WRITTEN | {"form": "json", "parser": "grouprank"},
    "judge likelihood": SHUFFLED,
    "strategy sliding": {"window_size": 6, "stride": 2, "passes": 3},
    "strategy full": {},
    "strategy pivot": {"window_size": 6, "k": 2, "rounds": 3},
    "strategy blitzrank": {"window_size": 6, "k": 2},
    "strategy acurank": {"window_size": 6, "k": 2, "tolerance": 0.05, "uncertain": 4, "calls": 9},
    "strategy tournament": {"window_size": 12, "tournaments": 3, "seed": 5},
    "strategy heapsort": {"children": 4, "k": 2},
    "strategy bubblesort": {"children": 4, "k": 2, "both_orders": True},
    "strategy allpairs": {},
    "strategy elimination": {"window_size": 6},
    "strategy pointwise": {},
    "strategy staged": {"k": 4, "samples": 3},
    "strategy groups": {"window_size": 6, "rounds": 2, "seed": 5},
    "engine openai": {
        "concurrency": 9,
        "base_url": "http://x",
        "max_retries": 2,
        "timeout": 5.0,
        "server": "sglang",
        "continue_final_message": True,
        "structured_outputs": "vllm",
        "top_logprobs": 40,
        "generative_scoring": False,
        "rename": {"max_tokens": "max_completion_tokens"},
        "drop": ("temperature", "top_p"),
    },
    "engine vllm": {"concurrency": 9, "args": {"tensor_parallel_size": 2}},
    "engine transformers": {
        "concurrency": 9,
        "device": "cpu",
        "args": {"dtype": "float16"},
        "batching": {"num_blocks": 9},
    },
    "engine recorded": {
        "concurrency": 9,
        "path": "answers.jsonl",
        "where": {"run": "first"},
        "call_field": "number",
    },
    "engine ray": {
        "concurrency": 9,
        "of": "transformers",
        "replicas": 2,
        "gpus": 0.5,
        "cpus": 3,
        "resources": {"fast": 1.0},
        "placement": "DEFAULT",
        "address": "auto",
        "retries": 4,
        "wait": 60.0,
        "init": {"object_store_memory": 80000000},
    },
    "engine oracle": {"concurrency": 9, "qrels": "q.txt", "tokenizer": "tokenizer.json"},
    "engine faulty": {
        "concurrency": 9,
        "inner": {"name": "recorded", "path": "p"},
        "faults": {"empty": 0.25},
        "seed": 4,
        "seconds": 0.5,
        "dies_after": 2,
    },
}


def declared(what: str) -> dict[str, Any]:
    """The settings of a judge, strategy or engine, with their defaults."""
    kind, name = what.split()
    model: type[BaseModel]
    if kind == "judge":
        model = JUDGES[name].Options
    elif kind == "strategy":
        model = options_model(STRATEGIES[name].function)
    else:
        model = engine_class(name).options_class
    fields = {field: info.get_default(call_default_factory=True) for field, info in model.model_fields.items()}
    if kind == "engine":
        assert fields.pop("deterministic") is False  # most engines reject it: the test below
    return fields


def test_the_list_of_other_flags_is_whole() -> None:
    kinds: dict[str, Iterable[str]] = {"judge": JUDGES, "strategy": STRATEGIES, "engine": ENGINES}
    assert set(OTHER) == {f"{kind} {name}" for kind, names in kinds.items() for name in names}


@pytest.mark.parametrize("what", list(OTHER))
def test_flags_of_judges_strategies_and_engines(what: str) -> None:
    kind, name = what.split()
    given = OTHER[what]
    assert given.keys() == declared(what).keys()
    assert all(given[field] != default for field, default in declared(what).items())
    tree = flags(*(word for field, value in given.items() for word in (f"--rerank.{kind}.{field}", _typed(value))))
    if kind == "engine":
        arrived = build_engine(name, tree.get(kind, {}), Model("m", "m")).options.model_dump()
        assert arrived.pop("deterministic") is False
    else:
        judges = {name} if kind == "judge" else STRATEGIES[name].judges
        reranker = next(
            (n for n in rerankers.names() if rerankers.read(n).get("judge", {}).get("kind") in judges), "tourrank"
        )
        key, prompt = "kind" if kind == "judge" else "name", {"prompt": "select"} if name == "select" else {}
        other = prompt | ({"sampling": {"temperature": 1.0}} if name == "staged" else {})
        made = plan(*layers.load(reranker, {kind: {key: name} | tree.get(kind, {})} | ORACLE | other))
        assert isinstance(made, SinglePlan)
        arrived = made.judge.options.model_dump() if kind == "judge" else made.options
    assert arrived == given


def test_the_flag_for_deterministic_answers_arrives_also_in_replicas() -> None:
    tree = flags("--rerank.engine.deterministic", "true")["engine"]
    assert build_engine("oracle", tree, Model("m", "m")).options.deterministic
    on_ray = {**tree, "of": "transformers", "name": "ray", "replicas": 2}
    assert local_engine(on_ray) == {"name": "transformers", "deterministic": True}


def _typed(value: Any) -> str:
    if isinstance(value, str):
        return value
    value = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump(value, default_flow_style=True, width=999).removesuffix("...\n").strip()


def test_help_names_every_flag_there_is() -> None:
    text = search_help("python -m pyserini.search", everything=True)
    names = [name for name, _, _ in GENERAL] + list(SAMPLING)
    names += [field for kind in JUDGES for field in JUDGES[kind].Options.model_fields]
    names += [field for entry in STRATEGIES.values() for field in options_model(entry.function).model_fields]
    names += [field for engine in ENGINES for field in engine_class(engine).options_class.model_fields]
    assert [name for name in names if not re.search(rf"^  --rerank\.(\w+\.)*{name} ", text, re.MULTILINE)] == []
    for word in (*JUDGES, *STRATEGIES, *ENGINES, *rerankers.names()):
        assert word in text


# --- errors


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ("--rerank.dept 5", "--rerank.dept is not known; did you mean 'depth'?"),
        ("--rerank.zzz 5", "--rerank.zzz is not known; known: "),
        ("--rerank.depth 0", "--rerank.depth 0: input should be greater than or equal to 1"),
        ("--rerank.depth many", "--rerank.depth 'many': input should be a valid integer"),
        ("--rerank.depth 1.5", "--rerank.depth 1.5: input should be a valid integer"),
        ("--rerank.on_error ignore", "--rerank.on_error 'ignore': input should be 'fail' or 'keep'"),
        ("--rerank.max_bad 5", "--rerank.max_bad 5: input should be less than or equal to 1"),
        ("--rerank.sampling.temperature hot", "--rerank.sampling.temperature 'hot': input should be a valid number"),
        ("--rerank.sampling.temprature 0", "--rerank.sampling.temprature is not known; did you mean 'temperature'?"),
        ("--rerank.sampling.max_token 5", "--rerank.sampling.max_token is not known; did you mean 'max_tokens'?"),
        ("--rerank.strategy.windowsize 5", "--rerank.strategy.windowsize is not known; did you mean 'window_size'?"),
        (
            "--rerank.strategy.window_size 1",
            "--rerank.strategy.window_size 1: input should be greater than or equal to 2",
        ),
        ("--rerank.strategy.stride 21", "stride 21 is larger than window_size 20"),
        ("--rerank.strategy.stride 20", "stride 20 equals window_size 20: windows do not overlap"),
        ("--rerank.strategy.window_size 4 --rerank.strategy.stride 4", "stride 4 equals window_size 4: windows do not"),
        ("--rerank.strategy.name slidding", "--rerank.strategy.name 'slidding' is not known; did you mean 'sliding'?"),
        (
            "--rerank.judge.kind permutations",
            "--rerank.judge.kind 'permutations' is not known; did you mean 'permutation'?",
        ),
        ("--rerank.judge.tag true", "--rerank.judge.tag is not known; did you mean 'tags'?"),
        (
            "--rerank.judge.identifiers letters",
            "--rerank.judge.identifiers 'letters': input should be 'brackets' or 'digits'",
        ),
        (
            "--rerank.strategy.name heapsort",
            "the heapsort strategy needs a judge of kind best or best_token, not permutation",
        ),
        ("--rerank.engine.name oracel", "there is no engine 'oracel'; did you mean 'oracle'?"),
        ("--rerank.engine.name faulty --rerank.engine.inner oracle", "--rerank.engine.inner has keys of its own"),
        ("--rerank.engine.qrel q", "--rerank.engine.qrel is not known; did you mean 'qrels'?"),
        ("--rerank.engine.concurrency 0", "--rerank.engine.concurrency 0: input should be greater than or equal to 1"),
        ("--rerank.engine oracle", "--rerank.engine.name oracle"),
        ("--rerank.strategy full", "--rerank.strategy.name full"),
        ("--rerank.judge score", "--rerank.judge.kind score"),
        ("--rerank.fuse rrf", "--rerank.fuse.method rrf"),
        ("--rerank.segments 200", "--rerank.segments.tokens 200"),
        ("--rerank.sampling 3", "--rerank.sampling has keys of its own: --rerank.sampling.temperature, "),
        ("--rerank.passage full", "--rerank.passage has keys of its own: --rerank.passage.template, "),
        ("--rerank.chat_template_args x", "has keys of its own: --rerank.chat_template_args.NAME"),
        ("--rerank.sampling.temperature inf", "--rerank.sampling.temperature 'inf': input should be a finite number"),
        ("--rerank.sampling.repetition_penalty .nan", "it contains NaN or infinity, which no engine takes"),
        ("--rerank.sampling.stop END", "--rerank.sampling.stop 'END'"),
        (
            "--rerank.prompt listwise-reasonin",
            "there is no prompt 'listwise-reasonin'; did you mean 'listwise-reasoning'?",
        ),
        (
            "--rerank.prompt relevant-reasoning",
            "prompt relevant-reasoning is for a judge of kind score, not permutation",
        ),
        ("--rerank.config none.yaml", "--rerank.config none.yaml does not exist"),
        ("--rerank.depth.x 5 --rerank.depth 5", "--rerank.depth"),
        ("--rerank.depth 5 --rerank.depth.x 5", "--rerank.depth.x and --rerank.depth can't both be given"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(argv: str, says: str) -> None:
    own = (
        []
        if "--rerank.engine" in argv and "qrel" not in argv and "concurr" not in argv
        else ["--rerank.engine.name", "oracle"]
    )
    with pytest.raises(UsageError) as error:
        plan(*layers.load("reasonrank", flags(*own, *argv.split())))
    assert says in str(error.value)
    assert "\n" not in str(error.value)
    assert "pydantic" not in str(error.value)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("smollm2", "there is no model 'smollm2': it is neither a folder nor a hub id; did you mean 'smollm2-135m'?"),
        ("./no/folder", "there is no model './no/folder': it is neither a folder nor a hub id; known: "),
    ],
)
def test_an_unknown_model_is_refused(model: str, says: str) -> None:
    with pytest.raises(UsageError, match=re.escape(says)):
        plan(settings("reasonrank", "--rerank.engine.name", "transformers", "--rerank.model", model))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[1, 2]", "mine.yaml does not contain a YAML mapping"),
        ("a: [", "mine.yaml, line 1, column 5: invalid YAML"),
        ("", "mine.yaml does not contain a YAML mapping"),
        ("dept: 3", "--rerank.dept is not known"),
        ("engine: oracle", "--rerank.engine.name oracle"),
    ],
)
def test_a_settings_file_that_is_none(tmp_path: Path, content: str, says: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(content)
    with pytest.raises(UsageError, match=re.escape(says)):
        settings("reasonrank", "--rerank.config", str(file))


def test_an_unknown_reranker_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="there is no reranker 'reasonrnk'; did you mean 'reasonrank'"):
        layers.load("reasonrnk", {})


def test_a_judge_that_needs_probabilities_is_refused_where_the_engine_has_none() -> None:
    with pytest.raises(
        UsageError, match="the score judge needs log-probabilities of given answers, which the recorded"
    ):
        plan(settings("rank1", "--rerank.engine.name", "recorded"))
    with pytest.raises(UsageError, match=r"set --rerank\.engine\.continue_final_message true"):
        plan(settings("rank1", "--rerank.engine.name", "openai"))
    plan(settings("rank1", "--rerank.engine.name", "openai", "--rerank.engine.continue_final_message", "true"))


def test_the_likelihood_of_a_query_is_more_than_a_server_tells() -> None:
    continuing = ["--rerank.engine.continue_final_message", "true"]
    with pytest.raises(UsageError) as error:
        plan(settings("upr", "--rerank.engine.name", "openai", "--rerank.model", "m", *continuing))
    assert str(error.value) == (
        "the likelihood judge needs the log-probability of a whole text, which the openai engine does not support; the "
        "engines vllm and transformers support it"
    )
    plan(settings("upr", "--rerank.engine.name", "oracle"))


@pytest.mark.skipif(not find_spec("torch"), reason="the embedded model is converted with PyTorch")
@pytest.mark.parametrize("name", ["upr", "zerank"])
def test_transformers_measures_likelihoods_and_logits(name: str) -> None:
    plan(settings(name, "--rerank.engine.name", "transformers", "--rerank.model", "smollm2-135m"))


@pytest.mark.parametrize(
    "engine", ["transfromers", "faulty --rerank.engine.inner.name no-such", "ray --rerank.engine.of no-such"]
)
def test_the_engine_is_checked_before_a_model_is_downloaded(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*_: object, **__: object) -> None:
        raise AssertionError("the model was asked for")

    monkeypatch.setattr(embedded, "ensure_embedded", download)
    with pytest.raises(UsageError, match="there is no engine"):
        plan(settings("upr", "--rerank.engine.name", *engine.split()))


def test_a_logit_is_more_than_a_server_tells() -> None:
    continuing = ["--rerank.engine.continue_final_message", "true"]
    with pytest.raises(UsageError) as error:
        plan(settings("zerank", "--rerank.engine.name", "openai", "--rerank.model", "m", *continuing))
    assert str(error.value) == (
        "the score judge needs logits of given answers (not log-probabilities), which the openai engine does not support; "
        "the engines vllm and transformers support it"
    )
    plan(settings("zerank", "--rerank.engine.name", "oracle"))


def test_vllm_reports_either_logits_or_log_probabilities() -> None:
    local, raw = ["--rerank.engine.name", "vllm", "--rerank.model", "m/m"], "--rerank.engine.args.logprobs_mode"
    with pytest.raises(
        UsageError, match=r"the vllm engine does not support; set --rerank\.engine\.args\.logprobs_mode raw_"
    ):
        plan(settings("zerank", *local))
    with pytest.raises(UsageError, match=r"does not support; leave out --rerank\.engine\.args\.logprobs_mode"):
        plan(settings("rank1", *local, raw, "raw_logits"))
    assert build_engine("vllm", {"args": {"logprobs_mode": "raw_logits"}}, Model("m", "m")).capabilities >= {
        Capability.LOGITS
    }


def test_nearest_or_all() -> None:
    assert nearest("ab", ["abc", "xyz"]) == "; did you mean 'abc'?"
    assert nearest("q", ["abc", "xyz"]) == "; known: abc, xyz"


def test_tags_have_no_blanks() -> None:
    made = settings("reasonrank", "--rerank.engine.name", "oracle")
    assert made.run_tag("/models/my model/") == "reasonrank-my_model"
    assert settings("reasonrank", "--rerank.engine.name", "oracle", "--rerank.tag", "mine").run_tag("m") == "mine"


def test_help_names_the_values_of_every_choice() -> None:
    text = search_help("python -m pyserini.search", everything=True)
    for values in (
        "none | min-max | z-score | rrf",
        "true-false | yes-no | 0-10",
        "label | name | model",
        "fail | keep",
    ):
        assert values in text
    assert "<class" not in text


# --- as published


def as_published(name: str, *words: str) -> Settings:
    return settings(name, "--rerank.as", "published", *words)


@pytest.mark.parametrize(
    ("name", "model", "parser"),
    [
        ("reasonrank", "reasonrank-7b", "reasonrank"),
        ("reasonrank", "liuwenhan/reasonrank-32B", "reasonrank"),
        ("reasonrank", "reasonrank-8b", "reasonrank"),
        ("rank-r1", "rank-r1-14b", "rank-r1"),
        ("setwise", "setwise-sft-7b", "setwise-sft"),
    ],
)
def test_as_published_reads_answers_as_the_release_does(
    name: str, model: str, parser: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "missing", lambda source: None)
    made = as_published(name, "--rerank.model", model)
    assert (
        made.prompt
        == known_models()[made.model if made.model in known_models() else "reasonrank-32b"].settings["prompt"]
    )
    assert (made.judge["parser"], made.judge["repair"], made.as_) == (parser, "none", "published")
    careful = settings(name, "--rerank.model", model)
    assert careful == settings(name, "--rerank.model", model, "--rerank.as", "careful")
    assert careful == settings(name, "--rerank.model", model, "--rerank.as", "null")
    assert not {"parser", "repair"} & careful.judge.keys()


def test_flags_and_the_file_go_over_what_is_published(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("as: published\njudge: {repair: close}\n")
    made = settings("reasonrank", "--rerank.config", str(file), *ORACLE_WORDS, "--rerank.judge.parser", "careful")
    assert made.judge == {"kind": "permutation", "tags": True, "parser": "careful", "repair": "close"}


def test_an_engine_without_a_model_answers_for_the_rerankers_checkpoint_or_the_named_model() -> None:
    assert as_published("reasonrank", *ORACLE_WORDS).judge["parser"] == "reasonrank"
    assert as_published("setwise", *ORACLE_WORDS, "--rerank.model", "rank-r1-3b").judge["parser"] == "rank-r1"


@pytest.mark.parametrize(
    ("name", "words", "says"),
    [
        ("reasonrank", "--rerank.model smollm2-135m", "for model smollm2-135m; for questions of kind permutation they"),
        ("reasonrank", "--rerank.engine.name openai", "for model auto; .* are known for: reasonrank-7b, "),
        ("rank-r1", "--rerank.model qwen2.5-7b-instruct", "for model qwen2.5-7b.*: rank-r1-3b, .*setwise-sft-14b$"),
        ("orderchain", "--rerank.engine.name oracle", "kind bisection they are known for: no model$"),
        (
            "aor",
            "--rerank.engine.name oracle --rerank.arms.critic.as published",
            r"--rerank\.arms\.critic\.as published: no published settings",
        ),
    ],
)
def test_a_model_without_a_release_is_refused_with_those_that_have_one(name: str, words: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        as_published(name, *words.split())


@pytest.mark.parametrize(
    ("name", "words", "expected"),
    [
        ("erank", "", {"passage_tokens": 2048}),
        (
            "grouprank",
            "",
            {
                "strategy.rounds": 6,
                "strategy.window_size": 20,
                "judge.form": "json",
                "judge.parser": "grouprank",
                "passage.characters": 3000,
                "passage.defuse": "none",
                "sampling.temperature": 0.3,
                "sampling.max_tokens": 8000,
            },
        ),
        (
            "retro-star",
            "",
            {
                "strategy.name": "staged",
                "strategy.k": 30,
                "strategy.samples": 16,
                "judge.parser": "retro-star",
                "passage.whitespace": "keep",
                "sampling.top_k": 40,
            },
        ),
        ("first", "", {"passage_tokens": None, "passage.words": 300, "passage.defuse": "letters"}),
        (
            "rank1",
            "",
            {"passage_tokens": None, "passage.whitespace": "keep", "judge.opening": " ", "judge.parser": "rank1"},
        ),
        ("setwise", "", {"strategy.children": 2, "strategy.k": 10}),
        ("setwise", "--rerank.model setwise-sft-3b", {"strategy.children": 19, "judge.parser": "setwise-sft"}),
        ("prp", "", {"strategy.name": "bubblesort", "strategy.children": 1, "strategy.both_orders": True}),
        ("tourrank", "", {"strategy.tournaments": 10, "strategy.window_size": 20, "judge.kind": "select"}),
        ("aor", "", {"combine.samples": 20, "combine.step": 5, "combine.limit": 40, "arms.critic.as_": "careful"}),
        ("aor", "", {"arms.ranker.as_": "published", "arms.ranker.judge.parser": "reasonrank"}),
        ("coranking", "", {"combine.keep": 20, "combine.adjust": "none"}),
        ("iranker", "", {"strategy.window_size": None, "judge.labels": "places", "judge.parser": "iranker"}),
        (
            "iranker",
            "",
            {"sampling.top_p": 0.7, "sampling.max_tokens": 1024, "sampling.stop": ("</s>", "<|endoftext|>")},
        ),
        ("rankgpt", "", {"prompt": "rank_llm:rank_gpt_template", "passage.words": 300, "judge.identifiers": "digits"}),
    ],
)
def test_the_published_figures_are_presets_that_flags_override(
    name: str, words: str, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    made = as_published(name, *ORACLE_WORDS, *words.split())
    for path, value in expected.items():
        found: Any = made
        for part in path.split("."):
            found = found[part] if isinstance(found, dict) else getattr(found, part)
        assert found == value, path
    assert plan(made).settings.as_ == "published"
    assert as_published(name, *ORACLE_WORDS, *words.split(), "--rerank.depth", "7").depth == 7


def test_as_published_needs_the_published_prompt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("REASONRANK_CACHE", str(tmp_path))
    for name, model, file in (
        ("reasonrank", "reasonrank-8b", "listwise_prompt_r1.toml"),
        ("rank-r1", "rank-r1-7b", "prompt_setwise-R1.toml"),
        ("rank1", "rank1-7b", "rank1.py"),
        ("first", "first-zephyr-7b", "rank_listwise_os_llm.py"),
        ("iranker", "qwen2.5-7b-instruct", "eval_passage.py"),
        ("grouprank", "diver-grouprank-7b", "rerank_groupwise.py"),
        ("retro-star", "retro-star-qwen3-8b", "reranker_sglang.py"),
    ):
        with pytest.raises(UsageError) as error:
            as_published(name, "--rerank.model", model)
        assert re.match(
            rf"--rerank\.as published needs the prompt \S+, which is unavailable: .*/{file} ", str(error.value)
        )
        assert f"put the file at {tmp_path}/prompts/" in str(error.value)
        assert as_published(name, "--rerank.model", model, "--rerank.prompt", "mine.yaml").prompt == "mine.yaml"


@pytest.mark.parametrize(
    ("name", "model", "bos"),
    [
        ("rankgpt", "rank-zephyr-7b", True),
        ("first", "first-zephyr-7b", True),
        ("rankgpt", "rank-vicuna-7b", False),  # its chat template writes it
        ("first", "first-mistral-7b", False),
        ("reasonrank", "reasonrank-7b", False),
    ],
)
def test_checkpoints_whose_chat_template_lacks_the_bos_token(name: str, model: str, bos: bool) -> None:
    made = settings(name, "--rerank.model", model, "--rerank.engine.name", "openai")
    assert (made.bos, build(made).model.bos) == (bos, bos)


def test_as_published_needs_what_is_not_public() -> None:
    with pytest.raises(UsageError, match=r"as published: no checkpoint of IRanker is public; set --rerank\.model$"):
        as_published("iranker")
    _, warnings = layers.load("erank", flags("--rerank.as", "published", *ORACLE_WORDS))
    assert [w for w in warnings if "the prompt of ERank is in its paper only" in w]


def test_an_instruction_by_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "missing", lambda source: None)
    monkeypatch.setattr(sources, "missing_instruction", lambda text: None)

    def of(name: str, model: str, *data: str, words: tuple[str, ...] = ()) -> str:
        return layers.load(name, flags("--rerank.model", model, *words), data)[0].instruction

    assert of("rank1", "rank1-7b", "bright-pony") == "rank1:BrightRetrieval_pony"
    assert of("rank1", "rank1-7b", "data/bright/theoremqa_theorems.tsv") == "rank1:BrightRetrieval_theoremqa_questions"
    assert of("rank1", "rank1-7b", "bright-biology") == "rank1:BrightRetrieval"
    assert of("rank1", "rank1-7b", "beir-v1.0.0-trec-covid.flat") == "rank1:TRECCOVID"
    assert of("rank1", "rank1-7b", "msmarco-v1-passage") == ""
    assert of("retro-star", "retro-star-qwen3-8b", "bright-earth-science") == "retro-star:earth_science"
    theorems = of("retro-star", "retro-star-qwen2.5-7b", "data/bright/theoremqa_theorems.tsv")
    assert theorems == "retro-star:theoremqa_theorems"
    assert of("retro-star", "retro-star-qwen3-8b", "biology-questions") == ""
    assert "Pony" in of("erank", "erank-4b", "bright-pony")
    assert of("erank", "erank-4b", "bright-pony", words=("--rerank.instruction", "mine")) == "mine"
    assert of("erank", "erank-4b", "other") == ""


def test_a_published_instruction_that_is_unavailable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("REASONRANK_CACHE", str(tmp_path))
    words = ("--rerank.model", "rank1-7b", "--rerank.collection", "scifact")
    made, warnings = layers.load("rank1", flags(*words))
    assert (made.prompt, made.instruction) == ("relevant-bare", "")
    assert [w for w in warnings if w.startswith("the instruction rank1:SciFact is unavailable (prompt https://")]
    monkeypatch.setattr(sources, "missing", lambda source: None)
    with pytest.raises(UsageError, match=r"needs the instruction rank1:SciFact, which is unavailable: .*prompts\.py"):
        as_published("rank1", *words)


def test_without_its_prompt_a_checkpoint_that_grades_in_json_is_asked_for_json(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("REASONRANK_CACHE", str(tmp_path))
    made, warnings = layers.load("grouprank", flags("--rerank.model", "diver-grouprank-32b"))
    assert (made.prompt, made.judge["form"], made.strategy) == (
        "grades-json",
        "json",
        {"name": "groups", "window_size": 20},
    )
    assert [w for w in warnings if w.startswith("the prompt grouprank that diver-grouprank-32b was trained with")]
    made, _ = layers.load("retro-star", flags("--rerank.model", "retro-star-qwen3-8b"))
    assert (made.prompt, made.judge) == ("rating-reasoning", {"kind": "rating"})


@pytest.mark.parametrize(
    ("name", "words", "says"),
    [
        ("retro-star", "--rerank.sampling.temperature 0", "the staged strategy would ask the same question every time"),
        (
            "upr",
            "--rerank.strategy.name staged",
            "the likelihood judge reads the same probabilities each time: set --rer",
        ),
        (
            "rank1",
            "--rerank.strategy.name staged --rerank.judge.think false --rerank.sampling.temperature 1",
            r"the score judge reads the same probabilities each time: set --rerank\.strategy\.name pointwise$",
        ),
        ("rank1", "--rerank.strategy.name staged --rerank.strategy.samples 129", "less than or equal to 128"),
    ],
)
def test_samples_that_can_not_differ_are_refused(name: str, words: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        plan(settings(name, *ORACLE_WORDS, *words.split()))


def test_any_judge_of_one_passage_that_writes_can_be_sampled_in_stages() -> None:
    words = "--rerank.strategy.name staged --rerank.sampling.temperature 1 --rerank.depth 40"
    costs = [estimate(plan(settings(n, *ORACLE_WORDS, *words.split())), 40) for n in ("rank1", "erank", "orderchain")]
    assert [cost.questions for cost in costs] == [40 + 30 * 16] * 3
    assert [(cost.calls, cost.chain) for cost in costs] == [(1040, 4), (1040, 4), (4160, 4)]


def test_an_instruction_that_the_prompt_does_not_show_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"prompt relevant-reasoning does not show an instruction: write \{query\} into"
    ):
        plan(settings("rank1", *ORACLE_WORDS, "--rerank.instruction", "proofs only"))
    plan(settings("rank1", *ORACLE_WORDS, "--rerank.instruction", "proofs of {query}"))
    plan(settings("erank", *ORACLE_WORDS, "--rerank.instruction", "proofs only"))


def test_as_published_applies_to_every_arm_or_to_one() -> None:
    arms = as_published("coranking", *ORACLE_WORDS).arms
    assert [arm.judge["parser"] for arm in arms.values()] == ["reasonrank", "reasonrank"]
    arms = settings("coranking", *ORACLE_WORDS, "--rerank.arms.small.as", "published").arms
    assert [arm.judge.get("parser") for arm in arms.values()] == ["reasonrank", None]


def test_another_value_of_as_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--rerank\.as 'trained': input should be 'careful' or 'published'"):
        settings("reasonrank", "--rerank.as", "trained", *ORACLE_WORDS)


ORACLE_WORDS = ["--rerank.engine.name", "oracle", "--rerank.engine.qrels", "q"]
