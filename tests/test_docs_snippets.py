"""Snippets of the pages for other programs: each is parsed by the program's own parser, so that a renamed flag is found."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:^    .*\n|^\n(?=    ))+", re.MULTILINE)
VALUE = re.compile(r"\$\(\(.*?\)\)|\$\{?\w+\}?")
PARSERS = ("vllm.entrypoints.launchers.cli_args", "vllm.entrypoints.openai.cli_args")
"""The modules of vLLM's parser, in this version and in earlier ones."""


def blocks(*languages: str) -> list[tuple[Path, str]]:
    """The fenced blocks in these languages, with their page."""
    found = [(page, FENCED.findall(page.read_text(encoding="utf-8"))) for page in PAGES]
    return [(page, text) for page, matches in found for language, text in matches if language in languages]


def scripts() -> list[tuple[Path, str]]:
    """The blocks of shell code: those named bash, and indented ones that begin with #!."""
    indented = [
        (page, re.sub(r"^    ", "", text, flags=re.MULTILINE))
        for page in PAGES
        for text in INDENTED.findall(page.read_text(encoding="utf-8"))
    ]
    return [*blocks("bash", "sh"), *((page, text) for page, text in indented if text.startswith("#!"))]


def commands(program: str) -> Iterator[tuple[str, list[str]]]:
    """The page and the words after ``program`` of each command on the pages that has a flag, with 1 for variables."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for line in re.findall(rf"\b{program} ([^`\n]*)", text):
            words = shlex.split(VALUE.sub("1", line.split(" &")[0].rstrip("'")), comments=True)
            if any(word.startswith("--") for word in words):
                yield f"{page.name}: {program} {line}", [word for word in words if word != "..."]


def test_shell_scripts_parse() -> None:
    assert len(scripts()) > 8
    for page, script in scripts():
        checked = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, ""), f"{page.name}: {script}"


def test_yaml_loads() -> None:
    found = blocks("yaml", "yml")
    assert len(found) > 2
    for page, text in found:
        assert all(document is not None for document in yaml.safe_load_all(text)), page.name


@pytest.mark.slow
@pytest.mark.vllm
def test_the_commands_of_vllm_are_known_to_its_parser() -> None:
    pytest.importorskip("vllm")
    parser = serve_parser()
    found = list(commands("vllm serve"))
    assert len(found) >= 8
    sizes = set()
    for where, words in found:
        try:
            arguments = parser.parse_args(words)
        except SystemExit as ended:
            raise AssertionError(f"{where} is refused by vLLM's parser") from ended
        sizes.add((arguments.tensor_parallel_size, arguments.pipeline_parallel_size, arguments.data_parallel_size))
        if "..." not in where:
            assert arguments.model_tag, where
    assert {(2, 1, 1), (2, 1, 4), (1, 1, 16), (8, 2, 1)} <= sizes
    with pytest.raises(SystemExit):
        parser.parse_args(["m", "--tensor-parallel-sizes", "2"])


def serve_parser() -> Any:
    """The parser of ``vllm serve``."""
    argparse_utils = import_module("vllm.utils.argparse_utils")
    for name in PARSERS:
        try:
            module = import_module(name)
        except ModuleNotFoundError:
            continue
        return module.make_arg_parser(argparse_utils.FlexibleArgumentParser())
    raise AssertionError(f"vLLM has none of {', '.join(PARSERS)}")


@pytest.mark.slow
def test_the_commands_of_ray_are_known_to_its_parser() -> None:
    scripts = pytest.importorskip("ray.scripts.scripts")
    found = list(commands("ray start"))
    assert len(found) >= 4
    for where, words in found:
        try:
            scripts.start.make_context("start", list(words))
        except Exception as error:
            raise AssertionError(f"{where} is refused by Ray's parser: {error}") from error
