"""Rewriters: their YAML files and the user's, the layers of their settings, and what they refuse."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from pyserini_reasonrank.errors import UnknownKey, UsageError
from pyserini_reasonrank.models import auto
from pyserini_reasonrank.models.catalogue import known_models
from pyserini_reasonrank.models.devices import Device
from pyserini_reasonrank.prompts import sources
from pyserini_reasonrank.run.known_flags import explained
from pyserini_reasonrank.run.rewriting.plan import planned
from pyserini_reasonrank.settings import rewriters
from pyserini_reasonrank.settings.rewriters import RewriteSettings, lift

ORACLE = ["--rewrite.engine.name", "oracle", "--rewrite.engine.qrels", "q"]


def load(name: str, *words: str) -> RewriteSettings:
    return rewriters.load(name, lift(["--rewrite", name, *words])[1])[0]


@pytest.mark.parametrize("name", rewriters.names())
def test_every_rewriter_can_be_planned_and_has_a_prompt_for_rewriting(name: str) -> None:
    made = planned(name, lift(["--rewrite", name, *ORACLE])[1])
    assert made.part.template.contract == "rewrite"
    assert made.settings.about
    assert made.judge.options.tags == ("<answer>" in made.part.template.reminder)


def test_every_checkpoint_for_rewriting_suits_its_rewriter() -> None:
    for name, known in known_models().items():
        if known.kind == "rewrite":
            own = rewriters.read(str(known.reranker))
            assert own["checkpoint"] == name
            assert known.fallback in sources.names()
            assert sources.published()[known.settings["prompt"]].fields["contract"] == "rewrite"


def test_flags_go_over_the_file_goes_over_the_rewriter(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("originals: 3\nrounds: 2\nsampling: {temperature: 0.3}\n")
    made = load("passage", "--rewrite.config", str(file), "--rewrite.rounds", "4", *ORACLE)
    assert (made.originals, made.rounds, made.sampling.temperature, made.sampling.max_tokens) == (3, 4, 0.3, 512)
    assert load("keywords", *ORACLE).originals == 1


def test_a_rewriter_of_ones_own_starts_from_one_of_ours(tmp_path: Path) -> None:
    prompt = tmp_path / "mine.prompt.yaml"
    prompt.write_text(
        "about: A.\ncontract: rewrite\nmessages: [{role: user, content: 'Better: {{ query }}'}]\nreminder: Again.\n"
    )
    file = tmp_path / "mine.yaml"
    file.write_text("rewriter: keywords\noriginals: 0\nprompt: mine.prompt.yaml\n")
    made = planned(str(file), lift(["--rewrite", str(file), *ORACLE])[1])
    assert (made.settings.name, made.settings.originals, made.part.template.render("Q", []).messages[0].content) == (
        "mine",
        0,
        "Better: Q",
    )


def refused(*words: str) -> str:
    with pytest.raises(UsageError) as error:
        _planned(words)
    return str(error.value)


def _planned(words: Sequence[str]) -> None:
    name, tree, _ = lift(words)
    planned(str(name), tree)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--rewrite", "--rewrite needs the name of a rewriter: inf-query-aligner, keywords"),
        ("--rewrite.rounds 2", "--rewrite needs the name of a rewriter"),
        ("--rewrite keyword", "there is no rewriter 'keyword'; did you mean 'keywords'?"),
        ("--rewrite keywords --rewrite.fuse.method rrf", "--rewrite.fuse is not known"),
        ("--rewrite keywords --rewrite.depht 3", "--rewrite.depht is not known; did you mean 'depth'?"),
        ("--rewrite keywords --rewrite.rounds 0", "--rewrite.rounds 0: input should be greater than or equal to 1"),
        ("--rewrite keywords --rewrite.judge.kind best", "--rewrite.judge.kind 'best': a rewriter's is always rewrite"),
        ("--rewrite keywords --rewrite.judge.votes 3", "--rewrite.judge.votes 3: input should be 1"),
        ("--rewrite keywords --rewrite.prompt listwise", "prompt listwise is for a judge of kind permutation, not rewrite"),
        ("--rewrite keywords --rewrite.engine.name nope", "there is no engine 'nope'"),
        ("--rewrite keywords --rewrite.strict true --rewrite.model smollm2-135m --rewrite.tokenizer nowhere", "tokenizer"),
    ],
)  # fmt: skip
def test_refusals(words: str, says: str) -> None:
    message = refused(*words.split(), *([] if words == "--rewrite" else ORACLE if "engine" not in words else []))
    assert says in message
    assert "--rerank." not in message


def test_an_unknown_key_of_the_engine_names_the_rewriters_flag() -> None:
    with pytest.raises(UnknownKey) as error:
        _planned(["--rewrite", "keywords", *ORACLE, "--rewrite.engine.qrel", "q"])
    assert explained(error.value) == "--rewrite.engine.qrel is not known; did you mean 'qrels'?"


def test_a_model_for_other_questions_is_refused() -> None:
    said = refused("--rewrite", "keywords", "--rewrite.model", "reasonrank-7b")
    assert "was trained to order passages, but keywords asks it to rewrite queries" in said
    assert "--rewrite.model liuwenhan/reasonrank-7B" in said


def test_rounds_need_a_prompt_that_shows_passages(tmp_path: Path) -> None:
    prompt = tmp_path / "blind.yaml"
    prompt.write_text(
        "about: A.\ncontract: rewrite\nmessages: [{role: user, content: '{{ query }}'}]\nreminder: Again.\n"
    )
    words = ["--rewrite", "keywords", "--rewrite.prompt", str(prompt), "--rewrite.rounds", "2", *ORACLE]
    assert "shows no passages, so --rewrite.rounds above 1 would ask the same question again" in refused(*words)


def test_auto_names_what_can_rewrite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto, "device_of", lambda settings: Device("cpu", "the CPU", 0, 0))
    said = refused("--rewrite", "keywords", "--rewrite.engine.name", "transformers")
    assert said.startswith("keywords (--rewrite) needs a GPU: its model qwen2.5-7b-instruct takes ")
    assert "--rewrite.engine.base_url http://HOST:8000/v1 (a model server)" in said
    assert "--rerank" not in said


@pytest.mark.skipif(not find_spec("torch"), reason="the embedded model is converted with PyTorch")
def test_strict_makes_warnings_errors() -> None:
    words = ["--rewrite", "keywords", "--rewrite.model", "smollm2-135m", "--rewrite.engine.name", "transformers"]
    tree: dict[str, Any] = lift(words)[1]
    poor = "smollm2-135m writes poor queries; name another model with --rewrite.model"
    assert poor in planned("keywords", tree).warnings
    with pytest.raises(UsageError, match=r"writes poor queries.*strict true makes warnings errors"):
        planned("keywords", tree, strict=True)
