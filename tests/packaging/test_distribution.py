"""What a package index, GitHub and a contributor read agrees with the code and with itself."""

from __future__ import annotations

import re
import runpy
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import setuptools
import yaml
from conftest import MARKS, ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from pyserini_reasonrank import __version__

REPOSITORY = "https://github.com/pyserini-reasonrank/pyserini_reasonrank"


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def pinned() -> dict[str, Version]:
    lines = [line for line in read("constraints.txt").splitlines() if not line.startswith("#")]
    return {canonicalize_name(name): Version(version) for name, version in (line.split("==") for line in lines)}


@pytest.fixture(scope="module")
def declared() -> Iterator[dict[str, Any]]:
    """The arguments that setup.py passes to setuptools, without a build."""
    arguments: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr(setuptools, "setup", lambda **given: arguments.update(given))
        runpy.run_path("setup.py")
        yield arguments


def test_one_version_everywhere(declared: dict[str, Any]) -> None:
    released = re.findall(r"^## \[(\d\S*)\] - \d{4}-\d\d-\d\d$", read("CHANGELOG.md"), re.MULTILINE)
    assert released[0] == declared["version"] == __version__
    assert yaml.safe_load(read("CITATION.cff"))["version"] == __version__


def test_every_release_in_the_changelog_has_a_link() -> None:
    text = read("CHANGELOG.md")
    headings = re.findall(r"^## \[(.+?)\]", text, re.MULTILINE)
    assert headings[0] == "Unreleased"
    links = dict(re.findall(r"^\[(.+?)\]: (\S+)$", text, re.MULTILINE))
    assert list(links) == headings
    assert all(link.startswith(f"{REPOSITORY}/") for link in links.values())


def test_one_repository_everywhere(declared: dict[str, Any]) -> None:
    assert declared["url"] == REPOSITORY == yaml.safe_load(read("CITATION.cff"))["repository-code"]
    assert all(url.startswith(f"{REPOSITORY}/") for url in declared["project_urls"].values())


def test_links_of_the_readme_are_absolute_on_a_package_index(declared: dict[str, Any]) -> None:
    text = declared["long_description"]
    targets = re.findall(r"\]\(([^)]+)\)|(?:href|src|srcset)=\"([^\"]+)\"", text)
    assert targets
    ours = [link for pair in targets for link in pair if link]
    assert [link for link in ours if not link.startswith(("https://", "http://", "#", "mailto:"))] == []
    local = [link.removeprefix(f"{REPOSITORY}/blob/v{__version__}/") for link in ours if f"{REPOSITORY}/blob/" in link]
    assert local
    assert [link for link in local if not (ROOT / link.partition("#")[0]).exists()] == []


def requirements(declared: dict[str, Any]) -> list[Requirement]:
    lines = [*declared["install_requires"], *(r for extra in declared["extras_require"].values() for r in extra)]
    return [Requirement(line) for line in lines]


def test_the_tested_set_satisfies_every_floor(declared: dict[str, Any]) -> None:
    versions = pinned()
    untested = {"vllm", "faiss-gpu", "deepspeed"}  # they need an accelerator
    for requirement in requirements(declared):
        name = canonicalize_name(requirement.name)
        if name not in untested:
            assert requirement.specifier.contains(versions[name]), requirement
    assert not untested & versions.keys()


def test_the_hooks_run_the_pinned_ruff() -> None:
    repositories = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    [revision] = [entry["rev"] for entry in repositories if entry["repo"].endswith("ruff-pre-commit")]
    assert Version(revision) == pinned()["ruff"]


def test_workflows_call_targets_that_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", read("Makefile"), re.MULTILINE))
    called = set()
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        assert yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]
        called |= set(re.findall(r"\bmake ([\w-]+)", path.read_text(encoding="utf-8")))
    assert called
    assert called <= targets
    assert set(re.findall(r"\bmake ([\w-]+)", read("CONTRIBUTING.md"))) <= targets


def test_issue_forms_are_whole() -> None:
    for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        if path.stem != "config":
            assert form["name"]
            assert form["description"]
            ids = [element["id"] for element in form["body"]]
            assert len(ids) == len(set(ids)) >= 1
            assert all(element["attributes"]["label"] for element in form["body"])


def test_the_build_needs_a_setuptools_that_the_tests_have(declared: dict[str, Any]) -> None:
    [build] = map(Requirement, tomllib.loads(read("pyproject.toml"))["build-system"]["requires"])
    [test] = [Requirement(line) for line in declared["extras_require"]["test"] if line.startswith("setuptools")]
    assert build == test


def test_the_package_is_typed_and_ships_its_configuration(declared: dict[str, Any]) -> None:
    assert (ROOT / "pyserini_reasonrank" / "py.typed").is_file()
    assert "py.typed" in declared["package_data"]["pyserini_reasonrank"]
    assert declared["package_dir"]["pyserini_reasonrank.conf"] == "conf"
    folders = {str(path.parent.relative_to(ROOT)).replace("/", ".") for path in
               (ROOT / "pyserini_reasonrank").rglob("__init__.py")}  # fmt: skip
    assert folders - {"pyserini_reasonrank.conf"} <= set(declared["packages"])


@pytest.mark.parametrize("entry", MARKS)
def test_marked_files_exist_and_their_markers_are_declared(entry: str, pytestconfig: pytest.Config) -> None:
    assert (ROOT / "tests" / entry).exists()
    assert set(MARKS[entry]) <= {line.partition(":")[0] for line in pytestconfig.getini("markers")}


def test_the_fast_tests_leave_out_every_marker(pytestconfig: pytest.Config) -> None:
    text = Path(pytestconfig.inipath or "").read_text(encoding="utf-8")
    ours = re.findall(r"^    (\w+): ", text.partition("markers =")[2], re.MULTILINE)
    [line] = re.findall(r"^FAST = (.+)$", read("Makefile"), re.MULTILINE)
    assert sorted(line.split(" and ")) == sorted(f"not {name}" for name in ours)
