"""Released training data, read: ReasonRank's records, TFRank's rows, triples and lists of passages."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import pytest

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.train.command import load
from pyserini_reasonrank.train.data import prepare as step
from pyserini_reasonrank.train.data.lists import LabelledList
from pyserini_reasonrank.train.data.prepare import READERS
from pyserini_reasonrank.train.data.release import Release, TfrankTask, digest
from pyserini_reasonrank.train.data.row_builder import RowBuilder
from pyserini_reasonrank.train.data.rows import Audit, Row, read_rows
from pyserini_reasonrank.train.data.tfrank import tfrank_labels
from pyserini_reasonrank.train.rewards import listwise_derived


def lines(path: Path, records: list[Any]) -> Path:
    path.write_text("".join(f"{r if isinstance(r, str) else json.dumps(r)}\n" for r in records), encoding="utf-8")
    return path


def read(name: str, path: Path, **where: Any) -> tuple[list[LabelledList], Audit]:
    audit = Audit("records")
    given: dict[str, Any] = {"topics": None, "corpus": None, "source": "made-up", "task": "listwise"}
    return list(READERS[name](Release(path, **(given | where)), audit)), audit


# --- ReasonRank ------------------------------------------------------------------------------------------------------

RECORD: dict[str, Any] = {
    "dataset": "biology",
    "qid": "b1",
    "initial_list": ["x", "y", "z"],
    "final_list": ["z", "x", "y"],
    "reasoning": "Okay, [3] says it.",
    "relevant_docids": ["z"],
}


@pytest.fixture
def maps(tmp_path: Path) -> dict[str, Path]:
    """ReasonRank's two folders: texts by id, a file for each data set."""
    folders = {"topics": tmp_path / "id_query", "corpus": tmp_path / "id_doc"}
    texts = {"topics": {"b1": "why is it so"}, "corpus": {"x": "one", "y": "two", "z": "three"}}
    for name, folder in folders.items():
        folder.mkdir()
        (folder / "biology.json").write_text(json.dumps(texts[name]), encoding="utf-8")
    return folders


def test_reasonrank_s_records(tmp_path: Path, maps: dict[str, Path]) -> None:
    [listed], audit = read("reasonrank", lines(tmp_path / "all.jsonl", [RECORD]), **maps)
    assert (listed.query.qid, listed.query.text, listed.source) == ("b1", "why is it so", "biology")
    assert [(c.docid, c.text) for c in listed.candidates] == [("x", "one"), ("y", "two"), ("z", "three")]
    assert listed.gains == (0.0, 0.0, 1.0)
    assert listed.gold == ("z", "x", "y")
    assert listed.reasoning == "Okay, [3] says it."
    assert (audit.read, audit.kept) == (1, 1)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"qid": "b2"}, "the query has no text"),
        ({"initial_list": ["x", "y", "w"], "final_list": ["w", "x", "y"]}, "a passage has no text"),
        ({"final_list": ["z", "x"]}, "the final list has other passages"),
        ({"final_list": ["z", "x", "x"]}, "the final list has other passages"),
        ({"relevant_docids": ["z", "w"]}, "a relevant passage is not in the list"),
        ({"relevant_docids": None}, "not a ReasonRank record"),
        (
            {"initial_list": ["x", "y", "x2"], "final_list": ["x2", "x", "y"], "relevant_docids": ["x2"]},
            "the same text",
        ),
    ],
)
def test_records_that_can_t_be_used_are_named(
    changes: dict[str, Any], fault: str, tmp_path: Path, maps: dict[str, Path]
) -> None:
    path = maps["corpus"] / "biology.json"
    path.write_text(json.dumps({"x": "one", "y": "two", "z": "three", "x2": " one\n"}), encoding="utf-8")
    found, audit = read("reasonrank", lines(tmp_path / "all.jsonl", [RECORD, RECORD | changes, "no JSON"]), **maps)
    assert len(found) == 1
    assert audit.kept == 1
    assert "line 2" in str(audit)
    assert fault in str(audit)
    assert "not a JSON record" in str(audit)


