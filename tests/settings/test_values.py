"""One value, one meaning: whichever command a flag is given to, and in a YAML file too.

Each value goes in at the entry of search, rerank and train, as a word of its own and after ``=``.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from pyserini_reasonrank import search
from pyserini_reasonrank.cli import rerank
from pyserini_reasonrank.errors import UsageError, validated
from pyserini_reasonrank.resources import parse_yaml
from pyserini_reasonrank.settings import layers
from pyserini_reasonrank.settings.flags import typed
from pyserini_reasonrank.settings.schema import Settings
from pyserini_reasonrank.train import command

MEANINGS: dict[str, Any] = {
    "1e-1": 0.1, "1e5": 1e5, "1E5": 1e5, "1e+5": 1e5, "-1e-5": -1e-5, "1.5e3": 1500.0, "1.": 1.0, ".5": 0.5, "-0.5": -0.5,
    "0.50": 0.5, "+1.5": 1.5, ".inf": math.inf, "-.inf": -math.inf, "0": 0, "7": 7, "-1": -1, "20": 20,
    "123456789012345678901234567890": 123456789012345678901234567890, "9" * 5000: "9" * 5000, "true": True, "True": True,
    "TRUE": True, "false": False, "False": False, "yes": True, "no": False, "on": True, "off": False, "null": None,
    "Null": None, "NULL": None, "~": None, "[]": [], "{}": {}, "[1,2]": [1, 2], "[1, 2]": [1, 2], "[a, b]": ["a", "b"],
    "[1e-1, 0012, null, true]": [0.1, "0012", None, True], "[[1], {a: 2}]": [[1], {"a": 2}], "{a: 1}": {"a": 1},
    "{a: 1e-1, b: [x]}": {"a": 0.1, "b": ["x"]}, "{a: {b: {c: null}}}": {"a": {"b": {"c": None}}},
    "{a: 2024-01-31}": {"a": "2024-01-31"},
    " [1, 2] ": [1, 2], "['1', \"2\"]": ["1", "2"],
}  # fmt: skip
TEXTS = [
    "", " ", "  ", "\t", "\n", "0012", "00", "01", "-01", "-0", "+5", "0x1F", "0o17", "0b1", "1_000", "1,000", "12:30", "12:30:45",
    "1.2.3", "1e", "e5", "1e5x", "1 e5", "1e5 ", " 1e5", "1e5\n", "5 # five", "true # yes", "nan", "inf", "-inf", "Infinity",
    "2024-01-31", "2024-01-31T10:00:00", "2024-01-31 10:00:00", "a: b", "a:b", "key: value", "- x", "-", "--", "---", "...",
    "? a", ": a", "!tag", "!!int 5", "&a", "*a", "%x", "@x", "`x`", "'quoted'", '"quoted"', "'5'", '"1e5"', "# x", "x # y", "|",
    ">", "| x", "[half", "{half", "half]", "[1] x", "{a: b: c}", "=", "<<", "a=b", "=b", "/data/model", "./model",
    "../model", "~/model",
    "C:\\run", "a\\nb", "org/model", "org/model@main", "http://127.0.0.1:8000/v1", "https://x.org/a.toml#sha256=00ff",
    "rank_llm:name",
    "deadbeef", "1234e56x", "none", "None", "nil", "undefined", "NaN", "tru", "Tru", "y", "n", "Y", "N", "Größe", "日本語",
    "🙂", "é" * 50,
    "</answer>", "<think>", "two words", "a, b", "x" * 2000, "_", ".", "..", "*", "?", "$HOME", "${x}", "`ls`", "a|b", "a;b", "a&b",
    "\ufeff5", "５", "１e5", "٣", "½", "\x00", "a\x00b", "\u2028", "nulll", "null null", "truefalse", "0.5.5", "1/2", "50%", "1k",
    "model-7b", "v0.1", "int8", "fp16", "bfloat16", "cuda:0", "auto",
]  # fmt: skip
GENERATED = [
    sign + digits + exponent
    for sign, digits, exponent in itertools.product(("", "-", "+"), ("3", "03", "3.5", ".25"), ("", "e2", "E-2", "e"))
]
VALUES = list(dict.fromkeys([*MEANINGS, *TEXTS, *GENERATED]))

KEYS = ("chat_template_args.x", "chat_template_args", "revision")
"""Keys of both Settings and the settings of ``train sft``: open, a mapping, and text."""


class Stop(Exception):
    """Ends a command once its flags are parsed."""


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, list[str]], dict[str, Any]]:
    """``parse(command, words)``: the tree that the entry of a command makes of ``words``."""
    trees: list[dict[str, Any]] = []

    def loaded(name: str, flags: dict[str, Any], data: Any = ()) -> None:
        trees.append(flags)
        raise Stop

    def checked(model: type[BaseModel], values: dict[str, Any], flag: str) -> None:
        trees.append({key: value for key, value in values.items() if key not in ("model", "data", "output")})
        raise Stop

    monkeypatch.setattr(layers, "load", loaded)
    monkeypatch.setattr(command, "validated", checked)
    ours = ["--rerank", "reasonrank", "--output", "x"]
    entries: dict[str, Callable[[list[str]], Any]] = {
        "search": lambda words: search.main([*words, *ours, "--index", "i", "--topics", "t"], "pyserini.search.lucene"),
        "rerank": lambda words: rerank.main([*words, *ours]),
        "train": lambda words: command.main(["sft", *words, "--model", "m", "--data", "[r]", "--output", "o"]),
    }

    def run(entry: str, words: list[str]) -> dict[str, Any]:
        trees.clear()
        with pytest.raises(Stop):
            entries[entry](words)
        (tree,) = trees
        return tree

    return run


def words(prefix: str, key: str, value: str) -> list[list[str]]:
    joined = [f"{prefix}{key}={value}"]
    return [joined] if value.startswith("--") else [joined, [f"{prefix}{key}", value]]


def same(one: Any, other: Any) -> bool:
    """Equal and of equal types, all the way down."""
    return repr(one) == repr(other)


def test_there_are_enough_values() -> None:
    assert len(VALUES) >= 200


@pytest.mark.parametrize("key", KEYS)
def test_search_rerank_and_train_read_a_value_alike(
    key: str, parse: Callable[[str, list[str]], dict[str, Any]]
) -> None:
    for value in VALUES:
        expected: Any = value if value != "null" else None
        if key != "revision":
            expected = typed(value)
        for name in reversed(key.split(".")):
            expected = {name: expected}
        for entry, prefix in (("search", "--rerank."), ("rerank", "--rerank."), ("train", "--")):
            for given in words(prefix, key, value):
                found = parse(entry, given)
                assert same(found, expected), (entry, given)


@pytest.mark.parametrize("value", VALUES)
def test_what_a_value_means(value: str) -> None:
    expected = MEANINGS.get(value, value)
    if value in GENERATED and value not in MEANINGS:
        number = re.fullmatch(r"[-+]?(\d+\.\d*|\.\d+)(e2|E-2)?|[-+]?\d+(e2|E-2)", value)
        whole = re.fullmatch(r"-?3", value)
        expected = int(value) if whole else float(value) if number else value
    assert same(typed(value), expected)


def test_a_file_gives_a_plain_value_the_same_type() -> None:
    plain = [value for value in VALUES if re.fullmatch(r"[\w.+/~:-]*\w", value) or value[:1] in ("[", "{")]
    plain = [value for value in plain if not value.startswith(("-", "~/")) or value[1:2].isdigit() or value[1:2] == "."]
    assert len(plain) > 120
    for value in plain:
        try:
            found = parse_yaml(f"x: {value}\n", "file")["x"]
        except UsageError:
            assert value in ("{half", "[half", "[1] x", "{a: b: c}")
            continue
        assert same(found, typed(value)), value


def outcome(model: type[BaseModel], tree: dict[str, Any], path: str) -> Any:
    """The validated value at ``path``, or that it is refused."""
    try:
        found: Any = validated(model, tree, "x")
    except UsageError:
        return "refused"
    for key in path.split("."):
        found = getattr(found, key)
    return found


@pytest.mark.parametrize(("ours", "theirs"), [("depth", "lora.r"), ("sampling.min_p", "lora.dropout")])
def test_typed_settings_agree(ours: str, theirs: str, parse: Callable[[str, list[str]], dict[str, Any]]) -> None:
    """Keys of like types and bounds: the value, the default or a refusal are the same (only a dropout of 1 is refused)."""
    config = command.step("sft").Config
    base = {"model": "m", "data": [Path("r")], "output": "o"}
    of_search, of_train = outcome(Settings, {}, ours), outcome(config, base | {"lora": {}}, theirs)
    seen = set()
    for value in VALUES:
        results = []
        for entry in ("search", "rerank"):
            found = outcome(Settings, parse(entry, [f"--rerank.{ours}={value}"]), ours)
            results.append("default" if found == of_search else found)
        found = outcome(config, base | parse("train", [f"--{theirs}={value}"]), theirs)
        results.append("default" if found == of_train else found)
        if results[:2] == [1.0, 1.0] and theirs == "lora.dropout":
            results[:2] = ["refused", "refused"]
        assert same(results, results[:1] * 3), (value, results)
        seen.add(str(results[0]))
    assert {"refused", "default"} < seen
