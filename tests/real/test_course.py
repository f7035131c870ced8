"""The course: its notebooks run, print what they printed when they were committed, and its exercises can be solved."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import course_data
import nbformat
import pytest
from conftest import ROOT, more
from nbclient import NotebookClient
from test_docs import PRIVATE

from pyserini_reasonrank.cli import evaluate, rerank, validate

COURSE = ROOT / "docs" / "course"
UNITS = sorted(path.stem for path in COURSE.glob("*.ipynb"))
FIRST, SECOND, THIRD, FOURTH, FIFTH = UNITS


pytest.importorskip("matplotlib")
pytestmark = pytest.mark.skipif(
    shutil.which("bash") is None, reason="the notebooks run commands in a shell, and there is no bash"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the course in which all units run, one after the other, as a student's checkout."""
    copy = tmp_path_factory.mktemp("course") / "course"
    shutil.copytree(COURSE, copy, ignore=shutil.ignore_patterns("work", "__pycache__", ".ipynb_checkpoints"))
    return copy


@pytest.fixture
def on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """`!python` in a notebook is this Python."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.usefixtures("on_path")
@pytest.mark.parametrize(
    ("unit", "index"),
    [(FIRST, False), (FOURTH, True), *more((FIRST, True), (SECOND, True), (THIRD, True), (FIFTH, True))],
)
def test_a_unit_runs_and_prints_what_was_committed(
    unit: str, index: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REASONRANK_COURSE_STEPS", "2")  # test_grpo_script.py tests that the model learns
    if not index:
        monkeypatch.setenv("REASONRANK_COURSE_INDEX", "0")
    committed = nbformat.read(folder / f"{unit}.ipynb", as_version=4)
    notebook = nbformat.from_dict(json.loads(json.dumps(committed)))
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=3600, kernel_name="python3", resources=resources).execute()
    same_python = committed.metadata.language_info.version == platform.python_version()
    for found, expected in zip(notebook.cells, committed.cells, strict=True):
        assert not re.search("Traceback|error: ", printed(found)), found.source  # a notebook ignores an exit status
        if same_python and "varies" not in expected.metadata.get("tags", []):
            assert printed(found) == printed(expected), expected.source


def printed(cell: Any) -> str:
    """The text below a cell, without figures."""
    return "".join(output.text for output in cell.get("outputs", []) if output.output_type == "stream")


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_has_goals_an_exercise_and_the_output_of_a_whole_run(unit: str) -> None:
    cells = nbformat.read(COURSE / f"{unit}.ipynb", as_version=4).cells
    prose = [cell.source for cell in cells if cell.cell_type == "markdown"]
    assert prose[0].startswith(f"# Unit {unit[0]}: ")
    assert "**Goals.**" in prose[0]
    assert any("## Exercise" in text and "**A right answer**" in text for text in prose)
    assert [cell.execution_count for cell in cells if cell.cell_type == "code"] == [
        *range(1, sum(cell.cell_type == "code" for cell in cells) + 1)
    ]
    figures = [output for cell in cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})]
    assert 1 <= len(figures) <= 2
    assert f"({unit}.ipynb)" in (COURSE / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"`[^`]*`", "``", re.sub(r"```.*?```", "", "\n".join(prose), flags=re.DOTALL))
    assert not [phrase for phrase in PRIVATE if re.search(phrase.replace(" ", r"\s+"), text)]


# The exercises: the commands that check an answer, and a right answer.


@pytest.fixture
def student(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the course as the current one, with the files of ``course_data.prepare``."""
    monkeypatch.chdir(folder)
    if not Path("work/bm25.txt").exists():
        course_data.prepare()
    if Path("work/bm25.txt").read_bytes() != Path("runs/bm25.txt").read_bytes():
        pytest.skip(f"Python {platform.python_version()} documents other objects, so the figures are others")
    return folder


Checked = Callable[[str], dict[str, Any]]