def test_a_data_set_without_texts_is_an_error(tmp_path: Path, maps: dict[str, Path]) -> None:
    path = lines(tmp_path / "all.jsonl", [RECORD | {"dataset": "chemistry"}])
    with pytest.raises(UsageError, match=r"chemistry\.json does not exist"):
        read("reasonrank", path, **maps)


def test_a_thought_keeps_the_order_that_it_numbers(tmp_path: Path, tokenizer_file: Path) -> None:
    docids = [f"d{i}" for i in range(8)]
    corpus = lines(tmp_path / "corpus.jsonl", [{"id": docid, "contents": f"text {docid}"} for docid in docids])
    record = RECORD | {
        "initial_list": docids,
        "final_list": ["d2", *docids[:2], *docids[3:]],
        "relevant_docids": ["d2"],
    }
    bare = record | {"reasoning": None}
    records = [entry | {"qid": f"s{i}", "query": f"question {i}"} for i, entry in enumerate([record] * 3 + [bare] * 3)]
    config = step.Config(
        reranker="reasonrank",
        model=str(tokenizer_file.parent),
        rerank={"max_model_len": 16384},
        format="reasonrank",
        path=lines(tmp_path / "all.jsonl", records),
        corpus=corpus,
        output=tmp_path / "rows.jsonl",
    )
    step.run(config)
    rows, _ = read_rows(config.output)
    assert [row.docids for row in rows[:3]] == [tuple(docids)] * 3
    assert rows[0].demonstration.startswith("<think>Okay, [3] says it.</think>\n<answer>[3] > [1] > [2] > [4]")
    assert len({row.docids for row in rows[3:]}) == 3
    for row in rows:
        assert row.gold is not None
        assert f"<answer>[{row.docids.index('d2') + 1}] > [{row.docids.index('d0') + 1}]" in row.demonstration


# --- TFRank ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "n", "task", "gains", "graded"),
    [
        ("[1] > [3] > [2] = [4]", 4, "listwise", (2, 0, 1, 0), False),
        ("[2](4) = [1](4) > [3](0)", 3, "listwise", (4, 4, 0), True),
        ("[1] < [2]", 2, "pairwise", (0, 1), False),
        ("[2](0) < [1](3)", 2, "pairwise", (3, 0), True),
        ("yes(2)", 1, "pointwise", (2,), True),
        ("no(1)", 1, "pointwise", (1,), True),
        ("no", 1, "pointwise", (0,), False),
        ("yes", 1, "pointwise", (1,), False),
        ("[1] > [2]", 3, "listwise", None, False),
        ("[1] > [2] > [2]", 3, "listwise", None, False),
        ("[1] > [2] or so", 2, "listwise", None, False),
        ("maybe", 1, "pointwise", None, False),
        ("yes", 2, "pointwise", None, False),
    ],
)
def test_tfrank_s_answers(answer: str, n: int, task: TfrankTask, gains: tuple[float, ...] | None, graded: bool) -> None:
    labels = tfrank_labels(answer, n, task)
    assert (labels and (labels[1] or labels[0])) == gains
    assert bool(labels and labels[1]) == graded


@pytest.mark.parametrize(
    "changes",
    [
        {"passages": "a text"},
        {"passages": [None]},
        {"passages": None},
        {"passages": [" "]},
        {"query": None},
        {"answer": 1},
    ],
)
def test_rows_of_other_types_are_no_rows_of_tfrank_s(changes: dict[str, Any], tmp_path: Path) -> None:
    row = {"task": "pointwise", "query": "q", "passages": ["a"], "answer": "yes"}
    [listed], audit = read("tfrank", lines(tmp_path / "rows.jsonl", [row | changes, row]), task="pointwise")
    assert [candidate.text for candidate in listed.candidates] == ["a"]
    assert "1 left out, not a TFRank row" in str(audit)


