"""The commands of the demo, and their order; tests/real and `make demo` run them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from pyserini_reasonrank.demo import end_to_end
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.models import devices


def test_the_demo_ends_by_writing_the_report_and_naming_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[Sequence[str]] = []
    monkeypatch.setattr(end_to_end, "_show", lambda command, log: shown.append(command))
    monkeypatch.setattr(end_to_end, "write_corpus", lambda path: path.write_text("{}\n") and 1)
    end_to_end.demo(tmp_path, 3, [])
    names = [next(word for word in command[2:] if not word.startswith("pyserini_reasonrank")) for command in shown]
    assert names[0] == "index"
    assert names[-3:] == ["validate", "evaluate", "report"]
    run, page, qrels, corpus = (
        str(tmp_path / name) for name in ("run.txt", "report.html", "qrels.txt", "corpus.jsonl")
    )
    assert shown[-1][4:] == [run, "--qrels", qrels, "--corpus", corpus, "--output", page]
    assert f"Open {page} in a browser" in capsys.readouterr().out.splitlines()[-1]


def test_a_reranker_that_can_not_run_here_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "accelerators", tuple)
    with pytest.raises(UsageError, match=r"reasonrank needs a GPU.*--rerank upr"):
        end_to_end.demo(tmp_path / "demo", 3, ["--rerank=reasonrank"])
    assert list(tmp_path.iterdir()) == []
