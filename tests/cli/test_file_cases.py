"""Files as people publish them, through ``rerank``, ``evaluate`` and ``validate``: a right reading, or one sentence."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pyserini_reasonrank.__main__ import main
from pyserini_reasonrank.ir.runs import read_run

CORPUS = {
    "d1": "Moths fly towards lamps because they steer by the light of the moon.",
    "d2": "A lamp uses electricity to make light in a room.",
    "d3": "The moon is lit by the sun and moves round the earth.",
    "torch/Memory Management_1.txt": "Memory is managed by counting references.",
}
ANSWER = {"qid": "q1", "call": 0, "response": "<think>x</think><answer>[2] > [1]</answer>"}

Rerank = Callable[..., int]


@pytest.fixture
def rerank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rerank:
    """``rerank("--run", ...)``: rerank with a recorded answer that swaps two passages, into run.txt."""
    monkeypatch.chdir(tmp_path)
    lines = [json.dumps({"id": docid, "contents": text}) for docid, text in CORPUS.items()]
    Path("corpus.jsonl").write_text("\n".join(lines))
    Path("topics.tsv").write_text("q1\tmoths lamp\n")
    Path("answers.jsonl").write_text(json.dumps(ANSWER))
    Path("qrels.txt").write_text("q1 0 d3 1\n")

    def run(*words: str) -> int:
        recorded = [
            "--rerank",
            "reasonrank",
            "--rerank.engine.name",
            "recorded",
            "--rerank.engine.path",
            "answers.jsonl",
        ]
        return main(["rerank", *words, "--output", "run.txt", *recorded])

    return run


def order(run: str = "run.txt") -> list[str]:
    return [hit.docid for hit in read_run(run)["q1"]]


FILES = ["--topics", "topics.tsv", "--corpus", "corpus.jsonl"]


@pytest.mark.parametrize(
    "text",
    [
        "q1 Q0 d2 1 1.0 x\nq1 Q0 d3 2 1.0 x\n",
        "q1\tQ0\td2\t0\t1.5e-01\tx\r\nq1\tQ0\td3\t1\t1.4E-1\tx\r\n",
        "\ufeffq1 Q0 d2 1 9 x\nq1 Q0 d3 2 8 x\n",
        "q1\td2\t1\nq1\td3\t2\n",
    ],
    ids=["ties", "tabs, CRLF and ranks from 0", "BOM", "MS MARCO"],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_runs_of_other_programs(text: str, zipped: bool, rerank: Rerank) -> None:
    data = text.encode()
    Path("first").write_bytes(gzip.compress(data) if zipped else data)
    assert rerank("--run", "first", *FILES) == 0
    assert order() == ["d3", "d2"]
    assert main(["validate", "run.txt", "--topics", "topics.tsv", "--first", "first"]) == 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("q1 Q0 d2 1 nan x\n", "first, line 1: the score 'nan' is not a finite number"),
        ("q9 Q0 d2 1 1.0 x\n", "no query of first is in the topics topics.tsv (the first is q9)"),
        ("q1 Q0 d2 1 1 x\nq9 Q0 d2 1 1.0 x\n", "first has query q9, which is not in the topics topics.tsv"),
        ("q1 Q0 d2 1 2 x\nq1 Q0 d2 2 1 x\n", "query q1 lists document d2 twice; "),
        (
            '{"qid": "q1", "ranking": []}\n' * 2 + '{"qid": "q1", "candidates": [{"docid": "d2"}]}\n' * 2,
            "line 4 repeats query q1 of line 3",
        ),
    ],
)  # fmt: skip
def test_runs_that_are_wrong(text: str, says: str, rerank: Rerank, capsys: pytest.CaptureFixture[str]) -> None:
    Path("first").write_text(text)
    assert rerank("--run", "first", *FILES) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("separator", [" ", "\t"])
def test_docids_with_blanks_are_read_and_replaced(
    separator: str, rerank: Rerank, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [["q1", "Q0", "torch/Memory Management_1.txt", "1", "0.9", "x"], ["q1", "Q0", "d2", "2", "0.8", "x"]]
    Path("first").write_text("".join(separator.join(columns) + "\n" for columns in lines))
    assert rerank("--run", "first", *FILES) == 2
    assert "--rerank.docid_blanks _ replaces it with _" in capsys.readouterr().err
    assert rerank("--run", "first", *FILES, "--rerank.docid_blanks", "_") == 0
    assert order() == ["d2", "torch/Memory_Management_1.txt"]


def test_repeated_documents_keep_their_better_place_with_a_warning(
    rerank: Rerank, caplog: pytest.LogCaptureFixture
) -> None:
    Path("first").write_text("q1 Q0 d2 1 0.9 e5\nq1 Q0 d2 2 0.8 e5\nq1 Q0 d3 3 0.7 e5\nq1 Q0 d3 4 0.6 e5\n")
    assert rerank("--run", "first", *FILES, "--duplicates", "keep-first") == 0
    assert order() == ["d3", "d2"]
    assert "first: 2 documents are listed again for their query (first: query q1, document d2)" in caplog.text


def test_passages_of_msmarco_v2_have_their_own_id(rerank: Rerank) -> None:
    rows = [
        {"pid": f"msmarco_passage_00_{i}0", "passage": text, "spans": "(0,55)", "docid": f"msmarco_doc_00_{i}"}
        for i, text in enumerate(CORPUS.values())
    ]
    Path("corpus.jsonl").write_text("\n".join(map(json.dumps, rows)))
    Path("first").write_text("q1 Q0 msmarco_passage_00_20 1 9 first\nq1 Q0 msmarco_passage_00_10 2 8 first\n")
    assert rerank("--run", "first", *FILES) == 0
    assert order() == ["msmarco_passage_00_10", "msmarco_passage_00_20"]


@pytest.mark.parametrize("name", ["topics.tsv", "corpus.jsonl", "qrels.txt"])
def test_a_byte_order_mark_is_no_content(name: str, rerank: Rerank, capsys: pytest.CaptureFixture[str]) -> None:
    Path("first").write_text("q1 Q0 d2 1 9 x\nq1 Q0 d3 2 8 x\n")
    Path(name).write_bytes(b"\xef\xbb\xbf" + Path(name).read_bytes())
    assert rerank("--run", "first", *FILES) == 0
    assert order() == ["d3", "d2"]
    capsys.readouterr()
    assert main(["evaluate", "--qrels", "qrels.txt", "--format", "json", "run.txt"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["queries"], report["first"]["scores"][0]["value"]) == (1, 1.0)


def test_repeated_queries_name_both_lines(rerank: Rerank, capsys: pytest.CaptureFixture[str]) -> None:
    Path("first").write_text("q1 Q0 d2 1 9 x\n")
    Path("topics.tsv").write_text("q1\tone\nq2\ttwo\n\nq1\tthree\n")
    assert rerank("--run", "first", *FILES) == 2
    assert "topics.tsv, line 4 repeats the qid 'q1' of line 1" in capsys.readouterr().err
    row = json.dumps({"query": {"qid": "q1", "text": "x"}, "candidates": []})
    lines = (f"{row}\n\n{row}\n", "line 3: query q1 occurs twice; line 1")
    for text, says in (lines, (f"[{row}, {row}]", "request 2: query q1 occurs twice; request 1")):
        Path("candidates.json").write_text(text)
        assert rerank("--candidates", "candidates.json") == 2
        assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    "row",
    [
        {"query": {"text": "why", "qid": "q1"}, "candidates": [
            {"docid": "d1", "score": 9.0, "doc": {"contents": "Moths steer."}},
            {"docid": "d2", "score": 8.0, "doc": {"title": "Lamps", "segment": "A lamp."}},
        ]},
        {"query": "why", "hits": [
            {"content": "Moths steer.", "qid": "q1", "docid": "d1", "rank": 1, "score": 9.0},
            {"content": "A lamp.", "qid": "q1", "docid": "d2", "rank": 2, "score": 8.0},
        ]},
    ],
    ids=["RankLLM", "RankGPT"],
)  # fmt: skip
@pytest.mark.parametrize("indent", [None, 2])
def test_requests_of_other_projects(row: dict[str, object], indent: int | None, rerank: Rerank) -> None:
    Path("requests.json").write_text(json.dumps([row], indent=indent) if indent else json.dumps(row))
    assert rerank("--candidates", "requests.json") == 0
    assert order() == ["d2", "d1"]
