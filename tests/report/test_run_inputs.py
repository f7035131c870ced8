"""The files beside a run: which first stage, which journal, and what is wrong with them."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pyserini_reasonrank.__main__ import main
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.runs import read_run
from pyserini_reasonrank.journal import Journal
from pyserini_reasonrank.report.run_inputs import NO_JOURNAL, check_same_topics, read_run_input


@pytest.fixture
def folder(reasoned: Path, tmp_path: Path) -> Path:
    """A copy of the run, to change."""
    return Path(shutil.copytree(reasoned, tmp_path / "copy"))


def test_the_first_stage_is_the_file_beside_the_run(folder: Path) -> None:
    shutil.copy(folder / "first.txt", folder / "run.txt.first-stage.txt")
    found = read_run_input(folder / "run.txt", None)
    assert found.first_run == folder / "run.txt.first-stage.txt"
    assert found.first_hits == read_run(folder / "first.txt")
    assert found.notes == ()


def test_the_first_stage_is_the_file_that_the_metadata_name(reasoned: Path) -> None:
    assert read_run_input(reasoned / "run.txt", None).first_run == reasoned / "first.txt"


def test_a_first_stage_that_changed_is_read_from_the_journal(folder: Path) -> None:
    expected = read_run(folder / "first.txt")
    text = (folder / "run.txt.ir-metadata.yml").read_text()
    (folder / "run.txt.ir-metadata.yml").write_text(text.replace("sha256: ", "sha256: 0"))
    found = read_run_input(folder / "run.txt", None)
    assert found.first_run is None
    assert found.first_hits == expected
    [note] = found.notes
    assert "has changed since run.txt was made" in note


def test_a_run_alone_has_neither_journal_nor_first_stage(reasoned: Path) -> None:
    found = read_run_input(reasoned / "first.txt", None)
    assert (found.first_hits, found.journal, found.metadata, found.notes) == (None, None, {}, ())


def test_a_run_that_was_renamed_with_its_files_keeps_its_journal(folder: Path) -> None:
    for path in list(folder.glob("run.txt*")):
        path.rename(folder / path.name.replace("run.txt", "best.txt"))
    found = read_run_input(folder / "best.txt", None)
    assert found.journal == folder / "best.txt.journal.sqlite"
    assert found.journal_run.endswith(" run.txt")


def test_a_journal_of_another_run_is_refused(folder: Path) -> None:
    lines = (folder / "run.txt").read_text().replace("q0-d11", "q0-dX")
    (folder / "run.txt").write_text(lines)
    with pytest.raises(UsageError, match=r"is the journal of another run than .*: query q0 has another order there"):
        read_run_input(folder / "run.txt", None)
    assert read_run_input(folder / "run.txt", NO_JOURNAL).journal is None


def test_a_journal_of_other_topics_is_refused(folder: Path) -> None:
    (folder / "other.txt").write_text("z 0 d 1 1 t\n")
    with pytest.raises(UsageError, match="it has none of its queries; name the journal of the run with --journal"):
        read_run_input(folder / "other.txt", str(folder / "run.txt.journal.sqlite"))


def test_a_journal_of_several_other_runs_is_refused(folder: Path) -> None:
    journal = folder / "run.txt.journal.sqlite"
    with closing(sqlite3.connect(journal)) as connection, connection:
        connection.execute("UPDATE rankings SET run = 'a one.txt' WHERE qid = 'q0'")
        connection.execute("UPDATE rankings SET run = 'b two.txt' WHERE qid = 'q1'")
        connection.execute("UPDATE rankings SET run = 'a one.txt' WHERE qid = 'q2'")
        connection.execute("UPDATE judgements SET run = 'a one.txt'")
    with pytest.raises(
        UsageError, match=r"does not record run.txt, but a one.txt, b two.txt: name another run or journal"
    ):
        read_run_input(folder / "run.txt", None)


def test_an_empty_journal_is_noted(folder: Path) -> None:
    journal = folder / "run.txt.journal.sqlite"
    journal.unlink()
    Journal(journal, "nothing").close()
    found = read_run_input(folder / "run.txt", None)
    assert found.journal is None
    assert found.notes == ("The journal run.txt.journal.sqlite has no calls.",)


def test_a_file_that_is_not_a_journal_is_refused(folder: Path) -> None:
    (folder / "run.txt.journal.sqlite").write_bytes(b"")
    with pytest.raises(UsageError, match=r"is not a journal \(SQLite\) file"):
        read_run_input(folder / "run.txt", None)


def test_a_damaged_journal_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = folder / "run.txt.journal.sqlite"
    pages = journal.read_bytes()
    journal.write_bytes(pages[:4096] + b"\xff" * (len(pages) - 4096))
    assert main(["report", str(folder / "run.txt"), "--output", str(folder / "page.html")]) == 2
    assert "is damaged: database disk image is malformed; --journal none leaves it out" in capsys.readouterr().err


def test_runs_of_other_topics_can_not_be_compared(folder: Path) -> None:
    (folder / "other.txt").write_text("z 0 d 1 1 t\n")
    runs = [read_run_input(folder / name, None) for name in ("run.txt", "other.txt")]
    with pytest.raises(UsageError, match=r"has no query of .*run.txt: compare runs of the same topics"):
        list(check_same_topics(runs))


def test_runs_of_partly_the_same_topics_are_noted(folder: Path) -> None:
    lines = [line for line in (folder / "first.txt").read_text().splitlines(keepends=True) if not line.startswith("q2")]
    (folder / "part.txt").write_text("".join(lines))
    runs = [read_run_input(folder / name, None) for name in ("run.txt", "part.txt")]
    assert list(check_same_topics(runs)) == [
        "run.txt and part.txt have 2 queries in common; the first has 1 more, and the second 0 more."
    ]


def test_scores_that_are_not_numbers_are_refused(folder: Path) -> None:
    (folder / "nan.txt").write_text("q0 Q0 d 1 nan t\n")
    with pytest.raises(UsageError, match=r"nan.txt, line 1: the score 'nan' is not a finite number"):
        read_run_input(folder / "nan.txt", None)


def test_the_journal_keeps_the_scores_of_the_first_stage(folder: Path) -> None:
    text = (folder / "run.txt.ir-metadata.yml").read_text()
    (folder / "run.txt.ir-metadata.yml").write_text(text.replace("first.txt", "gone.txt"))
    found = read_run_input(folder / "run.txt", None)
    assert (found.first_run, found.notes) == (None, ())
    assert found.first_hits is not None
    assert [hit.score for hit in found.first_hits["q0"]] == [50.0 - i for i in range(12)]
