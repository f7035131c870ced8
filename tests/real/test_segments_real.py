"""Long documents with the embedded model: segments of abstracts of SciFact, and the prediction of their number."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pyserini_reasonrank.__main__ import main
from pyserini_reasonrank.ir.runs import read_run
from pyserini_reasonrank.journal_reader import rankings

SEGMENTS = ("--rerank.segments.tokens", "64", "--rerank.segments.stride", "48", "--rerank.segments.most", "12")


@pytest.mark.model
def test_the_segment_with_the_answer_is_found(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    source = data / "beir-scifact"
    texts = {}
    with (source / "corpus.jsonl").open(encoding="utf-8") as corpus:
        for line in corpus:
            row = json.loads(line)
            texts[str(row["id"])] = " ".join(row["contents"].split())
    filler = sorted(texts)[:4]
    answer = next(text for text in texts.values() if "biomaterial" in text)
    query = " ".join(answer.split()[:12])
    before = texts[filler[0]][:700]
    documents = [
        {"docid": "other", "text": f"{texts[filler[1]][:900]}\n{texts[filler[2]][:900]}"},
        {"docid": "answer", "title": "Two abstracts", "text": f"{before}\n{answer[:900]}"},
    ]
    Path("candidates.jsonl").write_text(json.dumps({"qid": "1", "query": query, "candidates": documents}) + "\n")
    rerank = ["rerank", "--candidates", "candidates.jsonl", "--output", "run.txt", "--rerank", "upr"]
    assert main([*rerank, *SEGMENTS, "--rerank.fuse.method", "none"]) == 0
    assert [hit.docid for hit in read_run("run.txt")["1"]] == ["answer", "other"]
    [ranking] = rankings(Path("run.txt.journal.sqlite"))
    best, other = (line["segment"] for line in ranking["ranking"])
    assert best["end_char"] > len(before)
    summary = capsys.readouterr().out
    assert f"calls     {best['of'] + other['of']} judgements" in summary
    assert main(["trace", "show", "run.txt", "--qid", "1", "--call", "0"]) == 0
    shown = capsys.readouterr().out
    assert "differs from the prompt" not in shown
    assert "segment 1 of" in shown
