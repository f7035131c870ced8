"""``evaluate`` on the command line: runs after measures, formats, and sentences about bad input."""

import json
from pathlib import Path

import pytest

from pyserini_reasonrank.__main__ import main


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("qrels").write_text("1 0 a 1\n2 0 b 1\n")
    Path("first.txt").write_text("1 Q0 b 1 2 x\n1 Q0 a 2 1 x\n2 Q0 b 1 1 x\n")
    Path("run.txt").write_text("1 Q0 a 1 2 x\n1 Q0 b 2 1 x\n2 Q0 b 1 1 x\n")


@pytest.mark.parametrize(
    "words",
    [
        "--measures RR P@1 first.txt run.txt",
        "first.txt --measures RR P@1 run.txt",
        "first.txt run.txt --measures RR P@1",
        "--measures RR P@1 -- first.txt run.txt",
        "--measures RR first.txt --measures P@1 run.txt",
        "--measures=RR --measures=P@1 first.txt run.txt",
        "--measures RR P@1 ./first.txt --duplicates refuse run.txt",
        "--measures RR P@1 first.txt --per-query run.txt",
    ],
)
def test_runs_may_follow_measures(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--qrels", "qrels", "--format", "json", *words.split()]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [Path(run["run"]).name for run in (report["first"], *report["runs"])] == ["first.txt", "run.txt"]
    assert [score["measure"] for score in report["first"]["scores"]] == ["MRR", "P@1"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--measures RR", "the following arguments are required: RUN"),
        ("--measures first.txt", "argument --measures: expected at least one measure"),
        ("first.txt --measures", "argument --measures: expected at least one measure"),
        ("--measures nDGC@10 first.txt", "there is no measure 'nDGC'; did you mean 'nDCG'?"),
        ("--measures nDCG@0 first.txt", "the cut-off must be an integer from 1"),
        ("--measures=nDCG@0 first.txt", "the cut-off must be an integer from 1"),
        ("--measures P@ first.txt", "'P@' is not a measure"),
        ("--measures nDCG(dcg=foo)@10 first.txt", "'nDCG(dcg=foo)@10' is not a measure"),
        ("--measures ndcg_cut_5,10 first.txt", "'ndcg_cut_5,10' names 2 measures or cut-offs"),
        ("qrels", "qrels, line 1: 4 columns, expected 6 (TREC) or 3 (MS MARCO); the file looks like qrels"),
        (
            "--qrels first.txt qrels",
            "first.txt, line 1: 6 columns, expected 4: qid, iteration, docid, relevance; the file looks like a run",
        ),
        ("--measures RR missing.txt", "missing.txt"),
        ("--measures RR AP first.txt", "AP is both a measure and a file: write ./AP for the file"),
        ("--format xml first.txt", "invalid choice: 'xml'"),
        ("--test anova first.txt", "invalid choice: 'anova'"),
        ("--all-pair first.txt", "has no flag --all-pair; did you mean '--all-pairs'?"),
        ("--format latex --per-query first.txt", "has no table of queries"),
    ],
)
def test_bad_words_are_one_sentence(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("AP").write_text(Path("run.txt").read_text())
    qrels = [] if "--qrels" in words else ["--qrels", "qrels"]
    assert main(["evaluate", *qrels, *words.split()]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert message in shown.err
    assert shown.err.count("\n") == 1


def test_a_report_checks_its_measures_and_needs_judgments_for_them(capsys: pytest.CaptureFixture[str]) -> None:
    report = ["report", "first.txt", "--output", "page.html", "--measures"]
    assert main([*report, "nDCG@10"]) == 2
    assert "--measures needs --qrels" in capsys.readouterr().err
    assert main([*report, "nDCG@0", "--qrels", "qrels"]) == 2
    assert "the cut-off must be an integer from 1" in capsys.readouterr().err
    assert not Path("page.html").exists()


def test_warnings_are_in_the_text_and_beside_the_csv(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    Path("run.txt").write_text("1 Q0 a 1 2 x\n1 Q0 b 2 1 x\n")
    warning = "run.txt has no documents for 1 judged query that first.txt answers (for example 2)"
    assert main(["evaluate", "--qrels", "qrels", "first.txt", "run.txt"]) == 0
    assert f"Warning: {warning}" in capsys.readouterr().out
    assert not caplog.messages
    assert main(["evaluate", "--qrels", "qrels", "--format", "csv", "first.txt", "run.txt"]) == 0
    assert warning not in capsys.readouterr().out
    assert [message for message in caplog.messages if message.startswith(warning)]