@pytest.fixture
def checked(student: Path, capsys: pytest.CaptureFixture[str]) -> Checked:
    """``checked("exercise1")``: the answer passes `validate`; its mean nDCG@10, p against BM25, and LLM calls."""

    def check(name: str) -> dict[str, Any]:
        run = f"work/{name}.txt"
        assert validate.main([run, "--topics", "work/topics.tsv", "--first", "work/bm25.txt"]) == 0
        capsys.readouterr()
        flags = ["--qrels", "work/qrels.txt", "--measures", "nDCG@10", "--format", "json"]
        assert evaluate.main([*flags, "work/bm25.txt", run]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return check


def mean_and_cost(found: Mapping[str, Any]) -> tuple[float, float, int | None]:
    """The mean nDCG@10 of the answer, its p value against BM25, and its LLM calls if its metadata has them."""
    [run] = found["runs"]
    [score] = run["scores"]
    return score["value"], score["comparison"]["corrected"], run["cost"] and run["cost"]["calls"]


def write(path: str, run: Mapping[str, Sequence[str]]) -> None:
    lines = [
        f"{qid} Q0 {docid} {rank} {len(docids) - rank} answer\n"
        for qid, docids in run.items()
        for rank, docid in enumerate(docids, 1)
    ]
    Path(path).write_text("".join(lines), encoding="utf-8")


def states(unit: str, *numbers: str) -> bool:
    """Whether the exercise of a unit names these numbers."""
    cells = nbformat.read(COURSE / f"{unit}.ipynb", as_version=4).cells
    [text] = [cell.source for cell in cells if "**A right answer**" in cell.source]
    return all(re.search(rf"(?<!\d){re.escape(number)}(?!\d)", text) for number in numbers)


def test_exercise_1_the_beginning_of_a_document_says_what_it_is_for(checked: Checked) -> None:
    collection = course_data.prepare()
    frequent = (
        "a an and are as at be but by each for from have how if in is it its my not of on or that the this to with"
    )

    def stems(text: str) -> set[str]:
        return {word[:5] for word in re.findall("[a-z]+", text.lower()) if word not in frequent.split()}

    def score(qid: str, hit: Mapping[str, Any]) -> float:
        beginning = " ".join(hit["text"].split()[:15])
        return float(hit["score"] + 2 * len(stems(collection.topics[qid]) & stems(beginning)))

    def best_first(qid: str, hits: Sequence[Mapping[str, Any]]) -> list[str]:
        return [hit["docid"] for hit in sorted(hits, key=lambda hit: -score(qid, hit))]

    run = {qid: best_first(qid, hits) for qid, hits in collection.bm25.items()}
    write("work/exercise1.txt", run)
    mean, _, _ = mean_and_cost(checked("exercise1"))
    assert mean >= 0.20
    assert states(FIRST, "0.20")


ORACLE = ["--rerank.engine.name", "oracle", "--rerank.engine.qrels", "work/qrels.txt"]


def reranked(name: str, *flags: str) -> None:
    words = ["--run", "work/bm25.txt", "--topics", "work/topics.tsv", "--corpus", "work/corpus.jsonl"]
    assert rerank.main([*words, "--output", f"work/{name}.txt", *flags, *ORACLE]) == 0


def test_exercise_2_windows_of_30_hand_on_ten(checked: Checked) -> None:
    window = ["--rerank.strategy.window_size", "30", "--rerank.strategy.stride"]
    reranked("exercise2", "--rerank", "rankgpt", *window, "20")
    mean, _, calls = mean_and_cost(checked("exercise2"))
    assert (round(mean, 4), calls) == (0.6083, 200)
    assert states(SECOND, "0.6083", "200")
    reranked("wrong2", "--rerank", "rankgpt", *window, "25")
    assert mean_and_cost(checked("wrong2"))[0] < 0.6083  # a larger stride loses relevant documents


def test_exercise_3_large_sets_and_few_ranks(checked: Checked) -> None:
    setwise = ["--rerank", "setwise", "--rerank.depth", "20"]
    reranked("exercise3", *setwise, "--rerank.strategy.children", "9", "--rerank.strategy.k", "6")
    mean, _, calls = mean_and_cost(checked("exercise3"))
    assert mean >= 0.38
    assert calls is not None
    assert calls <= 400
    assert states(THIRD, "0.38", "400", "757")
    reranked("wrong3", *setwise)
    assert mean_and_cost(checked("wrong3"))[2] == 757


def test_exercise_4_fusion_by_reciprocal_ranks(checked: Checked) -> None:
    collection = course_data.prepare()
    scores: dict[str, dict[str, float]] = {qid: defaultdict(float) for qid in collection.topics}
    for name in ("bm25", "upr"):
        for qid, hits in course_data.read_run(Path(f"runs/{name}.txt"), collection.texts).items():
            for rank, (docid, _) in enumerate(hits, 1):
                scores[qid][docid] += 1 / (60 + rank)
    write("work/exercise4.txt", {qid: sorted(found, key=lambda d: -found[d]) for qid, found in scores.items()})
    mean, p, _ = mean_and_cost(checked("exercise4"))
    assert mean >= 0.22
    assert p < 0.05
    assert states(FOURTH, "0.22")


@pytest.mark.soak_only
def test_exercise_5_training_improves_the_model(student: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert Path("work/trained.txt").exists()  # unit 5 has run: its own adapter is a right answer
    assert validate.main(["work/trained.txt", "--topics", "work/first-topics.tsv"]) == 0
    capsys.readouterr()
    flags = ["--qrels", "work/first-qrels.txt", "--measures", "nDCG@10", "--format", "json"]
    assert evaluate.main([*flags, "work/untrained.txt", "work/trained.txt"]) == 0
    [run] = json.loads(capsys.readouterr().out)["runs"]
    assert run["scores"][0]["comparison"]["change"] > 0
