"""Known checkpoints: entries that can be used, what they bring to a reranker, and what changes with the collection."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from pyserini_reasonrank.errors import UsageError, validated
from pyserini_reasonrank.judges.registry import JUDGES
from pyserini_reasonrank.models.catalogue import Known, entry, known_models, resolve
from pyserini_reasonrank.models.collections import for_collection
from pyserini_reasonrank.prompts import sources
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.settings import layers, rerankers
from pyserini_reasonrank.settings.overlay import merge
from pyserini_reasonrank.settings.schema import Settings

KNOWN = known_models()
PUBLISHED = [name for name, known in KNOWN.items() if known.reranker in rerankers.names()]


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("REASONRANK_CACHE", str(tmp_path))


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_checkpoints_settings_suit_the_reranker_it_was_published_with(name: str) -> None:
    known = KNOWN[name]
    own = rerankers.read(str(known.reranker))
    made = validated(Settings, merge(own, known.brings(own)), "--rerank")
    assert made.judge["kind"] == known.kind
    judge = {key: value for key, value in made.judge.items() if key != "kind"}
    JUDGES[str(known.kind)].Options.model_validate(judge)
    for settings in known.collections.values():
        validated(Settings, settings, "--rerank")


@pytest.mark.parametrize("name", [name for name in PUBLISHED if KNOWN[name].published])
def test_what_is_published_of_a_checkpoint_suits_its_reranker(name: str) -> None:
    known = KNOWN[name]
    assert known.published is not None
    own = rerankers.read(str(known.reranker))
    for limits in ({}, *known.published.collections.values()):
        tree = merge(merge(merge(own, known.brings(own)), known.released(own)), limits)
        made = validated(Settings, tree, "--rerank")
        judge = {key: value for key, value in made.judge.items() if key != "kind"}
        JUDGES[str(known.kind)].Options.model_validate(judge)
        assert made.prompt in {*sources.names(), *sources.published()} or made.prompt.startswith(sources.RANK_LLM)


@pytest.mark.parametrize("name", [name for name in KNOWN if "prompt" in KNOWN[name].settings])
def test_a_checkpoints_own_prompt_is_for_its_questions(name: str) -> None:
    prompt = KNOWN[name].settings["prompt"]
    if sources.available(prompt):
        assert sources.load(prompt).contract == KNOWN[name].kind
    else:
        published = sources.published()[prompt]
        origins = [published.origin, *(string.origin or "" for string in published.strings.values())]
        assert any(origin.startswith("https://") for origin in origins)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.model) if KNOWN[name].base == "embedded" else name for name in KNOWN]
)
def test_an_entry_is_whole(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known = KNOWN[name]
    if known.base == "embedded":
        monkeypatch.delenv("REASONRANK_CACHE")  # making the embedded model anew takes a minute
    assert (known.kind is None) == (known.reranker is None)
    assert known.parameters > 0
    assert known.context is not None
    assert known.source == "embedded" or known.source.count("/") == 1
    if known.base == "embedded":
        shipped = resolve(name, revision=None, adapter=None, context=None).adapter
        assert shipped is not None
        assert {"adapter_config.json", "adapter_model.safetensors", "README.md"} <= {
            p.name for p in Path(shipped).iterdir()
        }
    elif known.base is not None:
        model = resolve(name, revision=None, adapter=None, context=None)
        assert (model.source, model.adapter) == (known.base, known.source)


def test_every_entry_is_the_only_one_of_its_hub_ids() -> None:
    for name, known in KNOWN.items():
        assert entry(name) == name
        if known.base != "embedded" and known.source != "embedded":
            assert entry(known.source) == name
            assert known.base is None or entry(known.base, known.source) == name


def test_what_is_no_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert entry("embedded") is entry("adapters/smollm2-135m-rank") is entry("any/model") is entry("word") is None
    assert entry("liuwenhan/reasonrank-7B", kind="permutation") == "reasonrank-7b"
    assert entry("liuwenhan/reasonrank-7B", kind="score") is None
    assert entry("Qwen/Qwen2.5-7B-Instruct", kind="score") == "qwen2.5-7b-instruct"  # trained for no kind
    (tmp_path / "liuwenhan" / "reasonrank-7B").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert entry("liuwenhan/reasonrank-7B") is None


def test_a_checkpoint_that_is_asked_other_questions_is_the_same_model() -> None:
    flags = {"model": "lwhlwh/reasonrank-8B", "engine": {"name": "openai"}}
    ranking, grading = (plan(*layers.load(name, flags)) for name in ("reasonrank", "grouprank"))
    assert ranking.engines[0].model == grading.engines[0].model
    assert ranking.engines[0].model.chat_template_args == {"enable_thinking": True}
    assert (ranking.settings.sampling.temperature, grading.settings.sampling.temperature) == (0.6, 0.0)


def test_an_entry_that_is_named_by_its_id_keeps_that_name() -> None:
    settings = layers.load("rank1", {"model": "jhu-clsp/rank1-7b", "engine": {"name": "transformers"}})[0]
    model = plan(settings, here=False).engines[0].model
    assert (model.name, model.source, model.context) == ("jhu-clsp/rank1-7b", "jhu-clsp/rank1-7b", 16000)
    assert "chat_template" in model.chat_template_args


# --- how its tokens are counted


def counted(model: str, **flags: Any) -> tuple[bool, list[str]]:
    """Whether a served model's tokens are counted exactly, and the warnings."""
    made = plan(*layers.load("reasonrank", {"engine": {"name": "openai"}, "model": model, **flags}))
    return made.parts[""].tokens.exact, list(made.warnings)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("gpt-4o", "no tokenizer.json of gpt-4o (its name is not a hub id)"),
        ("org/model", "no tokenizer.json of org/model (HF_HUB_OFFLINE is set)"),
        ("reasonrank-7b", "no tokenizer.json of liuwenhan/reasonrank-7B (HF_HUB_OFFLINE is set)"),
    ],
)
def test_an_estimate_is_warned_of_once(
    model: str, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    exact, warnings = counted(model)
    assert not exact
    assert warnings == [
        f"passages are truncated by an estimate of three characters per token: {reason}; name a folder that has one with "
        "--rerank.tokenizer"
    ]


def test_so_is_that_of_a_folder_without_one(tmp_path: Path) -> None:
    assert counted(str(tmp_path))[1][0].startswith("passages are truncated by an estimate")


@pytest.mark.parametrize(
    ("model", "weights"),
    [("reasonrank-7b", "liuwenhan/reasonrank-7B"), ("liuwenhan/reasonrank-7B", "liuwenhan/reasonrank-7B")],
)
def test_a_known_name_is_counted_in_the_tokens_of_its_weights(
    model: str, weights: str, tokenizer_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    cached = tmp_path / f"models--{weights.replace('/', '--')}"
    (cached / "snapshots" / "c0ffee").mkdir(parents=True)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("c0ffee")
    shutil.copy(tokenizer_file, cached / "snapshots" / "c0ffee" / "tokenizer.json")
    assert counted(model) == (True, [])


def test_a_model_that_the_server_is_yet_to_name_is_not_warned_of() -> None:
    assert counted("auto") == (False, [])


def test_no_model_reads_what_the_oracle_answers() -> None:
    made = plan(*layers.load("reasonrank", {"engine": {"name": "oracle", "qrels": "q"}}))
    assert (made.parts[""].tokens.exact, made.warnings) == (False, ())


def test_anothers_adapter_over_a_known_base() -> None:
    assert resolve("rank-r1-7b", revision=None, adapter="my/adapter", context=None).adapter == "my/adapter"


def test_an_adapters_own_name_is_not_the_models() -> None:
    with pytest.raises(UsageError, match="did you mean 'rank-r1-7b'"):
        resolve("rank-r17b", revision=None, adapter=None, context=None)


def test_settings_of_a_strategy_go_over_the_same_strategy_only() -> None:
    strategy = {"name": "heapsort", "children": 9}
    known = Known(about="", source="a/b", parameters=1, cache=1, settings={"depth": 5, "strategy": strategy})
    assert known.brings({"strategy": {"name": "heapsort", "children": 19}}) == {"depth": 5, "strategy": strategy}
    assert known.brings({"strategy": {"name": "allpairs"}}) == {"depth": 5}
    assert known.brings({}) == {"depth": 5}


COLLECTIONS = {"bright": {"passage_tokens": 512}, "r2med": {"passage_tokens": 256}}


@pytest.mark.parametrize(
    ("names", "collection"),
    [
        (["bright-biology", "bright-biology"], "bright"),
        (["msmarco-v1-passage", "dl19-passage"], None),
        (["indexes/lucene", "data/bright/biology.tsv"], "bright"),
        (["R2MED_PMC-Treatment.jsonl"], "r2med"),
        (["/home/bright/collections/cacm/topics.tsv"], None),
        (["brightness-topics.tsv"], None),
        (["r2med-topics.tsv", "bright-index"], "bright"),
        ([], None),
    ],
)
def test_the_collection_is_a_word_of_the_names(names: list[str], collection: str | None) -> None:
    assert for_collection(COLLECTIONS, names) == (collection, COLLECTIONS.get(collection or "", {}))


def test_a_collection_of_several_words_needs_all_of_them() -> None:
    collections = {"bright-earth-science": {"depth": 1}, "bright": {"depth": 2}}
    for names, found in (
        (["bright-earth-science"], "bright-earth-science"),
        (["data/bright/earth_science.tsv"], "bright-earth-science"),
        (["bright-biology"], "bright"),
        (["earth-science"], None),
    ):
        assert for_collection(collections, names) == (found, collections.get(found or "", {}))


def test_reasonrank_shows_more_of_brights_passages() -> None:
    known = KNOWN["reasonrank-7b"]
    assert for_collection(known.collections, ["bright-aops"]) == ("bright", {"passage_tokens": 512})
    assert rerankers.read("reasonrank")["passage_tokens"] == 100
