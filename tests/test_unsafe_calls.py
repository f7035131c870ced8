"""What no source file does: unpickle, run code of a model repository, open an address, evaluate text as code."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGE = ROOT / "pyserini_reasonrank"
UNPICKLERS = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
OPENERS = {"urlopen", "urlretrieve", "create_connection"}
"""Functions that open an address. Clients of a server and of the model hub have classes for that."""


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def imported(tree: ast.AST) -> set[str]:
    found = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    return found | {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}


@pytest.fixture(scope="module")
def trees() -> dict[Path, ast.Module]:
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 200
    return {path.relative_to(PACKAGE): ast.parse(path.read_text(encoding="utf-8")) for path in files}


def test_nothing_is_unpickled(trees: dict[Path, ast.Module]) -> None:
    for path, tree in trees.items():
        assert not UNPICKLERS & {name.partition(".")[0] for name in imported(tree)}, path
        for call in calls(tree):
            if ast.unparse(call.func) in ("torch.load", "numpy.load", "np.load"):
                switch = next(k for k in call.keywords if k.arg in ("weights_only", "allow_pickle"))
                safe = switch.arg == "weights_only"
                assert isinstance(switch.value, ast.Constant), path
                assert switch.value.value is safe, path


def test_no_code_of_a_model_repository_runs(trees: dict[Path, ast.Module]) -> None:
    for path, tree in trees.items():
        switches = [k.value for call in calls(tree) for k in call.keywords if k.arg == "trust_remote_code"]
        assert all(isinstance(value, ast.Constant) and value.value is False for value in switches), path
        assert not {"eval", "exec"} & {ast.unparse(call.func) for call in calls(tree)}, path


def test_an_address_is_only_opened_for_a_download_with_a_hash(trees: dict[Path, ast.Module]) -> None:
    names = {
        path.as_posix(): {ast.unparse(call.func).rpartition(".")[2] for call in calls(tree)}
        for path, tree in trees.items()
    }
    assert [name for name, called in names.items() if called & OPENERS] == ["prompts/pinned.py"]
    assert "sha256" in (PACKAGE / "prompts" / "pinned.py").read_text(encoding="utf-8")
