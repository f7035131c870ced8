"""The formats of an evaluation: escaped names, marks, and figures that can be read back."""

import csv
import io
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.evaluate import evaluate
from pyserini_reasonrank.ir.evaluation_csv import as_csv
from pyserini_reasonrank.ir.evaluation_formats import FORMATS, as_json, as_text
from pyserini_reasonrank.ir.metadata import sidecar, write_metadata
from pyserini_reasonrank.ir.paper_tables import as_latex, as_markdown, escape_latex, escape_markdown
from pyserini_reasonrank.ir.scores import Analysis, Evaluation

QIDS = range(1, 13)
LLM = {"calls": 1200, "prompt tokens": 50000, "output tokens": 10, "calls answered from the journal": 5}


def run(path: Path, good: range) -> Path:
    lines = [
        f"{qid} Q0 {docid} {rank} {2 - rank} x\n"
        for qid in QIDS
        for rank, docid in enumerate("ab" if qid in good else "ba", 1)
    ]
    path.write_text("".join(lines))
    return path


def report_of(folder: Path, **wanted: Any) -> Evaluation:
    """Twelve queries; the baseline is right in none, ``50%_a&b|c`` in ten, ``close`` in two."""
    qrels = folder / "q_rels.txt"
    qrels.write_text("".join(f"{qid} 0 a 1\n" for qid in QIDS))
    base, good, close = (
        run(folder / "base", range(0)), run(folder / "50%_a&b|c", range(1, 11)), run(folder / "close", range(1, 3)),
    )  # fmt: skip
    write_metadata(sidecar(good), {"resources": {"llm": LLM, "runtime in seconds": {"rerank": 12.5}}})
    return evaluate(qrels, base, [good, close], ["P@1", "RR"], analysis=Analysis(**wanted))


def test_latex_escapes_names_and_marks_significance(tmp_path: Path) -> None:
    lines = as_latex(report_of(tmp_path)).splitlines()
    rows = lines[lines.index(r"\midrule") + 1 : lines.index(r"\bottomrule")]
    assert rows == [
        r"base & 0.0000 & 0.5000 &  &  &  \\",
        r"50\%\_a\&b\textbar{}c & \textbf{0.8333}$^{\ddagger}$ & \textbf{0.9167}$^{\ddagger}$ & 1,205 & 50,010 & 12.5 \\",
        r"close & 0.1667 & 0.5833 &  &  &  \\",
    ]
    assert lines[lines.index(r"\toprule") + 1] == r"run & P@1 & MRR & calls & tokens & seconds \\"
    (caption,) = [line for line in lines if line.startswith(r"\caption")]
    assert r"q\_rels.txt" in caption
    assert r"$\dagger$ p \textless{} 0.05" in caption
    assert "Holm's correction for 2 comparisons" in caption


def test_latex_of_all_pairs_has_letters(tmp_path: Path) -> None:
    text = as_latex(report_of(tmp_path, all_pairs=True))
    assert r"(b) 50\%\_a\&b\textbar{}c & \textbf{0.8333}$^{\mathrm{ac}}$" in text
    assert r"(a) base & 0.0000 &" in text


def test_escapes() -> None:
    assert escape_latex("a_b%c#d$e&f{g}h\\i~j^k\n<l>") == (
        r"a\_b\%c\#d\$e\&f\{g\}h\textbackslash{}i\textasciitilde{}j\textasciicircum{}k \textless{}l\textgreater{}"
    )
    assert escape_markdown("a|b*c_d`e[f]<script>\n") == r"a\|b\*c\_d\`e\[f\]\<script\>"


@pytest.mark.parametrize("wanted", [{}, {"all_pairs": True}, {"intervals": True, "similarity": True}])
def test_latex_compiles(wanted: dict[str, bool], tmp_path: Path) -> None:
    compiler = next(filter(None, map(shutil.which, ("tectonic", "pdflatex"))), None)
    if compiler is None:
        pytest.skip("neither tectonic nor pdflatex is installed")
    body = as_latex(report_of(tmp_path, **wanted))
    packages = r"\usepackage[T1]{fontenc}\usepackage{booktabs}"
    document = rf"\documentclass{{article}}{packages}\begin{{document}}{body}\end{{document}}"
    (tmp_path / "table.tex").write_text(document)
    flags = ["-interaction=nonstopmode", "-halt-on-error"] if compiler.endswith("pdflatex") else []
    subprocess.run([compiler, *flags, "table.tex"], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "table.pdf").stat().st_size


