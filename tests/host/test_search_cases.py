"""Searches with Pyserini of small indexes: topics as people write them, other texts to rerank, excluded documents."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pyserini_reasonrank.__main__ import main
from pyserini_reasonrank.host.candidates_writer import rewrite_host_run
from pyserini_reasonrank.ir.runs import read_run
from pyserini_reasonrank.ir.selection import Selection
from pyserini_reasonrank.journal_reader import export
from pyserini_reasonrank.run.candidates import parse_request

pytestmark = pytest.mark.jvm

UNREACHABLE = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
CORPUS = {
    "d1": "Moths fly towards lamps because they steer by the light of the moon.",
    "d2": "A lamp uses electricity to make light in a room.",
    "d3": "The moon is lit by the sun and moves round the earth.",
    "d4": "Insects around a lamp tilt their backs to the light and circle it.",
    "d5": "Flying machines need light frames and a strong lamp for landing.",
    "torch/Lamp Post_1.txt": "The lamp post.",
}
PASSAGES = [
    {
        "pid": "msmarco_passage_00_10",
        "passage": "Moths steer by zenith.",
        "spans": "(0,9)",
        "docid": "msmarco_doc_00_1",
    },
    {"pid": "msmarco_passage_00_20", "passage": "The zenith is above.", "spans": "(0,9)", "docid": "msmarco_doc_00_1"},
]
Search = Callable[..., "subprocess.CompletedProcess[str]"]


def process(module: str, *words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *map(str, words)]
    return subprocess.run(command, cwd=cwd, env=os.environ | UNREACHABLE, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a corpus, its index, and judgments."""
    folder = tmp_path_factory.mktemp("searches")
    rows = [*({"id": docid, "contents": text} for docid, text in CORPUS.items()), *PASSAGES]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "qrels.txt").write_text("q1 0 d4 1\nq1 0 d1 0\n007 0 d3 2\n31_1 0 d5 1\nzen 0 msmarco_passage_00_20 1\n")
    done = process("pyserini_reasonrank", "index", "--corpus", "corpus.jsonl", "--index", "index", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def search(folder: Path) -> Search:
    """``search("run.txt", "--topics", "t.tsv", ...)``: search the index and rerank with the oracle."""

    def run(output: str, *words: object, status: int = 0) -> subprocess.CompletedProcess[str]:
        oracle = ["--rerank", "reasonrank", "--rerank.engine.name", "oracle", "--rerank.engine.qrels", "qrels.txt"]
        flags = ["--index", "index", "--bm25", "--output", output, *oracle, *words]
        done = process("pyserini_reasonrank.search", *flags, cwd=folder)
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run


def docids(path: Path) -> dict[str, list[str]]:
    return {qid: [hit.docid for hit in hits] for qid, hits in read_run(path).items()}


@pytest.mark.soak_only
def test_topics_as_people_write_them(search: Search, folder: Path) -> None:
    """A byte order mark, CRLF, a tab in a query; qids with zeros, underscore, minus and accents."""
    lines = ["q1\tmoths\tlamp light", "007\tmoon", "31_1\tmachines", "-5\tlamp", "q\u00e9\tlamp", "zen\tzenith"]
    (folder / "odd.tsv").write_bytes("\r\n".join(["\ufeff" + lines[0], *lines[1:], ""]).encode())
    said = search("odd.txt", "--topics", "odd.tsv", "--hits", 5, "--rerank.docid_blanks", "_").stdout
    assert "6 of 6 reranked" in said
    run, first = docids(folder / "odd.txt"), docids(folder / "odd.txt.first-stage.txt")
    assert set(run) == set(first) == {"q1", "007", "31_1", "-5", "q\u00e9", "zen"}
    assert {qid: sorted(found) for qid, found in run.items()} == {qid: sorted(found) for qid, found in first.items()}
    assert first["q1"] != first["-5"]  # the whole query, not the words before the second tab
    assert set(first["q1"]) >= {"d1", "d2", "d4"}
    assert (run["q1"][0], run["007"][0], run["31_1"][0]) == ("d4", "d3", "d5")
    assert run["zen"] == ["msmarco_passage_00_20", "msmarco_passage_00_10"]
    assert "torch/Lamp_Post_1.txt" in run["-5"]
    words = ["--topics", str(folder / "odd.tsv"), "--first", str(folder / "odd.txt.first-stage.txt")]
    assert main(["validate", str(folder / "odd.txt"), *words]) == 0


def test_qids_that_pyserini_can_not_tell_apart(search: Search, folder: Path) -> None:
    (folder / "same.tsv").write_text("007\tmoon\n7\tlamp\n")
    said = search("same.txt", "--topics", "same.tsv", status=2).stderr
    assert "Pyserini reads the qid '7' and another one as the number 7 ('007': 'moon'); rename one" in said
    (folder / "twice.tsv").write_text("7\tmoon\n8\tsun\n7\tlamp\n")
    said = search("same.txt", "--topics", "twice.tsv", status=2).stderr
    assert "twice.tsv, line 3 repeats the qid '7' of line 1" in said


def test_search_with_one_text_and_rerank_with_another(search: Search, folder: Path) -> None:
    (folder / "rewritten.tsv").write_text("q1\tlamp light room electricity\n")
    (folder / "originals.jsonl").write_text('{"qid": "q1", "query": "why"}\n{"qid": "q2", "query": "unused"}\n')
    words = ["--topics", "rewritten.tsv", "--rerank.topics", "originals.jsonl"]
    search("text.jsonl", *words, "--output-format", "castorini")
    row = json.loads((folder / "text.jsonl").read_text())
    assert row["query"] == {"text": "why", "qid": "q1"}
    assert docids(folder / "text.jsonl.first-stage.txt")["q1"][0] == "d2"
    recorded = yaml.safe_load((folder / "text.jsonl.ir-metadata.yml").read_text())["data"]["test collection"]
    assert recorded == {"topics": "rewritten.tsv", "rerank topics": "originals.jsonl"}
    (folder / "originals.jsonl").write_text('{"qid": "q2", "query": "unused"}\n')
    said = search("more.jsonl", *words, status=2).stderr
    assert "--rerank.topics originals.jsonl has no query q1, which the topics rewritten.tsv has" in said


@pytest.mark.soak_only
def test_excluded_documents_leave_room_for_others(search: Search, folder: Path) -> None:
    (folder / "lamp.tsv").write_text("q1\tlight moon sun\nq2\tlight moon sun\n007\tlight moon sun\n")
    search("all.txt", "--topics", "lamp.tsv", "--hits", 4)
    before = docids(folder / "all.txt.first-stage.txt")["q1"]
    excluded = [f"q1\t{before[0]}", f"q1\t{before[2]}", f"007\t{before[1]}", "q9\td1"]
    (folder / "excluded.tsv").write_text("\n".join(excluded))
    words = ["--rerank.exclude", "excluded.tsv", "--hits", 3]
    said = search("some.txt", "--topics", "lamp.tsv", *words, "--rerank.depth", 2).stderr
    assert "exclusions leave" not in said
    assert yaml.safe_load((folder / "some.txt.ir-metadata.yml").read_text())["outcome"]["documents excluded"] == 3
    first = docids(folder / "some.txt.first-stage.txt")
    assert first["q2"] == before[:3]
    assert first["q1"][:2] == [before[1], before[3]]
    assert first["007"] == [before[0], before[2], before[3]]
    assert [len(found) for found in first.values()] == [3, 3, 3]
    lines = (folder / "some.txt.first-stage.txt").read_text().splitlines()
    assert [line.split()[3] for line in lines] == ["1", "2", "3"] * 3
    assert {qid: set(found) for qid, found in docids(folder / "some.txt").items()} == {
        qid: set(found) for qid, found in first.items()
    }
    said = search(
        "few.txt", "--topics", "lamp.tsv", *words, "--rerank.depth", 3, "--max-passage", "--max-passage-hits", 3
    ).stderr
    assert "query q1: exclusions leave 1 candidates for a depth of 3" in said


def test_exclusions_by_name_without_a_network(search: Search, folder: Path) -> None:
    (folder / "one.tsv").write_text("q1\tlamp\n")
    said = search("named.txt", "--topics", "one.tsv", "--rerank.exclude", "bright-aops", status=2).stderr
    assert "error: the excluded documents of bright-aops can't be read from the hub (" in said
    said = search("named.txt", "--topics", "one.tsv", "--rerank.exclude", "bright-biology", status=2).stderr
    assert "error: exclusions bright-biology: no such file, and no collection of that name" in said


def test_an_existing_run_with_the_texts_of_an_index(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (folder / "given.txt").write_text(
        "".join(f"{qid} Q0 d{i} {i} {9 - i} x\n" for qid in ("q1", "q2") for i in (1, 2, 4))
    )
    (folder / "given.tsv").write_text("q1\tlamp\nq2\tmoon\n")
    (folder / "only.tsv").write_text("q1\td1\n")
    (folder / "text.tsv").write_text("q1\tother\n")
    words = ["--run", "given.txt", "--topics", "given.tsv", "--index", "index", "--output-format", "castorini"]
    words += ["--rerank", "reasonrank", "--rerank.engine.name", "oracle", "--rerank.engine.qrels", "qrels.txt"]
    part = ["--qids", "q1", "--exclude", "only.tsv", "--rerank.topics", "text.tsv", "--output", "part.jsonl"]
    assert main(["rerank", *words, *part]) == 0
    [row] = [json.loads(line) for line in (folder / "part.jsonl").read_text().splitlines()]
    assert row["query"] == {"text": "other", "qid": "q1"}
    assert [candidate["docid"] for candidate in row["candidates"]] == ["d4", "d2"]
    assert yaml.safe_load((folder / "part.jsonl.ir-metadata.yml").read_text())["outcome"]["documents excluded"] == 1
    assert row["candidates"][1]["doc"] == {"contents": CORPUS["d2"]}


def test_the_lists_of_the_washington_post_are_texts(tmp_path: Path) -> None:
    (tmp_path / "wapo").mkdir()
    parts = [
        {"content": "Lights", "mime": "text/plain", "type": "title"},
        {
            "subtype": "paragraph",
            "content": "Moths <b>circle</b> a lamp.",
            "mime": "text/html",
            "type": "sanitized_html",
        },
    ]
    record: dict[str, Any] = {
        "id": "a1",
        "article_url": "https://example.org/a1",
        "title": "Lights",
        "author": "A",
        "source": "example",
    }
    record |= {"published_date": 1325376562000, "contents": parts, "type": "article"}
    (tmp_path / "wapo" / "docs.txt").write_text(json.dumps(record) + "\n")
    (tmp_path / "topics.tsv").write_text("q1\tmoths lamp\n")
    flags = ["-collection", "WashingtonPostCollection", "-generator", "WashingtonPostGenerator", "-input", "wapo"]
    flags += ["-index", "index", "-threads", "1", "-storePositions", "-storeDocvectors", "-storeRaw", "-storeContents"]
    indexer = (
        "from pyserini_reasonrank.host.bootstrap import prepare; prepare();"
        f"from jnius import autoclass; autoclass('io.anserini.index.IndexCollection').main({flags})"
    )
    subprocess.run(
        [sys.executable, "-c", indexer], cwd=tmp_path, check=True, capture_output=True, env=os.environ | UNREACHABLE
    )
    files = ["--run", "first.txt", "--candidates", "candidates.jsonl", "--"]
    done = process(
        "pyserini_reasonrank.host.first_stage", *files, "--index", "index", "--topics", "topics.tsv", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    [line] = (tmp_path / "candidates.jsonl").read_bytes().splitlines()
    [candidate] = parse_request(line, "", 0, 1).candidates
    assert candidate.text == "Lights. Moths circle a lamp."


def test_a_host_run_is_rewritten_without_excluded_documents(tmp_path: Path) -> None:
    run = tmp_path / "run.txt"
    run.write_text(
        "7 Q0 a b 1 2.500000 Anserini\n7 Q0 c 2 1.500000 Anserini\n7 Q0 d 3 1.000000 Anserini\n8 Q0 a b 1 3.0 x\n"
    )
    rewrite_host_run(run, {"7": "007"}, Selection(excluded={"007": {"a b"}, "8": {"c"}}), 1)
    assert run.read_text() == "007 Q0 c 1 1.500000 Anserini\n8 Q0 a b 1 3.0 x\n"


# Rewritten topics


def recorded(folder: Path, *rows: tuple[str, int, str]) -> list[str]:
    """The flags of a rewriter whose answers are recorded: qid, round from 0, answer."""
    lines = [json.dumps({"qid": qid, "call": call, "response": response}) for qid, call, response in rows]
    (folder / "answers.jsonl").write_text("\n".join(lines))
    return ["--rewrite", "keywords", "--rewrite.engine.name", "recorded", "--rewrite.engine.path", "answers.jsonl"]


def test_a_rewrite_decides_the_search_and_the_reranker_reads_the_original(search: Search, folder: Path) -> None:
    (folder / "short.tsv").write_text("q1\twhy\n007\tmoon\n")
    rewriter = recorded(
        folder,
        ("q1", 0, "<answer>electricity room</answer>"),
        ("q1", 1, "<think>A lamp.</think><answer>Query: sun earth</answer>"),
        ("007", 0, "<answer>zenith</answer>"),
        ("007", 1, "<answer></answer>"),
    )
    words = [
        "--topics",
        "short.tsv",
        *rewriter,
        "--rewrite.rounds",
        2,
        "--rewrite.depth",
        1,
        "--output-format",
        "castorini",
    ]
    done = search("rewritten.jsonl", *words)
    assert (folder / "rewritten.jsonl.rewritten.tsv").read_text() == "q1\twhy sun earth\n007\tmoon zenith\n"
    rows = [json.loads(line) for line in (folder / "rewritten.jsonl").read_text().splitlines()]
    assert {row["query"]["qid"]: row["query"]["text"] for row in rows} == {"q1": "why", "007": "moon"}
    first = docids(folder / "rewritten.jsonl.first-stage.txt")
    assert (first["q1"], first["007"][0]) == (["d3"], "msmarco_passage_00_20")
    assert "rewrites  2 of 2 topics, 0 with their original query, 0 cut" in done.stdout
    assert "4 judgements (1 empty, 3 ok) from 4 LLM calls and 0 journal entries" in done.stdout
    unread = "without a readable rewrite in round 2: 1 (1 empty), searched with that of the round before: 007"
    assert unread in done.stderr
    assert unread in done.stdout
    metadata = yaml.safe_load((folder / "rewritten.jsonl.ir-metadata.yml").read_text())
    rewriting = metadata["method"]["query rewriting"]
    assert (rewriting["name"], rewriting["rounds"], rewriting["llm"]["calls"]) == ("keywords", 2, 4)
    assert rewriting["statuses of calls"]["empty"] == 1
    assert unread in metadata["outcome"]["warnings"][0]
    assert metadata["data"]["test collection"]["topics"] == "short.tsv"
    journal = folder / "rewritten.jsonl.rewritten.tsv.journal.sqlite"
    assert [each["docids"] for each in export(journal, qid="q1")] == [[], ["d2"]]
    said = search("rewritten.jsonl", *words, "--rewrite.originals", 0, status=2).stderr
    assert "exists and was not made with these settings" in said


def test_a_search_alone_can_be_rewritten_and_repeated_without_the_llm(folder: Path) -> None:
    (folder / "short.tsv").write_text("q1\twhy\n")
    rewriter = recorded(folder, ("q1", 0, "<answer>electricity room</answer>"))
    flags = ["--index", "index", "--bm25", "--hits", 2]
    done = process(
        "pyserini_reasonrank.search", *flags, "--topics", "short.tsv", "--output", "alone.txt", *rewriter, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    run = (folder / "alone.txt").read_text()
    assert run.split()[2] == "d2"
    metadata = yaml.safe_load((folder / "alone.txt.ir-metadata.yml").read_text())
    assert metadata["method"]["query rewriting"]["topics rewritten"] == "1 of 1"
    assert metadata["method"]["retrieval"][0]["run"] == "alone.txt"
    if os.environ.get("REASONRANK_SOAK"):
        words = ["--topics", "alone.txt.rewritten.tsv", "--output", "again.txt"]
        done = process("pyserini.search.lucene", *flags, *words, cwd=folder)
        assert (folder / "again.txt").read_text() == run, done.stderr