def test_the_forms_of_one_question_come_out_as_one(tmp_path: Path) -> None:
    bare = {"task": "listwise", "query": "q", "passages": ["a", "b", "c"], "reasoning": "", "answer": "[2] > [1] = [3]"}
    forms = [
        bare,
        bare | {"reasoning": "So.\n\nBefore giving the final reply to the user, let me summarize: [2]."},
        bare | {"answer": "[2](4) > [1](1) = [3](1)"},
        bare | {"task": "pairwise"},
    ]
    [listed], audit = read("tfrank", lines(tmp_path / "rows.jsonl", forms))
    assert listed.gains == (1.0, 4.0, 1.0)
    assert listed.reasoning == "So."
    assert (audit.read, audit.kept) == (4, 3)
    assert "of another task" in str(audit)


def test_a_thought_is_cut_to_the_sentences_it_ends_in(tmp_path: Path, tokenizer_file: Path) -> None:
    assert (
        step.ending("It is long.  It tells of 1.5 kg! So it is\nrelevant.", 9)
        == "It tells of 1.5 kg! So it is relevant."
    )
    assert step.ending("It is long. So it is relevant.", 3) == ""
    thoughts = {"short": "It names it. So yes.", "long": "One sentence without an end to it", "none": ""}
    row = {"task": "pointwise", "passages": ["a"], "answer": "yes"}
    rows = [row | {"query": query, "reasoning": thought} for query, thought in thoughts.items()]
    config = step.Config(
        reranker="rank1", model=str(tokenizer_file.parent), rerank={"max_model_len": 16384}, format="tfrank",
        task="pointwise", path=lines(tmp_path / "tfrank.jsonl", rows), output=tmp_path / "rows.jsonl", thought_words=3,
    )  # fmt: skip
    step.run(config)
    [made], _ = read_rows(config.output)
    assert made.demonstration == "<think>So yes.</think>\n<answer>true</answer>"


def test_a_passage_of_a_low_grade_is_not_relevant_where_tfrank_says_no(tmp_path: Path, tokenizer_file: Path) -> None:
    said = {"a": "no(1)", "b": "yes(2)", "c": "yes", "d": "no"}
    records = [{"task": "pointwise", "query": "q", "passages": [p], "answer": answer} for p, answer in said.items()]
    lists, _ = read("tfrank", lines(tmp_path / "rows.jsonl", records), task="pointwise")
    assert [(listed.gains, listed.relevant) for listed in lists] == [
        ((1.0,), (False,)),
        ((2.0,), (True,)),
        ((1.0,), None),
        ((0.0,), None),
    ]
    asking = RowBuilder(
        "rank1", str(tokenizer_file.parent), {"judge": {"think": False}, "max_model_len": 16384}, widest=1
    )
    answers = [row.demonstration for listed in lists for row in asking.rows(listed)]
    assert answers == [f"{word}</answer>" for word in ("false", "true", "true", "false")]