def test_markdown_has_a_table_with_as_many_cells_in_each_row(tmp_path: Path) -> None:
    text = as_markdown(report_of(tmp_path, per_query=True, similarity=True))
    tables = re.findall(r"(?:^\|.*\|$\n?)+", text, re.MULTILINE)
    assert len(tables) == 2
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1
    assert r"| 50%\_a\&b\|c | **0.8333**<sup>‡</sup> |" in tables[0]
    assert "close and base: RBO (p = 0.9) 0.9833, Kendall's tau 0.6667 over 12 queries." in text


def test_csv_has_the_figures_unrounded(tmp_path: Path) -> None:
    report = report_of(tmp_path, intervals=True, similarity=True)
    rows = list(csv.DictReader(io.StringIO(as_csv(report))))
    assert [(row["measure"], Path(row["run"]).name) for row in rows][:4] == [
        ("P@1", "base"), ("P@1", "50%_a&b|c"), ("P@1", "close"), ("MRR", "base"),
    ]  # fmt: skip
    score = report.runs[0].scores[0]
    assert score.comparison is not None
    assert score.interval is not None
    found = rows[1]
    assert float(found["score"]) == score.value
    assert float(found["p_corrected"]) == score.comparison.corrected
    assert (float(found["score_low"]), float(found["score_high"])) == score.interval
    assert (found["calls"], found["seconds"], found["queries"], found["answered"]) == ("1200", "12.5", "12", "12")
    assert rows[0]["p"] == rows[0]["calls"] == ""


def test_csv_of_pairs_and_of_queries(tmp_path: Path) -> None:
    pairs = list(csv.DictReader(io.StringIO(as_csv(report_of(tmp_path, all_pairs=True)))))
    assert [(row["measure"], Path(row["base"]).name, Path(row["run"]).name) for row in pairs][1:3] == [
        ("P@1", "base", "close"), ("P@1", "50%_a&b|c", "close"),
    ]  # fmt: skip
    queries = list(csv.DictReader(io.StringIO(as_csv(report_of(tmp_path, per_query=True)))))
    assert len(queries) == 2 * 12 * 3
    assert sum(float(row["score"]) for row in queries if row["measure"] == "P@1" and row["run"].endswith("c")) == 10
    for flag in ("all-pairs", "intervals", "similarity"):
        with pytest.raises(UsageError, match=f"CSV has one table, of the queries with --per-query: leave out --{flag}"):
            as_csv(report_of(tmp_path, per_query=True, **{flag.replace("-", "_"): True}))


def test_latex_has_no_table_of_queries(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no table of queries: use --format csv"):
        as_latex(report_of(tmp_path, per_query=True))


def test_text_has_costs_pairs_similarities_and_queries(tmp_path: Path) -> None:
    text = as_text(report_of(tmp_path, all_pairs=True, intervals=True, similarity=True, per_query=True))
    assert "50%_a&b|c  1,200             5         50,000             10     12.5  none" in text
    assert re.search(r"^measure +run +compared with +change +95% of change +p +won +tied +lost$", text, re.MULTILINE)
    assert re.search(r"^run +compared with +RBO +tau +queries$", text, re.MULTILINE)
    assert re.search(r"^P@1 +7 +0\.0000 +1\.0000 +0\.0000$", text, re.MULTILINE)


def test_json_is_the_evaluation(tmp_path: Path) -> None:
    report = report_of(tmp_path, all_pairs=True, similarity=True)
    found = json.loads(as_json(report))
    assert found["test"] == "t"
    assert found["runs"][0]["cost"]["prompt_tokens"] == 50000
    assert [pair["comparisons"][0]["won"] for pair in found["pairs"]] == [10, 2, 0]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_writes_a_single_run(name: str, tmp_path: Path) -> None:
    qrels = tmp_path / "qrels"
    qrels.write_text("1 0 a 1\n")
    assert "0.5" in FORMATS[name](evaluate(qrels, run(tmp_path / "base", range(0)), measures=["RR"]))
