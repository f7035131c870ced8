"""The README's example with one's own data, run as it is printed: index, search, rerank, evaluate, trace."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from conftest import ROOT


def test_the_example_runs_and_prints_what_the_readme_shows(tmp_path: Path) -> None:
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("\n## Your own data\n")[1].split("\n## ")[0]
    commands, shown = (_code(part) for part in section.split("`evaluate` prints"))
    search_path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": search_path, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        ["bash", "-e"], input=commands, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert shown.strip() in ran.stdout
    trace = json.loads(ran.stdout.splitlines()[-1])
    assert trace["qid"] == "q1"
    assert trace["ranking"][0]["docid"] == "moths"
    assert trace["ranking"][0]["first_stage"][0] == 3


def _code(text: str) -> str:
    """The indented lines of Markdown, without their indentation."""
    return "".join(f"{line[4:]}\n" for line in text.splitlines() if line.startswith("    "))