@pytest.mark.parametrize(
    ("reranker", "kept"), [("reasonrank", True), ("iranker", False), ("erank", False), ("rank-r1", False)]
)
def test_a_thought_about_a_list_stays_with_the_list(
    reranker: str, kept: bool, tmp_path: Path, tokenizer_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {
        "task": "listwise",
        "passages": list("abcdef"),
        "reasoning": "So [3].",
        "answer": "[3] > [1] > [2] > [4] > [5] > [6]",
    }
    path = lines(tmp_path / "rows.jsonl", [row | {"query": f"q{n}"} for n in range(4)])
    config = released(
        path, tmp_path, tokenizer_file, reranker=reranker, format="tfrank", output=tmp_path / "made.jsonl"
    )
    step.run(config)
    rows, _ = read_rows(config.output)
    assert {"So [3]." in row.demonstration for row in rows} == {kept}
    assert ("the reasoning of 4 of 4 lists is left out" in capsys.readouterr().out) == (not kept)
    if len(rows) == 4:  # shuffled again, once there is no thought that numbers them
        assert (len({row.docids for row in rows}) == 1) == kept


@pytest.mark.parametrize(("task", "reranker", "least"), [("listwise", "reasonrank", 150), ("pointwise", "erank", 300)])
def test_tfrank_s_release(
    task: TfrankTask, reranker: str, least: int, data: Path, tmp_path: Path, tokenizer_file: Path
) -> None:
    config = step.Config(
        reranker=reranker,
        model=str(tokenizer_file.parent),
        rerank={"max_model_len": 65536},
        format="tfrank",
        task=task,
        path=data / "training" / "tfrank_normalised.jsonl.gz",
        output=tmp_path / "rows.jsonl",
        dev=0.1,
    )
    step.run(config)
    rows, audit = read_rows(config.output)
    assert audit.read == audit.kept > least
    thoughts = [row for row in rows if len(row.demonstration) > 400]
    assert len(thoughts) > 50
    assert all(row.demonstration.count("</think>") == 1 for row in rows)


# --- triples and lists -----------------------------------------------------------------------------------------------


def test_triples_of_texts_are_put_together_by_query(tmp_path: Path) -> None:
    path = lines(tmp_path / "triples.tsv", ["q one\tgood\tbad", "q two\tyes\tno", "q one\tgood\tworse", "q one\tgood"])
    found, audit = read("triples", path)
    assert [(listed.query.text, [c.text for c in listed.candidates], listed.gains) for listed in found] == [
        ("q one", ["good", "bad", "worse"], (1.0, 0.0, 0.0)),
        ("q two", ["yes", "no"], (1.0, 0.0)),
    ]
    assert found[0].candidates[0].docid == digest("good")
    assert "1 left out, neither a triple nor a list" in str(audit)


def test_triples_of_ids(tmp_path: Path) -> None:
    topics = lines(tmp_path / "topics.tsv", ["1\twhat is it"])
    corpus = lines(tmp_path / "corpus.jsonl", [{"id": "a", "contents": "good"}, {"id": "b", "contents": "bad"}])
    path = tmp_path / "triples.tsv.gz"
    path.write_bytes(gzip.compress(b"1\ta\tb\n1\tb\ta\n2\ta\tb\n1\ta\tc\n"))
    [listed], audit = read("triples", path, topics=topics, corpus=corpus)
    assert (listed.query.qid, listed.query.text) == ("1", "what is it")
    assert {c.docid: gain for c, gain in zip(listed.candidates, listed.gains, strict=True)} == {"a": 1.0, "b": 1.0}
    assert audit.kept == 2


def test_lists_with_scores_and_docids(tmp_path: Path) -> None:
    flag = {"query": "q", "pos": ["good"], "neg": ["bad", "worse"], "pos_scores": [0.9], "neg_scores": [0.2, 0.1]}
    tevatron = {
        "query_id": "7",
        "query": "r",
        "positive_passages": [{"docid": "p", "title": "T", "text": "good"}],
        "negative_passages": [{"docid": "n", "text": "bad"}],
    }
    [one, other], audit = read("triples", lines(tmp_path / "lists.jsonl", [flag, tevatron, {"pos": []}]))
    assert one.teacher == (0.9, 0.2, 0.1)
    assert [(c.docid, c.text) for c in other.candidates] == [("p", "T. good"), ("n", "bad")]
    assert (other.query.qid, other.teacher, audit.kept) == ("7", None, 2)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"pos": "a passage"}, "neither a triple nor a list"),
        ({"pos": {"text": "a passage"}}, "neither a triple nor a list"),
        ({"query": None}, "neither a triple nor a list"),
        ({"neg": ["bad", None]}, "a passage without a text"),
        ({"neg": ["bad", ""]}, "a passage without a text"),
        ({"neg": [{"docid": "n"}, 7]}, "a passage without a text"),
        ({"neg_scores": [0.2]}, "scores that are not a number for each passage"),
        ({"neg_scores": [0.2, None]}, "scores that are not a number for each passage"),
        ({"neg_scores": [0.2, "0.1"]}, "scores that are not a number for each passage"),
        ({"neg_scores": [0.2, math.nan]}, "scores that are not a number for each passage"),
        ({"neg_scores": 0.2}, "scores that are not a number for each passage"),
        ({"pos_scores": [True]}, "scores that are not a number for each passage"),
    ],
)
def test_lists_of_other_types_are_faults(changes: dict[str, Any], fault: str, tmp_path: Path) -> None:
    whole: dict[str, Any] = {
        "query": "q",
        "pos": ["good"],
        "neg": ["bad", "worse"],
        "pos_scores": [0.9],
        "neg_scores": [0.2, 0.1],
    }
    [listed], audit = read("triples", lines(tmp_path / "lists.jsonl", [whole | changes, whole | {"query": "r"}]))
    assert listed.query.text == "r"
    assert (audit.read, audit.kept) == (2, 1)
    assert f"1 left out, {fault}: " in str(audit)


