"""Dotted flags: what is lifted out of a command line, the types of values, and faults."""

from __future__ import annotations

from typing import Any

import pytest

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.settings.flags import asks_for_text, lift, parse, split, typed
from pyserini_reasonrank.settings.schema import Settings
from pyserini_reasonrank.train.trainers import sft


@pytest.mark.parametrize(
    ("argv", "name", "tree", "rest"),
    [
        ("--index I --rerank reasonrank --topics T", "reasonrank", {}, "--index I --topics T"),
        ("--rerank=reasonrank --bm25", "reasonrank", {}, "--bm25"),
        ("--rerank a --rerank.depth 20 --hits 5", "a", {"depth": 20}, "--hits 5"),
        ("--rerank.depth=20 --rerank a", "a", {"depth": 20}, ""),
        ("--rerank.tag a=b --rerank a", "a", {"tag": "a=b"}, ""),
        ("--rerank.tag=a=b --rerank a", "a", {"tag": "a=b"}, ""),
        ("--rerank.sampling.seed -1", None, {"sampling": {"seed": -1}}, ""),
        ("--fields a=1 b=2 --rerank a", "a", {}, "--fields a=1 b=2"),
        ("--rerankers x --output run", None, {}, "--rerankers x --output run"),
    ],
)
def test_lift(argv: str, name: str | None, tree: dict[str, Any], rest: str) -> None:
    assert lift(argv.split()) == (name, tree, rest.split())


@pytest.mark.parametrize("argv", ["--index I --rerank --topics T", "--index I --rerank", "--rerank -v"])
def test_the_bare_switch_of_faiss_is_left_to_it(argv: str) -> None:
    assert lift(argv.split()) == (None, {}, argv.split())


def test_ours_and_the_bare_switch_side_by_side() -> None:
    words = ["--rerank", "--rerank", "reasonrank", "--rerank.depth", "5", "--rerank"]
    assert lift(words) == ("reasonrank", {"depth": 5}, ["--rerank", "--rerank"])


def test_quoted_words_stay_whole() -> None:
    words = ["--topics", "my topics.tsv", "--rerank", "a", "--rerank.corpus", "my corpus.jsonl", "--title", "", "x\ny"]
    assert lift(words) == (
        "a",
        {"corpus": "my corpus.jsonl"},
        ["--topics", "my topics.tsv", "--title", "", "x\ny"],
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("20", 20),
        ("-1", -1),
        ("0.5", 0.5),
        ("true", True),
        ("False", False),
        ("text", "text"),
        ("", ""),
        ("null", None),
        ("1e-5", 1e-5),
        ("two words", "two words"),
        ("{a: 1, b: [x]}", {"a": 1, "b": ["x"]}),
        ("[</answer>, 1]", ["</answer>", 1]),
        ("{broken", "{broken"),
        ("- x", "- x"),
        ("key: value", "key: value"),
        ("2024-01-31", "2024-01-31"),
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1"),
        ("C:\\run", "C:\\run"),
        ("_", "_"),
        ("0123456", "0123456"),  # a revision, and no octal number
        ("12:30", "12:30"),
        ("1_000", "1_000"),
        ("@x", "@x"),
    ],
)
def test_values_are_read_as_yaml_reads_a_scalar(text: str, value: Any) -> None:
    _, tree, _ = lift(["--rerank.x.y", text])
    assert tree == {"x": {"y": value}}
    assert type(tree["x"]["y"]) is type(value)


@pytest.mark.parametrize("argv", ["--rerank.depth", "--rerank a --rerank.depth"])
def test_a_flag_without_its_value_is_refused(argv: str) -> None:
    with pytest.raises(UsageError, match=r"^--rerank\.depth needs a value$"):
        lift(argv.split())


@pytest.mark.parametrize("words", [["--rerank.tag", "--bm25"], ["--rerank.tag", "--rerank.depth", "5"]])
def test_another_flag_is_not_taken_for_a_value(words: list[str]) -> None:
    with pytest.raises(UsageError, match=r"^--rerank\.tag needs a value$"):
        lift(words)
    assert lift(["--rerank.tag=--bm25"])[1] == {"tag": "--bm25"}


