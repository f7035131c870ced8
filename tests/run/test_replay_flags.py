"""The flags of a packed file: the engine ``recorded`` gets the settings that a run had with its model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pyserini_reasonrank.run.recorded_run import Restored
from pyserini_reasonrank.run.replay_flags import replay_flags
from pyserini_reasonrank.settings import flags, layers
from pyserini_reasonrank.settings.schema import Settings

KEYS = {"judge", "strategy", "sampling", "prompt", "passage", "passage_tokens", "segments", "query_tokens", "instruction", "depth",
        "fuse", "combine", "on_error", "max_bad", "docid_blanks"}  # fmt: skip


class Plan:
    """The part of a plan that is read."""

    tag = "tag"


def deciding(settings: Settings) -> dict[str, Any]:
    arms = {name: deciding(arm) for name, arm in settings.arms.items()}
    return settings.model_dump(include=KEYS) | {"name": settings.name, "arms": arms}


def replayed(name: str, tree: dict[str, Any]) -> tuple[Settings, tuple[str, ...]]:
    """The settings of a run with a model on a server, and the flags that replay it."""
    server = {"engine": {"name": "openai", "base_url": "http://key:secret@localhost/v1", "concurrency": 3}}
    given = server | tree
    settings, _ = layers.load(name, given)
    return settings, replay_flags(Restored(Plan(), settings, name, given, {}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "tree"),
    [
        ("reasonrank", {"model": "reasonrank-7b"}),
        ("reasonrank", {"model": "reasonrank-7b", "as": "published"}),
        ("reasonrank", {"model": "reasonrank-7b", "collection": "beir"}),
        ("rank-r1", {"model": "rank-r1-7b", "depth": 30, "judge": {"votes": 2, "shuffle": True}}),
        ("rank1", {"model": "rank1-7b", "sampling": {"temperature": 0.5, "seed": 3, "stop": ["1", "null", "a b"]}}),
        ("rankgpt", {"model": "rank-vicuna-7b", "as": "published", "fuse": {"method": "rrf", "k": 10}}),
        ("coranking", {"arms": {"small": {"model": "rank1-7b", "reranker": "rank1"}, "large": {"depth": 7}}}),
        ("rank1", {"model": "rank1-7b", "segments": {"tokens": 128, "join": "mean-top-2"}}),
        ("self-consistency", {"combine": {"samples": 7}, "model": "reasonrank-7b"}),
        ("aor", {"arms": {"ranker": {"model": "reasonrank-7b"}}}),
        ("upr", {"judge": {"kind": "score"}, "prompt": "score", "instruction": "1\nsecond line", "docid_blanks": "_"}),
        ("reasonrank", {"strategy": {"name": "full"}, "passage": {"defuse": "none"}, "passage_tokens": 77}),
        ("reasonrank", {"sampling": {"logit_bias": "1", "names": ["x.y"], "a.b": "true"}}),
    ],
)
def test_a_replay_has_the_settings_of_the_run(name: str, tree: dict[str, Any]) -> None:
    settings, words = replayed(name, tree)
    again, own, rest = flags.lift(words)
    assert (again, rest) == (name, [])
    assert (own["engine"], own["tag"]) == ({"name": "recorded"}, "tag")
    assert deciding(layers.load(again, own)[0]) == deciding(settings)
    assert not {"model", "as", "tokenizer", "collection"} & own.keys()
    assert "secret" not in " ".join(words)


def test_files_become_flags_and_paths_become_names(tmp_path: Path) -> None:
    prompt = tmp_path / "mine.yaml"
    prompt.write_text("about: x\ncontract: permutation\nmessages: []\n")
    config = tmp_path / "config.yaml"
    config.write_text(f"depth: 9\nprompt: {prompt}\nstrategy: {{stride: 3}}\n")
    own = tmp_path / "own.yaml"
    own.write_text("reranker: reasonrank\npassage_tokens: 55\n")
    _, words = replayed(str(own), {"config": str(config)})
    assert words[:2] == ("--rerank", "reasonrank")
    given = dict(zip(words[::2], words[1::2], strict=True))
    assert given["--rerank.prompt"] == "mine.yaml"
    assert (given["--rerank.depth"], given["--rerank.strategy.stride"]) == ("9", "3")
    assert given["--rerank.passage_tokens"] == "55"
    assert str(tmp_path) not in " ".join(words)