@pytest.mark.parametrize(
    "changes",
    [{"pos_scores": None, "neg_scores": None}, {"neg_scores": None}, {"neg": None, "neg_scores": None}],
)
def test_lists_may_lack_scores_or_a_side(changes: dict[str, Any], tmp_path: Path) -> None:
    whole: dict[str, Any] = {
        "query": "q",
        "pos": ["good"],
        "neg": ["bad", "worse"],
        "pos_scores": [0.9],
        "neg_scores": [0.2, 0.1],
    }
    [listed], _ = read("triples", lines(tmp_path / "lists.jsonl", [whole | changes]))
    assert (listed.teacher is None) == ("neg" not in changes)


def released(path: Path, tmp_path: Path, tokenizer_file: Path, **changes: Any) -> step.Config:
    given = {"reranker": "rank-r1", "model": str(tokenizer_file.parent), "rerank": {"max_model_len": 16384},
             "format": "triples", "path": path, "output": tmp_path / "rows.jsonl"}  # fmt: skip
    return step.Config.model_validate(given | changes)


def test_passages_are_drawn_from_released_lists(
    tmp_path: Path, tokenizer_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rank-R1's recipe: one positive and 19 random negatives, however many of either there are."""
    records = [{"query": f"q{n}", "pos": [f"pos {i} of {n}" for i in range(25)], "neg": [f"neg {i} of {n}" for i in range(60)]}
               for n in range(3)]  # fmt: skip
    path = lines(tmp_path / "lists.jsonl", [*records, {"query": "bare", "pos": ["only"], "neg": []}])
    words = ["--config=data-rank-r1", "--format=triples", f"--path={path}", f"--output={tmp_path / 'rows.jsonl'}"]
    words += [f"--model={tokenizer_file.parent}", "--dev=0", "--copies=2", "--rerank.max_model_len=16384"]
    step.run(load("data", step.Config, words))
    rows, audit = read_rows(tmp_path / "rows.jsonl")
    assert audit.read == audit.kept == len(rows) == 6
    assert all(sorted(row.gains) == [0.0] * 19 + [1.0] for row in rows)
    negatives = [{rank for rank, gain in zip(row.first_stage, row.gains, strict=True) if not gain} for row in rows]
    assert len({frozenset(places) for places in negatives}) == 6  # copies too are drawn anew
    assert all(not places <= set(range(26, 46)) for places in negatives)  # not the first of the file
    assert "2 left out, no positive to show, or no negative beside it: lists " in capsys.readouterr().out


def test_the_bands_of_released_lists_are_their_places(tmp_path: Path, tokenizer_file: Path) -> None:
    path = lines(tmp_path / "lists.jsonl", [{"query": "q", "pos": ["p"], "neg": [f"n {i}" for i in range(30)]}])
    bands = [{"first": 12, "last": 14}, {"first": 20, "last": 31}]
    step.run(released(path, tmp_path, tokenizer_file, draw={"size": 5, "bands": bands}))
    [row] = read_rows(tmp_path / "rows.jsonl")[0]
    assert sorted((rank > 11) + (rank > 19) for rank in row.first_stage) == [0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": "triples", "draw": {"missed": False}}, "draw.missed does not apply to format triples"),
        ({"format": "reasonrank", "draw": {"size": 5}}, "draw.size does not apply to format reasonrank"),
        ({"format": "tfrank", "draw": {"positives": 1}}, "draw.positives does not apply to format tfrank"),
        ({"format": "tfrank", "teacher_scale": [0, 1]}, "teacher_scale does not apply to format tfrank"),
        ({"format": "collection", "teacher_scale": [0, 1]}, "teacher_scale does not apply to format collection"),
    ],
)
def test_settings_without_a_use_are_refused(
    changes: dict[str, Any], said: str, tmp_path: Path, tokenizer_file: Path
) -> None:
    with pytest.raises(UsageError, match=said):
        step.run(released(tmp_path / "none.jsonl", tmp_path, tokenizer_file, **changes))


