"""``rewrite``, and what the other commands say about ``--rewrite``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from pyserini_reasonrank import search
from pyserini_reasonrank.__main__ import main
from pyserini_reasonrank.ir.topics import read_topics
from pyserini_reasonrank.records import Query


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The flags of a rewriter with recorded answers for the topics of the current folder, of which one is empty."""
    monkeypatch.chdir(tmp_path)
    Path("topics.tsv").write_text("q1\twhy moths\nq2\tmoon\n")
    rows = [
        {"qid": "q1", "call": 0, "response": "<answer>lamp light</answer>"},
        {"qid": "q2", "call": 0, "response": ""},
    ]
    Path("answers.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return ["--rewrite", "keywords", "--rewrite.engine.name", "recorded", "--rewrite.engine.path", "answers.jsonl"]


def test_topics_are_rewritten_to_a_file(recorded: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["rewrite", "--topics", "topics.tsv", "--output", "out/new.tsv", *recorded]
    assert main(words) == 0
    assert read_topics("out/new.tsv") == [Query("q1", "why moths lamp light"), Query("q2", "moon")]
    said = capsys.readouterr()
    kept = "queries without a readable rewrite: 1 (1 empty), searched with their original query: q2"
    assert f"warning: {kept}" in said.err
    assert f"warning: {kept}" in said.out
    assert "rewrites  1 of 2 topics, 1 with their original query, 0 cut" in said.out
    metadata = yaml.safe_load(Path("out/new.tsv.ir-metadata.yml").read_text())
    assert metadata["method"]["query rewriting"]["topics with their original query"] == ["q2"]
    assert metadata["implementation"]["executable"]["cmd"].startswith("python -m pyserini_reasonrank rewrite --topics")
    assert main(words) == 0
    assert "from 0 LLM calls and 2 journal entries" in capsys.readouterr().out


def test_an_output_of_other_settings_is_not_replaced(recorded: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["rewrite", "--topics", "topics.tsv", "--output", "new.tsv", *recorded]
    assert main(words) == 0
    assert main([*words, "--rewrite.originals", "0"]) == 2
    assert "replace it with --rewrite.overwrite true" in capsys.readouterr().err
    assert main([*words, "--rewrite.originals", "0", "--rewrite.overwrite", "true"]) == 0
    assert read_topics("new.tsv")[0] == Query("q1", "lamp light")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("rewrite --topics topics.tsv --output new.tsv", "--rewrite needs the name of a rewriter"),
        (
            "rewrite --topics topics.tsv --output topics.tsv R",
            "--output topics.tsv is an input of this command (--topics)",
        ),
        ("rewrite --topics topics.tsv --output answers.jsonl R", "is an input of this command (--rewrite.engine.path)"),
        (
            "rewrite --topics topics.tsv --output new.tsv R --rewrite.rounds 2",
            "--rewrite.rounds above 1 needs a search",
        ),
        (
            "rewrite --topics topics.tsv --output new.jsonl R",
            "new.jsonl has the name of a JSON file, and topics are written as TSV",
        ),
        ("rewrite --topics gone.tsv --output new.tsv R", "gone.tsv does not exist"),
        ("rewrite --topcs topics.tsv --output new.tsv R", "has no flag --topcs; did you mean '--topics'?"),
        ("rerank --run run.txt --output new.txt --rerank upr R", "rerank reads a run that was already searched"),
    ],
)
def test_refusals(words: str, says: str, recorded: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    argv = [each for word in words.split() for each in (recorded if word == "R" else [word])]
    assert main(argv) == 2
    assert says in capsys.readouterr().err
    assert not Path("new.tsv").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            "--index I --topics topics.tsv --output run.txt --impact R",
            "--rewrite needs a search with the text of the topics",
        ),
        ("--index I --output run.txt R", "--rewrite needs --topics; see python -m pyserini.search.lucene --help"),
        ("--topics topics.tsv --output run.txt R", "--rewrite needs --index"),
        ("--index I --topics topics.tsv R", "--output is required"),
        (
            "--index I --topics topics.tsv --output run.txt --output-format kilt R",
            "--output-format kilt is not supported",
        ),
        ("--index I --topics topics.tsv --output run.txt --rerank R", "--rerank needs the name of a reranker"),
        ("--index I --topics topics.tsv --output run.txt R --rerank.depth 3", "--rerank needs the name of a reranker"),
        ("--index I --topics topics.tsv --output topics.tsv R", "is an input of this command (--topics)"),
        ("--index I --topics run.txt.rewritten.tsv --output run.txt R", "would overwrite run.txt.rewritten.tsv"),
    ],
)
def test_refusals_of_a_search(words: str, says: str, recorded: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    argv = [each for word in words.split() for each in (recorded if word == "R" else [word])]
    assert search.main(argv, search.HOST_DEFAULT) == 2
    assert says in capsys.readouterr().err
    assert not Path("run.txt").exists()


def test_the_help_of_a_rewriter_lists_its_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rewrite", "--rewrite", "passage", "--help"]) == 0
    said = capsys.readouterr().out
    assert "originals: 5" in said
    assert "--rewrite.originals" in said
    assert "BM25 counts each" in said
    assert "--rewrite.judge.tags" in said
    assert "--rewrite.fuse" not in said
    assert "--rewrite.judge.votes" not in said


def test_explain_counts_the_calls_of_a_rewriter(recorded: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    words = [*recorded, "--rewrite.rounds", "3", "--rewrite.depth", "4", "--queries", "10"]
    assert main(["explain", *words]) == 0
    said = capsys.readouterr().out
    rows = {line[:26].strip(): line[26:].split() for line in said.splitlines()}
    assert rows["calls"] == ["3", "30"]
    assert rows["passages shown"] == ["8", "80"]
    assert rows["output tokens, at most"] == ["768", "7,680"]
    assert int(rows["prompt tokens, at most"][0].replace(",", "")) > 8 * 256
    oracle = ["--rerank", "reasonrank", "--rerank.engine.name", "oracle", "--rerank.engine.qrels", "q"]
    assert main(["explain", *words, *oracle]) == 0
    both = capsys.readouterr().out
    assert both.startswith(said.rstrip("\n"))
    assert "reasonrank with oracle on oracle" in both
    assert main(["explain", *words, "--rewrite.passage_tokens", "null", "--tokens-per-second", "100"]) == 2
    assert "set --rewrite.passage_tokens" in capsys.readouterr().err
