"""Temporary files and folders: every one is made where a signal deletes it."""

from __future__ import annotations

import ast
import signal
import sys
import textwrap
from pathlib import Path

import pytest
from conftest import ROOT, more
from test_interrupts import begin, ended_at_once, until

PACKAGE = ROOT / "pyserini_reasonrank"
INT, TERM = signal.SIGINT, signal.SIGTERM
CORPUS = '{"id": "d1", "contents": "Moths fly by the moon."}\n'


def importers(module: str) -> set[str]:
    """The files of the package that import ``module``."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if module in names:
                found.add(str(path.relative_to(PACKAGE)))
    return found


def test_temporary_folders_have_one_place() -> None:
    """``interrupts.temporary_folder`` deletes them at a signal; ``tempfile`` alone does not."""
    assert importers("tempfile") == {"interrupts.py"}


@pytest.mark.parametrize(
    ("number", "at"),
    [(TERM, "collection"), (INT, "index"), *more((INT, "collection"), (TERM, "index"))],
)
def test_an_index_that_a_signal_stops_leaves_nothing(number: signal.Signals, at: str, tmp_path: Path) -> None:
    """While the corpus is written for the indexer, and while the indexer, which ignores SIGTERM, writes the index."""
    (tmp_path / "corpus.jsonl").write_text(CORPUS, encoding="utf-8")
    (tmp_path / "endless.py").write_text(
        "import pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "flags = dict(word.removeprefix('--').split('=') for word in sys.argv[1:])\n"
        f"folder = pathlib.Path(flags[{at!r}])\n"
        "folder.mkdir(parents=True, exist_ok=True)\n"
        "(folder / 'part').touch()\n"
        "time.sleep(600)\n"
    )
    code = """
        import sys
        from pyserini_reasonrank import interrupts
        interrupts.install()
        from pyserini_reasonrank.__main__ import main
        from pyserini_reasonrank.cli import index
        index.INDEXING = "endless"
        sys.exit(main(sys.argv[1:]))
    """
    line = ["index", "--corpus", "corpus.jsonl", "--index", "made/index"]
    process = begin([sys.executable, "-c", textwrap.dedent(code), *line], tmp_path)
    until(lambda: list(tmp_path.rglob("part")))
    ended_at_once(process, number, tmp_path, "")
    assert {path.name for path in tmp_path.iterdir()} <= {"corpus.jsonl", "endless.py", "temporary", "made"}
    assert not (tmp_path / "made").exists() or not any((tmp_path / "made").iterdir())


@pytest.mark.parametrize("number", [TERM, *more(INT)])
def test_a_command_that_another_command_started_deletes_its_files_too(number: signal.Signals, tmp_path: Path) -> None:
    """As the demo does, whose commands have temporary files of their own."""
    inner = """
        import pathlib, time
        from pyserini_reasonrank import interrupts
        interrupts.install()
        with interrupts.temporary_folder() as folder:
            pathlib.Path(folder, "part").touch()
            time.sleep(600)
    """
    code = f"""
        import subprocess, sys
        from pyserini_reasonrank import interrupts
        interrupts.install()
        subprocess.call([sys.executable, "-c", {textwrap.dedent(inner)!r}], stderr=subprocess.DEVNULL)
    """
    process = begin([sys.executable, "-c", textwrap.dedent(code)], tmp_path)
    until(lambda: list(tmp_path.rglob("part")))
    ended_at_once(process, number, tmp_path, "")