def test_a_teacher_s_scores_are_put_on_the_scale_of_the_answers(
    data: Path, tmp_path: Path, tokenizer_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Real scores, from about 86 to 100: unscaled they would turn ERank's reward round."""
    path = data / "training" / "flagembedding_msmarco10.jsonl"
    [raw, *_], _ = read("triples", path)
    assert raw.teacher is not None
    assert min(raw.teacher) > 80

    def made(**changes: Any) -> list[Row]:
        step.run(released(path, tmp_path, tokenizer_file, reranker="erank", draw={"size": 8}, **changes))
        return read_rows(tmp_path / "rows.jsonl")[0]

    assert all(row.teacher is None for row in made())
    assert "left out: set --teacher_scale '[LOWEST, HIGHEST]' to map" in capsys.readouterr().out
    rows = made(teacher_scale=(88, 98))
    scores = {c.docid: score for c, score in zip(raw.candidates, raw.teacher, strict=True)}
    for row in rows:
        assert row.teacher is not None
        assert 0 <= row.teacher[0] <= 10
        if row.query == raw.query.text:
            assert row.teacher[0] == pytest.approx(min(max(scores[row.docids[0]] - 88, 0), 10))
    assert "of them outside teacher_scale and clipped" in capsys.readouterr().out
    columns: dict[str, Any] = {"qid": [], "docids": [], "gains": [], "teacher": [], "grade": []}
    for row in rows[:8]:
        for name, values in columns.items():
            values.append(getattr(row, name))
    right = listwise_derived(
        [], [f"<think>a</think>\n<answer>{10 * row.gains[0]:g}</answer>" for row in rows[:8]], **columns
    )
    wrong = listwise_derived(
        [], [f"<think>a</think>\n<answer>{10 - 10 * row.gains[0]:g}</answer>" for row in rows[:8]], **columns
    )
    assert all(r is not None and w is not None and -1 <= w < r <= 1 for r, w in zip(right, wrong, strict=True))


@pytest.mark.parametrize("scale", ["[5, 5]", "[9, 1]", "[0, .inf]", "[1]"])
def test_a_scale_has_two_ends(scale: str, tmp_path: Path) -> None:
    words = ["--reranker=erank", "--model=x", f"--output={tmp_path / 'rows.jsonl'}", f"--teacher_scale={scale}"]
    with pytest.raises(UsageError, match=r"data\.teacher_scale"):
        load("data", step.Config, words)


@pytest.mark.parametrize("name", ["flagembedding_msmarco10.jsonl", "scifact_train_pos_neg.jsonl.gz"])
def test_real_lists(name: str, data: Path) -> None:
    found, audit = read("triples", data / "training" / name)
    assert len(found) == audit.kept == audit.read >= 10
    for listed in found:
        assert len(listed.candidates) >= 2
        assert max(listed.gains) == 1.0
        assert min(listed.gains) == 0.0


def test_real_records_in_reasonrank_s_form(data: Path) -> None:
    path = data / "training" / "scifact_train_reasonrank_style.jsonl.gz"
    found, audit = read("reasonrank", path, corpus=data / "beir-scifact" / "corpus.jsonl")
    assert len(found) == audit.kept == audit.read == 809
    assert all(listed.gold is not None and max(listed.gains) == 1.0 for listed in found)
