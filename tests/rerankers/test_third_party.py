"""A reranker that another package brings: found by name, listed, explained, run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import Collection

SOURCE = Path(__file__).parent / "third_party"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH in which pip has put the package."""
    folder = tmp_path_factory.mktemp("third-party")
    shutil.copytree(SOURCE, folder / "source")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", folder / "site", folder / "source"], check=True, capture_output=True)
    return folder / "site"


def ours(installed: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "pyserini_reasonrank", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(installed), os.environ.get("PYTHONPATH", "")])}
    return subprocess.run(words, capture_output=True, text=True, env=environment, timeout=120, check=False)


def test_it_reranks_by_its_name(installed: Path, collection: Collection, tmp_path: Path) -> None:
    run, engine = tmp_path / "run.txt", ["--rerank.engine.name", "oracle", "--rerank.engine.qrels", collection.qrels]
    done = ours(installed, "rerank", *collection.inputs, "--output", run, "--rerank", "tiny", *engine)
    assert (done.returncode, done.stderr) == (0, "")
    assert "3 of 4 reranked" in done.stdout
    first = [line.split()[2] for line in run.read_text().splitlines() if line.startswith("long ")][:5]
    grades = [collection.grades["long"][docid] for docid in first]
    assert grades == sorted(collection.grades["long"].values(), reverse=True)[:5]
    metadata = yaml.safe_load(Path(f"{run}.ir-metadata.yml").read_text())
    assert metadata["method"]["retrieval"][1]["prompt"]["name"].endswith("tiny_reranker/prompt.yaml")


def test_it_stands_in_the_help(installed: Path) -> None:
    assert "Tiny: the best of four" in ours(installed, "rerank", "--help").stdout


def test_without_the_package_there_is_no_such_name(tmp_path: Path) -> None:
    done = ours(tmp_path, "explain", "--rerank", "tiny")
    assert done.returncode == 2
    assert "there is no reranker 'tiny'" in done.stderr
