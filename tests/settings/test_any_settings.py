"""Generated flags and settings files: any of them is read, or refused with one sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import yaml
from conftest import fuzz_examples
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.settings import flags, layers, rerankers
from pyserini_reasonrank.settings.schema import Settings

pytestmark = pytest.mark.fuzz

SHARE = 1
"""Percent of all generated inputs for each target."""
LONG = 10_000
"""Characters of a message beyond which it is no sentence."""

KEYS = st.sampled_from(
    [*Settings.model_fields, "config", "name", "kind", "qrels", "args", "max_tokens", "window_size", ""]
)
WORDS = st.sampled_from(
    ["1", "0", "-1", "1e400", "nan", "true", "null", "none", "auto", "[", "{", "{a: 1}", "[1, 2]", "oracle", "sliding", "best",
     "permutation", "borda", "listwise", "\x00", "~", "!!python/object:os.system", "&a [*a]", "é", "", " ", "="]
)  # fmt: skip
VALUES = st.one_of(WORDS, st.text(max_size=6))
FLAGS = st.lists(st.tuples(st.lists(KEYS, min_size=1, max_size=3).map(".".join), VALUES), max_size=4)
NAMES = st.sampled_from([*rerankers.names(), "nothing"])
SCALARS = st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.floats() | VALUES
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=5
)


def refusal(read: Callable[[], Any]) -> str:
    """The message of a UsageError; "" if it is read."""
    try:
        read()
    except UsageError as error:
        return str(error)
    return ""


def is_a_sentence(message: str) -> bool:
    return "\n" not in message and "pydantic" not in message and len(message) < LONG


@settings(max_examples=fuzz_examples(SHARE), suppress_health_check=[HealthCheck.too_slow])
@given(name=NAMES, given_flags=FLAGS)
@example(name="acurank", given_flags=[("judge", "\n")])
def test_any_flags(name: str, given_flags: list[tuple[str, str]]) -> None:
    words = [word for key, value in given_flags for word in (f"--rerank.{key}", value)]

    def read() -> None:
        found, tree, _ = flags.lift(["--rerank", name, *words])
        oracle = {"engine": {"name": "oracle", "qrels": "qrels.txt"}}
        plan(*layers.load(found, oracle | tree), here=False)

    assert is_a_sentence(refusal(read))


@settings(max_examples=fuzz_examples(SHARE), suppress_health_check=[HealthCheck.too_slow])
@given(content=st.one_of(st.binary(), st.text().map(str.encode), TREES.map(lambda tree: yaml.safe_dump(tree).encode())))
@example(content=b"a: &a [*a]")
@example(content=b"engine: !!python/object/apply:os.system [ls]")
@example(content=b"&x {engine: *x}")
@example(content=b"[" * 1_200)
@example(
    content=b"a: &a [x]\n"
    + b"".join(b"%c: &%c [%s]\n" % (c + 1, c + 1, b", ".join([b"*%c" % c] * 9)) for c in range(97, 121))
)
@example(content=b"depth: 9" + b"9" * 5_000)
def test_any_settings_file(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content)
    for read in (
        lambda: layers.load("reasonrank", {"config": str(path)}),
        lambda: layers.load(str(path), {}),
    ):
        assert is_a_sentence(refusal(read))