def test_train_flags_are_parsed_alike() -> None:
    words = ["--lora.r", "4", "--lora.alpha=8", "--args.learning_rate", "1e-5", "--model", "1e5", "--output=3"]
    assert parse(words, sft.Config) == {
        "lora": {"r": 4, "alpha": 8},
        "args": {"learning_rate": 1e-5},
        "model": "1e5",
        "output": "3",
    }
    with pytest.raises(UsageError, match=r"^--model needs a value$"):
        parse(["--model", "--output", "x"], sft.Config)
    with pytest.raises(UsageError, match=r"^'model' is not a flag; write --KEY VALUE$"):
        parse(["model", "x"], sft.Config)


def test_the_words_of_our_flags_can_be_had_as_they_are_written() -> None:
    words = ["--queries", "3", "--rerank", "a", "--rerank.depth=007", "--rerank"]
    assert split(words) == ([("--rerank", "a"), ("--rerank.depth", "007")], ["--queries", "3", "--rerank"])


@pytest.mark.parametrize(
    ("path", "is_text"),
    [
        ("tag", True),
        ("revision", True),
        ("on_error", True),
        ("config", True),
        ("fuse.method", True),
        ("arms.small.model", True),
        ("arms.small.arms.x.revision", True),
        ("depth", False),
        ("seed", False),
        ("sampling.seed", False),
        ("sampling.stop", False),
        ("sampling.other", False),
        ("engine.name", False),
        ("chat_template_args.x", False),
        ("arms.small.depth", False),
        ("tag.x", False),
        ("nothing", False),
    ],
)
def test_keys_declared_as_text(path: str, is_text: bool) -> None:
    assert asks_for_text(Settings, path.split(".")) is is_text


@pytest.mark.parametrize("text", ["1e5", "0.50", "007", "true", "[1, 2]", "{a: 1}", "~", "NULL", ""])
def test_a_key_declared_as_text_keeps_what_is_written(text: str) -> None:
    assert lift(["--rerank.tag", text])[1] == {"tag": text}
    assert lift(["--rerank.tag", "null"])[1] == {"tag": None}


@pytest.mark.parametrize(
    ("words", "tree"),
    [
        (["--rerank.x.a", "1", "--rerank.x", "{b: 2}"], {"x": {"a": 1, "b": 2}}),
        (["--rerank.x", "{b: 2}", "--rerank.x.a", "1"], {"x": {"a": 1, "b": 2}}),
        (["--rerank.x", "{a: 1}", "--rerank.x", "{b: 2}"], {"x": {"a": 1, "b": 2}}),
    ],
)
def test_a_mapping_and_its_keys_add_up(words: list[str], tree: dict[str, Any]) -> None:
    assert lift(words)[1] == tree


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--rerank.x.y 1 --rerank.x.y.z 2", "--rerank.x.y.z and --rerank.x.y can't both be given"),
        ("--rerank.x.y.z 1 --rerank.x 2", "--rerank.x and --rerank.x.y can't both be given"),
        ("--rerank.x null --rerank.x.y 2", "--rerank.x.y and --rerank.x can't both be given"),
        ("--rerank a --rerank b", "--rerank is given twice; give it once"),
        ("--rerank.x 1 --rerank.x 1", "--rerank.x is given twice; give it once"),
        ("--rerank.x {a:\u00a02} --rerank.x.a 1", "--rerank.x.a is given twice; give it once"),
        ("--rerank.x.a 1 --rerank.x {a:\u00a02}", "--rerank.x.a is given twice; give it once"),
    ],
)
def test_a_value_and_keys_below_it_are_refused(words: str, says: str) -> None:
    with pytest.raises(UsageError) as error:
        lift([word.replace("\u00a0", " ") for word in words.split(" ")])
    assert str(error.value) == says


def test_a_mapping_that_repeats_a_key_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^\{a: 1, a: 2\}: the key 'a' is given twice$"):
        typed("{a: 1, a: 2}")
