"""What README and the Python page show, run as it is printed: the example with one's own data, and the Python blocks."""

from __future__ import annotations

import doctest
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
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


@pytest.mark.parametrize("page", ["README.md", "docs/usage-python.md"])
def test_the_python_blocks_print_what_the_pages_show(page: str) -> None:
    blocks = re.findall(r"```python\n(>>>.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    examples = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, page, page, 0)
    assert len(examples.examples) >= 4
    failures = list[str]()
    doctest.DocTestRunner(verbose=False).run(examples, out=failures.append)
    assert failures == []


def _code(text: str) -> str:
    """The indented lines of Markdown, without their indentation."""
    return "".join(f"{line[4:]}\n" for line in text.splitlines() if line.startswith("    "))
