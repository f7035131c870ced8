"""docs/extend.md: its files are written and its commands are run as they are, and what they print is compared."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

PAGE = ROOT / "docs" / "extend.md"
BLOCK = re.compile(r"(?:as `([^`]+)`:\n\n)?```(\w+)\n(.*?)```\n", re.DOTALL)
SECONDS = re.compile(r"\d+\.\d s")


def blocks() -> Iterator[tuple[str | None, str, str]]:
    """Path, kind and text of each block of the page. The path of a file is in its first line, or in the line above."""
    for path, kind, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        named = re.match(r"# (\S+)\n", text)
        yield path or (named[1] if named else None), kind, text


def commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """The commands of a console block, each with the lines that it prints."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, *printed = part.splitlines()
        yield command, printed


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A shell whose ``python`` is this one, and whose pip installs into a folder of its own, without a network."""
    site = str(tmp_path_factory.mktemp("site"))
    return {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([site, os.environ.get("PYTHONPATH", "")]),
        "PIP_TARGET": site,
        "PIP_NO_DEPS": "1",
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # pip reads the variable as the value of --build-isolation
        "PIP_QUIET": "1",
    }


def test_the_page_runs_as_written(environment: dict[str, str], tmp_path: Path) -> None:
    ran = []
    for path, kind, text in blocks():
        if kind != "console":
            assert path is not None, text
            file = tmp_path / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
            continue
        for command, printed in commands(text):
            done = subprocess.run(
                command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
            )  # fmt: skip
            found = [SECONDS.sub("N s", line) for line in (done.stdout + done.stderr).splitlines()]
            assert found == [SECONDS.sub("N s", line) for line in printed], command
            ran.append(command)
    assert len(ran) == 6
