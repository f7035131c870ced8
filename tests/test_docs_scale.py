"""The page on large runs: its commands are valid, and its counts are those of ``explain``."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest
import yaml
from conftest import ROOT

from pyserini_reasonrank.cli.explain import Budget, cost_table
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.settings import flags, layers

pytestmark = pytest.mark.skipif(not find_spec("torch"), reason="needs an engine to plan for")

PAGE = (ROOT / "docs" / "usage-scale.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:^    .*\n)+", re.MULTILINE)
CELLS = re.compile(r"^\| (BRIGHT|MS MARCO dev) \| `([\w-]+)` \| (.*) \|$", re.MULTILINE)
QUERIES = {"BRIGHT": 1_384, "MS MARCO dev": 6_980}
MODELS = {"reasonrank": "reasonrank-7b", "rank-r1": "rank-r1-7b", "rank1": "rank1-7b"}


def blocks(language: str) -> list[str]:
    return [text for name, text in BLOCK.findall(PAGE) if name == language]


def strings(tree: Any) -> Iterator[str]:
    """All strings in a YAML document."""
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, dict | list):
        for item in tree.values() if isinstance(tree, dict) else tree:
            yield from strings(item)


def documents() -> list[Any]:
    return [document for text in blocks("yaml") for document in yaml.safe_load_all(text)]


def commands() -> list[list[str]]:
    """The words after ``python -m pyserini_reasonrank`` of each command on the page."""
    inline = [string.removeprefix("bash -c '").rstrip("'") for tree in documents() for string in strings(tree)]
    texts = [*blocks("bash"), *blocks("console"), *INDENTED.findall(BLOCK.sub("", PAGE)), *inline]
    lines = [line for text in texts for line in text.replace("\\\n", " ").splitlines()]
    found = [re.search(r"python -m pyserini_reasonrank (.*)", line) for line in lines]
    return [shlex.split(match[1]) for match in found if match]


def test_the_commands_are_valid() -> None:
    found = commands()
    assert sorted({words[0] for words in found}) == ["explain", "merge", "rerank"]
    engines = set()
    for words in found:
        name, tree, _ = flags.lift(words[1:])
        if name is not None:
            planned = plan(*layers.load(name, tree), here=False)
            engines |= {engine.name for engine in planned.engines}
    assert {"ray", "openai"} <= engines


def test_the_manifests_are_those_of_kubernetes() -> None:
    kinds = {document["kind"]: document for document in documents()}
    assert kinds.keys() == {"Job", "RayJob"}
    job = kinds["Job"]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    assert f"/{job['completions']} " in container["args"][0]
    for pod in (job["template"], *(group["template"] for group in groups(kinds["RayJob"]))):
        volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
        assert {mount["name"] for one in pod["spec"]["containers"] for mount in one["volumeMounts"]} == volumes


def groups(job: Any) -> list[Any]:
    cluster = job["spec"]["rayClusterSpec"]
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def test_the_table_has_the_counts_of_explain() -> None:
    rows = CELLS.findall(PAGE)
    assert len(rows) == len(QUERIES) * len(MODELS)
    for collection, reranker, cells in rows:
        tree: dict[str, Any] = {"model": MODELS[reranker]}
        if reranker == "rank1":
            tree["passage_tokens"] = 512
        elif collection == "BRIGHT":
            tree["collection"] = "bright"
        table = cost_table(plan(*layers.load(reranker, tree), here=False), QUERIES[collection], Budget(1_000.0))
        counts = [
            re.search(rf"^{name} .* ([\d,.]+)$", table, re.MULTILINE) for name in ("calls", "prompt", "output", "GPU")
        ]
        *counted, hours = [match[1] for match in counts if match]
        *written, one, eight, many = cells.split(" | ")
        assert written == counted
        for gpus, cell in ((1, one), (8, eight), (64, many)):
            total = float(hours.replace(",", "")) / gpus
            assert float(cell.replace(",", "")) == pytest.approx(total, abs=0.051 if total >= 1 else 0.0051)


def test_the_example_is_the_output_of_explain() -> None:
    (example,) = blocks("console")
    command, *lines = example.splitlines()
    name, tree, rest = flags.lift(shlex.split(command)[5:])
    assert rest == ["--queries", "1384", "--tokens-per-second", "1000", "--gpus", "8", "--price", "2"]
    assert name is not None
    table = cost_table(plan(*layers.load(name, tree), here=False), 1384, Budget(1_000.0, 8, 2.0)).splitlines()
    described = [re.sub(r"tokens: .*", "tokens: ", line) for line in lines]
    assert described[1:] == [re.sub(r"tokens: .*", "tokens: ", line) for line in table[1 : len(lines)]]
