"""Inputs of which a command would read one and record another are refused, whatever their order."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Collection

from pyserini_reasonrank.__main__ import main

ORACLE = ["--rerank", "reasonrank", "--rerank.engine.name", "oracle", "--rerank.engine.qrels"]


@pytest.mark.parametrize(
    ("kept", "other"),
    [
        ("candidates", "run"),
        ("candidates", "topics"),
        ("candidates", "index"),
        ("candidates", "corpus"),
        ("candidates", "rerank.corpus"),
        ("index", "corpus"),
        ("index", "rerank.corpus"),
        ("corpus", "rerank.corpus"),
    ],
)
def test_rerank_reads_one_source_of_each_input(
    kept: str, other: str, collection: Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = {
        "run": collection.run, "topics": collection.topics, "candidates": collection.candidates,
        "corpus": collection.corpus, "rerank.corpus": collection.corpus, "index": tmp_path,
    }  # fmt: skip
    given = {kept, other} if kept == "candidates" else {"run", "topics", kept, other}
    line = ["rerank", "--output", str(tmp_path / "run.txt"), *ORACLE, str(collection.qrels)]
    for name in sorted(given):
        line += [f"--{name}", str(paths[name])]
    assert main(line) == 2
    assert f"--{kept} and --{other} can't both be given" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("others", [["--topics", "t"], ["--index", "i"], ["--corpus", "c"]])
def test_trace_reads_one_source_of_the_texts(others: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", "show", "run.txt", "--qid", "1", *others, "--candidates", "c.jsonl"]) == 2
    assert f"--candidates and {others[0]} can't both be given" in capsys.readouterr().err
