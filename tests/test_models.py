"""Known checkpoints: entries that can be used, what they bring to a reranker, and what changes with the collection."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyserini_reasonrank import config
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.judges.registry import JUDGES
from pyserini_reasonrank.models import Known, known_models, resolve
from pyserini_reasonrank.presets import for_collection
from pyserini_reasonrank.prompts import sources
from pyserini_reasonrank.settings import Settings
from pyserini_reasonrank.suggest import validated

KNOWN = known_models()
PUBLISHED = [name for name, known in KNOWN.items() if known.reranker in config.rerankers()]


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("REASONRANK_CACHE", str(tmp_path))


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_checkpoints_settings_suit_the_reranker_it_was_published_with(name: str) -> None:
    known = KNOWN[name]
    own = config.reranker(str(known.reranker))
    made = validated(Settings, config.merge(own, known.brings(own)), "--rerank")
    assert made.judge["kind"] == known.kind
    judge = {key: value for key, value in made.judge.items() if key != "kind"}
    JUDGES[str(known.kind)].Options.model_validate(judge)
    for settings in known.collections.values():
        validated(Settings, settings, "--rerank")


@pytest.mark.parametrize("name", [name for name in KNOWN if "prompt" in KNOWN[name].settings])
def test_a_checkpoints_own_prompt_is_for_its_questions(name: str) -> None:
    prompt = KNOWN[name].settings["prompt"]
    if sources.available(prompt):
        assert sources.load(prompt).contract == KNOWN[name].kind
    else:
        assert sources.published()[prompt].origin.startswith("https://")


@pytest.mark.parametrize("name", list(KNOWN))
def test_an_entry_is_whole(name: str) -> None:
    known = KNOWN[name]
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


def test_anothers_adapter_over_a_known_base() -> None:
    assert resolve("rank-r1-7b", revision=None, adapter="my/adapter", context=None).adapter == "my/adapter"


def test_an_adapters_own_name_is_not_the_models() -> None:
    with pytest.raises(UsageError, match="did you mean 'rank-r1-7b'"):
        resolve("rank-r17b", revision=None, adapter=None, context=None)


def test_settings_of_a_strategy_go_over_the_same_strategy_only() -> None:
    strategy = {"name": "heapsort", "children": 9}
    known = Known(about="", source="a/b", parameters=1, settings={"depth": 5, "strategy": strategy})
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


def test_reasonrank_shows_more_of_brights_passages() -> None:
    known = KNOWN["reasonrank-7b"]
    assert for_collection(known.collections, ["bright-aops"]) == ("bright", {"passage_tokens": 512})
    assert config.reranker("reasonrank")["passage_tokens"] == 100
