"""The start-up file of a wheel and of an editable install, with a stand-in for Pyserini."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest

from pyserini_reasonrank import _startup

ROOT = Path(__file__).parents[2]
HOSTS = ROOT / "tests" / "host" / "hosts"
TOPICS = "topics of mine.tsv"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project, for building."""
    source = tmp_path_factory.mktemp("source")
    for path in filter(Path.is_file, ROOT.iterdir()):
        shutil.copy(path, source)
    for name in ("pyserini_reasonrank", "conf"):
        shutil.copytree(ROOT / name, source / name, ignore=_not_shipped)
    return source


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _build("build_wheel", source, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module", params=["build_wheel", "build_editable"])
def python(request: pytest.FixtureRequest, source: Path, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with the package installed from a wheel or editable, the stand-in for Pyserini, and no JVM."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "build_editable":
        source = Path(shutil.copytree(source, folder / "source"))
        wheel = _build(request.param, source, folder)
    environment = folder / "venv"
    venv.create(environment)
    (site,) = environment.glob("lib/python*/site-packages")
    zipfile.ZipFile(wheel).extractall(site)
    shutil.copytree(HOSTS / "pyserini", site / "pyserini")
    package = source if request.param == "build_editable" else site
    shutil.copy(HOSTS / "probe.py", package / "pyserini_reasonrank" / "search.py")
    return environment / "bin" / "python"


def _not_shipped(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if name == "__pycache__" or Path(folder, name).is_symlink()]


def _build(kind: str, source: Path, target: Path) -> Path:
    command = f"import setuptools.build_meta as backend; backend.{kind}({str(target)!r})"
    subprocess.run([sys.executable, "-c", command], cwd=source, check=True, capture_output=True)
    (wheel,) = target.glob("*.whl")
    return wheel


def run(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [python, *arguments], capture_output=True, text=True, check=False, cwd=python.parent, env=environment
    )


def report(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    *_, last = [line for line in done.stdout.splitlines() if line.startswith("{")] or [done.stdout + done.stderr]
    found: dict[str, Any] = json.loads(last)
    return found


@pytest.mark.parametrize("host", _startup.HOSTS)
@pytest.mark.parametrize("flag", [["--rerank", "reasonrank"], ["--rerank=reasonrank"]], ids=["two words", "one word"])
def test_a_reranker_flag_runs_our_search(python: Path, host: str, flag: list[str]) -> None:
    done = run(python, "-m", host, "--topics", TOPICS, *flag)
    assert done.returncode == 7
    found = report(done)
    assert found["host"] == host
    assert found["argv"] == ["--topics", TOPICS, *flag]
    assert found["finders"] == 1  # although a venv reads its start-up files twice
    assert found["pyserini"].startswith(str(python.parents[1]))
    assert "packages were imported" not in done.stderr
    assert done.stdout.count("child") == 1  # a spawned process runs its own work, not the command again


@pytest.mark.parametrize("host", _startup.HOSTS)
def test_a_rewriter_without_a_reranker_runs_our_search(host: str) -> None:
    for flag in (["--rewrite", "keywords"], ["--rewrite=keywords"], ["--rewrite"]):
        assert _startup.wanted(["python", "-m", host, "--topics", TOPICS, *flag])
        assert not _startup.wanted(["python", "-m", "other", *flag])
    assert not _startup.wanted(["python", "-m", host, "--topics", "--rewrites"])


@pytest.mark.parametrize(
    "options",
    [
        ["-I", "-m"],
        ["-Im"],
        ["-E", "-s", "-P", "-m"],
        ["-O", "-X", "dev", "-W", "error", "-m"],
        ["-m", "cProfile", "-m"],
    ],
    ids=" ".join,
)
def test_options_of_the_interpreter_and_profilers(python: Path, options: list[str]) -> None:
    found = report(run(python, *options, "pyserini.search.lucene", "--topics", TOPICS, "--rerank", "reasonrank"))
    assert found["host"] == "pyserini.search.lucene"
    assert found["argv"] == ["--topics", TOPICS, "--rerank", "reasonrank"]


def test_module_name_without_a_space_after_its_option(python: Path) -> None:
    assert report(run(python, "-mpyserini.search", "--rerank", "reasonrank"))["host"] == "pyserini.search"


@pytest.mark.parametrize(
    ("module", "flags"),
    [
        ("lucene", ["--topics", TOPICS, "--bm25"]),
        ("faiss", ["--topics", TOPICS, "--rerank"]),
        ("faiss", ["--rerank", "--topics", TOPICS]),
        ("hybrid", ["--rerank", "reasonrank"]),
    ],
)
def test_other_command_lines_run_pyserini_alone(python: Path, module: str, flags: list[str]) -> None:
    done = run(python, "-m", f"pyserini.search.{module}", *flags)
    assert report(done) == {"ran": module, "argv": flags}
    assert "packages were imported" in done.stderr


def test_without_rerank_pyserini_reports_its_usage_errors(python: Path) -> None:
    done = run(python, "-m", "pyserini.search.lucene", "--bm25")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--topics" in done.stderr


def test_a_bare_interpreter_imports_two_small_modules(python: Path) -> None:
    lines = run(python, "-X", "importtime", "-c", "pass").stderr.splitlines()
    imported = [line.rsplit("|")[-1].strip() for line in lines]
    assert [name for name in imported if name.startswith("pyserini")] == [
        "pyserini_reasonrank",
        "pyserini_reasonrank._startup",
    ]


def test_the_start_up_file_imports_no_library() -> None:
    """Each of these takes longer than the start-up file may."""
    start = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import pyserini_reasonrank._startup; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", start], capture_output=True, text=True, check=True)
    imported = set(done.stdout.split())
    assert "pyserini_reasonrank._startup" in imported
    assert not imported & {"typing", "re", "importlib", "functools", "collections", "dataclasses", "pathlib"}


def test_the_wheel_contains_conf_and_owns_the_start_up_files(source: Path, wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (record,) = (archive.read(name).decode() for name in names if name.endswith("/RECORD"))
    shipped = {path.relative_to(source) for path in (source / "conf").rglob("*") if path.is_file()}
    assert {f"pyserini_reasonrank/{path.as_posix()}" for path in shipped} <= names
    for name in ("pyserini_reasonrank.pth", "pyserini_reasonrank.start"):
        assert f"\n{name}," in f"\n{record}"


@pytest.mark.parametrize(
    "line",
    [
        "tool pyserini.search --rerank reasonrank",
        "tool --m pyserini.search --rerank reasonrank",
        "python -m pyserini.search.faiss --rerank=",
        "python -m pyserini.search.faiss --rerank -x",
        "python -m pyserini.search --rerank.model reasonrank",
        "python",
    ],
)
def test_similar_command_lines_are_ignored(line: str) -> None:
    assert not _startup.wanted(line.split())


@pytest.mark.parametrize("host", ["pyserini.search", "pyserini.search.lucene"])
@pytest.mark.parametrize("flags", ["--rerank=", "--rerank -x", "--rerank", "--bm25 --rerank"])
def test_a_bare_flag_is_ours_where_pyserini_has_no_such_switch(host: str, flags: str) -> None:
    assert _startup.wanted(f"python -m {host} {flags}".split())
