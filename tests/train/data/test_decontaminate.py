"""Queries that evaluation asks do not stay in the training data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.train.command import load
from pyserini_reasonrank.train.data.decontaminate import Config, near_duplicates, normalised, run

TOPICS = [("t.tsv", "1", "What is an air brake?"), ("t.tsv", "2", "who wrote the origin of species in 1859")]


@pytest.mark.parametrize(
    ("query", "qid", "equal"),
    [
        ("what is an AIR brake", "1", True),
        ("  What, is an air-brake?! ", "1", True),
        ("What is an air brakes?", "1", False),
        ("who wrote the origin of the species in 1859", "2", False),
        ("what is a hand brake on a car", None, False),
        ("¿?", None, False),
    ],
)
def test_equal_and_nearly_equal_queries_are_found(query: str, qid: str | None, equal: bool) -> None:
    found = near_duplicates([query], TOPICS, 0.85).get(query)
    assert (found.qid if found else None) == qid
    assert found is None or found.equal == equal


def test_equal_queries_are_found_at_any_threshold() -> None:
    texts = ["a simple query about rain", "who wrote the origin of species in 1859", "why is the sky blue at noon"]
    assert (
        len(near_duplicates([text.upper() for text in texts], [("t", str(i), t) for i, t in enumerate(texts)], 1.0))
        == 3
    )


def test_the_verdict_on_two_queries_does_not_depend_on_others() -> None:
    pair = near_duplicates(["air brake"], [("t", "1", "air brakes")], 0.1)["air brake"].cosine
    others = [("t", str(i), text) for i, text in enumerate(("brake", "airs and graces", "rain", "air brakes"))]
    assert near_duplicates(["air brake", "x", "the rain"], others, 0.1)["air brake"].cosine == pytest.approx(pair)


texts = st.lists(st.text(min_size=1, max_size=12).filter(str.strip), min_size=1, max_size=6)


@given(texts, texts)
def test_cosines_are_symmetric_and_bounded(ours: list[str], theirs: list[str]) -> None:
    for query, match in near_duplicates(ours, [("t", str(i), text) for i, text in enumerate(theirs)], 0.5).items():
        assert -1e-9 <= match.cosine <= 1 + 1e-9
        back = near_duplicates([match.topic], [("t", "1", query)], 0.5)[match.topic]
        assert back.cosine == pytest.approx(match.cosine)
        assert back.equal == match.equal == (normalised(query) == normalised(match.topic))


def test_rows_are_dropped_and_told_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"qid": q, "query": text, "docids": ["ü"]} for q, text in
            [("a", "air brakes"), ("b", "What is an air brake"), ("b", "What is an air brake"), ("c", "hand brake")]]  # fmt: skip
    source, topics, output = tmp_path / "rows.jsonl", tmp_path / "topics.tsv", tmp_path / "new" / "clean.jsonl"
    source.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    topics.write_text("".join(f"{qid}\t{text}\n" for _, qid, text in TOPICS), encoding="utf-8")
    run(Config(data=source, topics=(topics,), output=output))
    kept = output.read_text(encoding="utf-8").splitlines()
    assert kept == [json.dumps(rows[i], ensure_ascii=False) for i in (0, 3)]
    report = (tmp_path / "new" / "clean.jsonl.dropped.tsv").read_text(encoding="utf-8").splitlines()
    assert report[1].split("\t") == ["2", "1.000", "What is an air brake", str(topics), "1", "What is an air brake?"]
    told = capsys.readouterr().out
    assert "1 of 3 queries dropped (1 equal to a topic, 0 nearly equal), 2 rows" in told
    assert "What is an air brake" in told


def test_one_topics_file_or_several(tmp_path: Path) -> None:
    given = ["--data=a.jsonl", "--output=b.jsonl"]
    assert load("decontaminate", Config, [*given, "--topics=t.tsv"]).topics == (Path("t.tsv"),)
    assert load("decontaminate", Config, [*given, "--topics=[t.tsv, u.tsv]"]).topics == (Path("t.tsv"), Path("u.tsv"))


def test_topics_files_can_be_cleaned_too(tmp_path: Path) -> None:
    source, topics, output = tmp_path / "train.tsv", tmp_path / "topics.tsv", tmp_path / "clean.tsv"
    source.write_text("7\tWhat is an air brake\n8\thand brake\n", encoding="utf-8")
    topics.write_text("1\twhat is an air brake?\n", encoding="utf-8")
    run(Config(data=source, topics=(topics,), output=output))
    assert output.read_text(encoding="utf-8") == "8\thand brake\n"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("rows.jsonl", '{"qid": "1"}\n', "line 1 is neither a row nor a topic"),
        ("rows.tsv", "no tab\n", "is not qid<TAB>query"),
        ("rows.tsv", "1\twhat is an air brake\n", "no row would remain"),
        ("topics.tsv", "1\twhat is an air brake\n", "is given both"),
    ],
)
def test_bad_input(name: str, text: str, message: str, tmp_path: Path) -> None:
    topics = tmp_path / "topics.tsv"
    topics.write_text("1\tWhat is an air brake?\n", encoding="utf-8")
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        run(Config(data=tmp_path / name, topics=(topics,), output=tmp_path / "out.jsonl"))
    assert not (tmp_path / "out.jsonl").exists()


def test_scifact_s_training_claims_that_its_test_repeats(data: Path, tmp_path: Path) -> None:
    """Two training claims of SciFact occur in its test set, upstream's own fault."""
    folder = data / "beir-scifact"
    output = tmp_path / "clean.tsv"
    run(Config(data=folder / "topics.train.tsv", topics=(folder / "topics.tsv",), output=output))
    dropped = (tmp_path / "clean.tsv.dropped.tsv").read_text(encoding="utf-8").splitlines()[1:]
    assert sum(line.split("\t")[1] == "1.000" for line in dropped) >= 2
    kept = output.read_text(encoding="utf-8").splitlines()
    assert len(kept) == 809 - sum(int(line.split("\t")[0]) for line in dropped)
