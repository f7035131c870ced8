"""What is read from a server's model list, and how it is compared with those of the other servers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pyserini_reasonrank.engines.model_list import Expected, read_models

KNOWN = ("vllm", "sglang")


def entry(name: str = "m", **fields: Any) -> dict[str, Any]:
    return {"id": name, "owned_by": "vllm", "root": "/data/m-7b", "max_model_len": 8192} | fields


EXPECTED = Expected("m", 8192, "vllm", [entry(), entry("base")])


@pytest.mark.parametrize("answer", ["", "<html>", "[]", "{}", '{"data": 5}', '{"data": [{"id": 5}, {}]}', "null"])
def test_what_is_not_a_model_list_has_no_models(answer: str) -> None:
    assert read_models(answer.encode()) == []
    assert read_models(json.dumps({"data": [entry()]}).encode()) == [entry()]


@pytest.mark.parametrize(
    "entries",
    [
        [entry()],
        [entry("base"), entry()],
        [entry(root="/scratch/models/m-7b/")],
        [entry(root="org/m-7b", max_model_len=32768)],
        [entry(root=None, max_model_len=None)],
        [{"id": "m", "owned_by": "vllm"}],
        [],
    ],
)
def test_a_server_of_the_same_model_does_not_differ(entries: list[Any]) -> None:
    assert EXPECTED.difference(entries, KNOWN) == ""


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([entry("other")], "serves other instead of m"),
        ([entry("a"), entry("b")], "serves a, b instead of m"),
        ([entry(root="/data/m-32b")], "serves m-32b as m, and the other servers m-7b"),
        ([entry(owned_by="litellm")], "is of type other, and the other servers are of type vllm"),
        ([entry(max_model_len=4096)], "has a context of 4096 tokens, and prompts with their answers may have 8192"),
    ],
)
def test_a_difference_is_said(entries: list[Any], said: str) -> None:
    assert EXPECTED.difference(entries, KNOWN) == said


def test_what_the_other_servers_do_not_say_is_not_compared() -> None:
    unlisted = Expected("alias", None, None, [entry("m")])
    assert unlisted.difference([entry("another", owned_by="x", max_model_len=10)], KNOWN) == ""
    assert Expected("m", None, None, []).difference([entry(root="/data/m-32b")], KNOWN) == ""
