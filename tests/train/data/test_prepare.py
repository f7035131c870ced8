"""Rows out of a collection: what is drawn, how it is split, and that training reads the bytes that serving sends."""

from __future__ import annotations

import json
import random
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from conftest import Collection, RunReranker
from hypothesis import given
from hypothesis import strategies as st

from pyserini_reasonrank.engines.oracle import Oracle
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.runs import Hit
from pyserini_reasonrank.records import Call, Candidate, Completion, Prompt, Query, Sampling
from pyserini_reasonrank.resources import yaml_names
from pyserini_reasonrank.settings.rerankers import names
from pyserini_reasonrank.train import rewards
from pyserini_reasonrank.train.command import load
from pyserini_reasonrank.train.data import prepare as step
from pyserini_reasonrank.train.data.lists import LabelledList, exclusions
from pyserini_reasonrank.train.data.negatives import Band, Draw, draw
from pyserini_reasonrank.train.data.prepare import Config, split_by_query
from pyserini_reasonrank.train.data.row_builder import RowBuilder
from pyserini_reasonrank.train.data.rows import Row, fault_of, read_rows


@pytest.fixture(scope="module")
def model(tokenizer_file: Path) -> str:
    """A folder with a tokenizer and a context, which is all that making rows asks of a model."""
    (tokenizer_file.parent / "config.json").write_text('{"max_position_embeddings": 8192}', encoding="utf-8")
    return str(tokenizer_file.parent)


def grade(collection: Collection, qid: str, docid: str) -> int:
    """The grade of a document, one lower than the collection's, so that every list has negatives."""
    return max(collection.grades[qid][docid] - 1, 0)


@pytest.fixture(scope="module", autouse=True)
def _judged(collection: Collection) -> None:
    path = collection.folder / "qrels.train.txt"
    lines = (
        f"{qid} 0 {docid} {grade(collection, qid, docid)}\n" for qid, of in collection.grades.items() for docid in of
    )
    path.write_text("".join(lines), encoding="utf-8")


def settings(collection: Collection, tmp_path: Path, model: str, **changes: Any) -> Config:
    given = {
        "reranker": "reasonrank",
        "model": model,
        "topics": collection.topics,
        "qrels": collection.folder / "qrels.train.txt",
        "run": collection.run,
        "corpus": collection.corpus,
        "output": tmp_path / "rows.jsonl",
        "rerank": {"sampling": {"max_tokens": 512}},
    }
    return Config.model_validate(given | changes)


def made(collection: Collection, tmp_path: Path, model: str, **changes: Any) -> list[Row]:
    config = settings(collection, tmp_path, model, **changes)
    step.run(config)
    return read_rows(config.output)[0]


# --- training and serving --------------------------------------------------------------------------------------------

SHORT: dict[str, Any] = {"sampling": {"max_tokens": 512}}
RERANKERS = ("reasonrank", "rankgpt", "first", "setwise-likelihood", "rank-r1", "iranker", "dranker", "erank", "rank1")


def listing(query: Query, candidates: Sequence[Candidate], gains: Sequence[float]) -> LabelledList:
    return LabelledList(query, tuple(candidates), tuple(gains), tuple(range(1, len(candidates) + 1)), "made-up")


def tight(reranker: str, model: str, collection: Collection) -> dict[str, Any]:
    """Settings with a context in which the longest question that serving asks hardly has room."""
    request = collection.requests[0]
    candidates = request.candidates[: 25 if reranker == "dranker" else 20]
    settings: dict[str, Any] = {"sampling": {"max_tokens": 300}, "depth": 25, "query_tokens": 8}
    labelled = listing(request.query, candidates, [1.0] + [0.0] * (len(candidates) - 1))

    def fits(context: int) -> bool:
        with suppress(UsageError):
            list(RowBuilder(reranker, model, settings | {"max_model_len": context}, widest=1).rows(labelled))
            return True
        return False

    contexts = range(400, 6000, 4)
    smallest = bisect_left(contexts, True, key=fits)
    assert smallest < len(contexts), "no context is long enough"
    return settings | {"max_model_len": contexts[smallest]}


@pytest.mark.slow
@pytest.mark.parametrize("reranker", RERANKERS)
def test_training_reads_the_bytes_that_serving_sends(
    reranker: str,
    collection: Collection,
    run_reranker: RunReranker,
    tmp_path: Path,
    model: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A question of a real run, caught on its way out, against the row of the same passages; in a context so small
    that passages have to be cut to fit, in which every difference in reckoning shows."""
    fitted = tight(reranker, model, collection)
    asked: dict[tuple[str, tuple[str, ...]], Prompt] = {}
    answer = Oracle.generate

    async def caught(self: Oracle, prompt: Prompt, sampling: Sampling, call: Call) -> Completion:
        asked.setdefault((call.qid, call.docids), prompt)
        return await answer(self, prompt, sampling, call)

    monkeypatch.setattr(Oracle, "generate", caught)
    engine = {"name": "oracle", "qrels": str(collection.qrels)}
    run_reranker(reranker, {**fitted, "engine": engine, "tokenizer": model})
    assert asked
    texts = {c.docid: c.text for request in collection.requests for c in request.candidates}
    queries = {request.query.qid: request.query for request in collection.requests}
    asking = RowBuilder(reranker, model, fitted, widest=2)
    for (qid, docids), prompt in asked.items():
        candidates = [Candidate(docid, 0.0, texts[docid]) for docid in docids]
        [row] = asking.rows(listing(queries[qid], candidates, collection.gains(qid, docids)))
        assert row.prompt == prompt.messages
        assert row.prefill == prompt.prefill
        assert row.docids == docids
    shown = "\n".join(message.content for prompt in asked.values() for message in prompt.messages)
    assert any(text not in shown for text in texts.values())  # it was tight


def test_a_judge_that_reads_the_next_token_finds_it_after_the_row_s_words(tmp_path: Path, model: str) -> None:
    """Served, the passage is judged by what follows the opening: a row without a thought begins there."""
    candidate = Candidate("a", 0.0, "text")
    one = LabelledList(Query("q", "what"), (candidate,), (1.0,), (1,), "made-up")
    [bare] = RowBuilder("rank1", model, {"judge": {"think": False}, "max_model_len": 16384}, widest=1).rows(one)
    assert (bare.prefill, bare.demonstration) == ("\n<answer>", "true</answer>")
    [thinking] = RowBuilder("rank1", model, {"max_model_len": 16384}, widest=1).rows(one)
    assert thinking.prefill == ""
    assert thinking.demonstration.endswith("</think>\n<answer>true</answer>")


@pytest.mark.parametrize(
    ("gain", "top", "grade"), [(0.0, 3.0, 0.0), (1.0, 3.0, 3.0), (2.0, 3.0, 7.0), (3.0, 3.0, 10.0), (1.0, 1.0, 10.0)]
)
def test_a_grade_is_on_the_judge_s_scale(gain: float, top: float, grade: float, model: str) -> None:
    one = LabelledList(Query("q", "what"), (Candidate("a", 0.0, "text"),), (gain,), (1,), "made-up")
    [row] = RowBuilder("erank", model, {}, widest=1, top_gain=top).rows(one)
    assert row.grade == grade
    assert row.demonstration.endswith(f"<answer>{grade:g}</answer>")


@pytest.mark.parametrize("reranker", names())
def test_every_reranker_s_rows_can_be_trained_on_and_imitated(reranker: str, model: str) -> None:
    """Whatever the prompt begins the assistant's turn with, the answer goes on from there and earns what an ideal one
    does; a reranker there are no rows for says so."""
    asking, told = None, ""
    try:
        asking = RowBuilder(reranker, model, {"max_model_len": 65536}, widest=3)
    except UsageError as error:
        told = str(error)
    if asking is None:
        assert re.search("combines several|no training rows for|tokenizer does not write '\\w+'", told)
        return
    candidates = [Candidate(docid, 0.0, f"text of {docid}") for docid in "abc"]
    rows = list(asking.rows(listing(Query("q", "what"), candidates, [0.0, 1.0, 0.0])))
    assert [fault_of(row) for row in rows] == [None] * (3 if asking.kind == "score" else 1)
    reward = {"permutation": rewards.multiview, "best": rewards.exact_label, "worst": rewards.exclusion,
              "score": rewards.graded}.get(asking.kind)  # fmt: skip
    for row in rows:
        text = row.prefill + row.demonstration
        assert text.count("<think>") == text.count("</think>") <= 1
        columns: dict[str, Any] = {
            name: [value] for name, value in row.as_json().items() if name not in ("prompt", "completion")
        }
        completions = [[{"role": "assistant", "content": row.demonstration}]]
        if reward is not None:
            [earned] = reward([row.prompt], completions, **columns)
            assert earned is not None
            assert earned >= 1.0


def test_a_labelled_order_and_its_thought_become_the_answer(model: str) -> None:
    candidates = tuple(Candidate(docid, 0.0, docid) for docid in "abc")
    listed = LabelledList(
        Query("q", "what"), candidates, (0.0, 1.0, 0.0), (1, 2, 3), "x", ("c", "b", "a"), "I </think> see <answer>."
    )
    [row] = RowBuilder("reasonrank", model, {"sampling": {"max_tokens": 512}}, widest=3).rows(listed)
    assert row.demonstration == "<think>I  see .</think>\n<answer>[3] > [2] > [1]</answer>"
    assert row.gold == ("c", "b", "a")
    [best] = RowBuilder("rank-r1", model, {}, widest=3).rows(listed)
    assert best.demonstration.endswith("<answer>[2]</answer>")
    assert best.gold is None


def test_a_thought_goes_only_with_the_row_it_is_about(model: str) -> None:
    """One about three passages says nothing of one of them, of two, of another order, or of which is best or worst."""
    candidates = tuple(Candidate(docid, 0.0, docid) for docid in "abc")
    listed = LabelledList(
        Query("q", "what"),
        candidates,
        (0.0, 1.0, 0.0),
        (1, 2, 3),
        "x",
        ("b", "a", "c"),
        "[2] says it, [1] and [3] do not.",
    )
    assert listed.shown((0, 1, 2)).reasoning == listed.reasoning
    assert [listed.shown(places).reasoning for places in ((0, 1), (0, 2, 1), (1,))] == ["", "", ""]
    for reranker in ("rank-r1", "iranker", "erank", "rank1", "rankgpt"):
        asking = RowBuilder(reranker, model, SHORT, widest=3)
        assert not asking.takes_reasoning(listed)
        assert all("says it" not in row.demonstration for row in asking.rows(listed))
        if reranker == "iranker":
            cases = [row for case in exclusions(listed, random.Random(1)) for row in asking.rows(case)]
            assert [len(row.docids) for row in cases] == [2, 3]
            assert all("says it" not in row.demonstration for row in cases)
    ordered = RowBuilder("reasonrank", model, SHORT, widest=3)
    [row] = ordered.rows(listed)
    assert "<think>[2] says it" in row.demonstration
    [other] = ordered.rows(listed.shown((2, 1, 0)))
    assert "says it" not in other.demonstration
    single = LabelledList(Query("q", "what"), candidates[:1], (1.0,), (1,), "x", reasoning="It says it.")
    [row] = RowBuilder("rank1", model, SHORT, widest=1).rows(single)
    assert row.demonstration == "<think>It says it.</think>\n<answer>true</answer>"
    told = (
        ordered.reasoning_report([listed, single]),
        RowBuilder("erank", model, {}, widest=3).reasoning_report([listed, single]),
    )
    assert told == ([], ["the reasoning of 1 of 2 lists is left out: it explains more than a row shows or asks for"])


def test_graded_pays_for_the_word_that_a_row_asks_for(model: str) -> None:
    """Rank1's rows are answered by true or false, whose grades are 1 and 0, not by a score up to 10."""
    candidates = [Candidate(docid, 0.0, docid) for docid in "ab"]
    positive, negative = RowBuilder("rank1", model, SHORT, widest=1).rows(
        listing(Query("q", "what"), candidates, [1.0, 0.0])
    )
    for row, right, wrong in ((positive, "true", "false"), (negative, "false", "true")):
        columns: dict[str, Any] = {
            name: [value] * 2 for name, value in row.as_json().items() if name not in ("prompt", "completion")
        }
        answers = [f"<think>so</think>\n<answer>{word}</answer>" for word in (right, wrong)]
        assert rewards.graded([], answers, **columns) == [1.0, 0.0]


@pytest.mark.parametrize(
    ("judge", "tags"),
    [({}, True), ({"think": False}, False), ({"opening": "\n"}, False), ({"think": False, "opening": ""}, False)],
)
def test_a_score_row_says_whether_it_asks_for_tags(judge: dict[str, Any], tags: bool, model: str) -> None:
    [row] = RowBuilder("rank1", model, {**SHORT, "judge": judge}, widest=1).rows(
        listing(Query("q", "x"), [Candidate("a", 0, "a")], [1])
    )
    assert row.tags == tags
    columns: dict[str, Any] = {
        name: [value] for name, value in row.as_json().items() if name not in ("prompt", "completion")
    }
    assert rewards.graded([], [row.demonstration], **columns) == [1.0]


@pytest.mark.parametrize(
    ("reranker", "judge", "said"),
    [
        ("iranker-recommendation", {}, r"no training rows for iranker-recommendation: .*names \(judge.match: name\)"),
        ("iranker-routing", {}, r"no training rows for iranker-routing: .*names \(judge.match: model\)"),
        ("iranker", {"drop": 3}, r"no training rows for judge.drop: 3: .*--rerank.judge.drop 1"),
        (
            "zerank",
            {"answers": ["A"]},
            r"no training rows for zerank: .*the logit of one answer, 'A'.*value difference",
        ),
    ],
)
def test_answers_that_no_reward_reads_have_no_rows(reranker: str, judge: dict[str, Any], said: str, model: str) -> None:
    with pytest.raises(UsageError, match=said):
        RowBuilder(reranker, model, {"judge": judge, "max_model_len": 8192}, widest=3)


def test_what_can_t_be_asked_is_refused_in_a_sentence(tmp_path: Path, model: str) -> None:
    with pytest.raises(UsageError, match="combines several"):
        RowBuilder("coranking", model, {}, widest=20)
    bare = tmp_path / "bare"
    bare.mkdir()
    with pytest.raises(UsageError, match=r"set --rerank\.max_model_len"):
        RowBuilder("reasonrank", str(bare), {}, widest=20)


# --- drawing ---------------------------------------------------------------------------------------------------------

HITS = [Hit(f"d{i}", 100.0 - i) for i in range(1, 101)]


def test_bands_share_the_negatives() -> None:
    how = Draw(
        size=21, positives=1, bands=(Band(first=1, last=10), Band(first=11, last=50), Band(first=51, last=100, share=2))
    )
    found = draw(HITS, {"d3": 1}, how, random.Random(1))
    assert found is not None
    negatives = [rank for docid, rank in zip(found.docids, found.first_stage, strict=True) if docid != "d3"]
    assert Counter((rank > 10) + (rank > 50) for rank in negatives) == {0: 5, 1: 5, 2: 10}
    assert list(found.first_stage) == sorted(found.first_stage)


def test_a_band_that_is_short_is_filled_from_the_best_ranks_left() -> None:
    how = Draw(size=8, positives=1, bands=(Band(first=90, last=93),))
    found = draw(HITS, {"d1": 1}, how, random.Random(1))
    assert found is not None
    assert found.docids == ("d1", "d2", "d3", "d4", "d90", "d91", "d92", "d93")


def test_positives_highest_grades_first_and_the_missed_behind_all_ranks() -> None:
    grades = {"d5": 1, "d6": 2, "d7": 0, "gone": 3}
    found = draw(HITS, grades, Draw(size=5, positives=2), random.Random(1))
    assert found is not None
    labelled = {d: (gain, rank) for d, gain, rank in zip(found.docids, found.gains, found.first_stage, strict=True)}
    assert labelled["d6"] == (2.0, 6)
    assert labelled["gone"] == (3.0, 101)
    assert "d5" not in labelled
    without = draw(HITS, grades, Draw(size=5, positives=2, missed=False), random.Random(1))
    assert without is not None
    assert {"d5", "d6"} <= set(without.docids)
    assert "gone" not in without.docids


@given(
    size=st.integers(2, 30),
    positives=st.integers(1, 30),
    relevant=st.sets(st.integers(1, 120), max_size=40),
    length=st.integers(0, 60),
    seed=st.integers(0, 99),
)
def test_a_draw_is_a_list_that_can_teach_or_none(
    size: int, positives: int, relevant: set[int], length: int, seed: int
) -> None:
    how = Draw(size=size, positives=positives, bands=(Band(first=1, last=5), Band(first=3, last=40, share=0.7)))
    hits, grades = HITS[:length], {f"d{i}": 1 for i in relevant}
    found = draw(hits, grades, how, random.Random(seed))
    negatives = [hit for hit in hits if hit.docid not in grades]
    if not relevant or not negatives:
        assert found is None
        return
    assert found is not None
    assert len(set(found.docids)) == len(found.docids) <= size
    shown = sum(found.gains)
    assert shown == min(len(relevant), positives, size - 1)
    assert len(found.docids) - shown == min(len(negatives), size - shown)


def test_exclusion_cases_always_hold_the_target(model: str) -> None:
    gains = (0.0, 1.0, 0.0, 2.0, 0.0, 0.0)
    listed = LabelledList(
        Query("q", "what"), tuple(Candidate(f"d{i}", 0.0, "") for i in range(6)), gains, tuple(range(1, 7)), "x"
    )
    cases = list(exclusions(listed, random.Random(1)))
    assert [len(case.candidates) for case in cases] == [2, 3, 4, 5]
    for case in cases:
        docids = [c.docid for c in case.candidates]
        assert docids.count("d3") == 1
        assert "d1" not in docids
        assert [gains[int(d[1:])] for d in docids] == list(case.gains)
    places = {
        [c.docid for c in case.candidates].index("d3")
        for seed in range(20)
        for case in exclusions(listed, random.Random(seed))
    }
    assert places == {0, 1, 2, 3, 4}


# --- the step --------------------------------------------------------------------------------------------------------


def test_rows_of_a_collection(
    collection: Collection, tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = made(collection, tmp_path, model, draw={"size": 8, "positives": 3})
    assert [row.qid for row in rows] == ["long", "7"]
    for row in rows:
        assert row.gains == tuple(float(grade(collection, row.qid, docid)) for docid in row.docids)
        assert row.first_stage == tuple(int(docid.rpartition("-d")[2]) + 1 for docid in row.docids)
        assert fault_of(row) is None
        assert list(row.first_stage) != sorted(row.first_stage)  # shuffled
    report = capsys.readouterr().out
    assert "2 of 4 queries can be trained on" in report
    assert "query single" in report
    assert "query nothing" in report


def test_the_same_settings_make_the_same_bytes_and_another_seed_others(
    collection: Collection, tmp_path: Path, model: str
) -> None:
    written = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        made(collection, tmp_path, model, output=tmp_path / name, seed=seed)
        written.append((tmp_path / name).read_bytes())
    assert written[0] == written[1] != written[2]


def test_copies_are_drawn_and_shuffled_anew(collection: Collection, tmp_path: Path, model: str) -> None:
    rows = made(collection, tmp_path, model, draw={"size": 8, "positives": 3}, copies=3)
    lists = [row.docids for row in rows if row.qid == "long"]
    assert len(lists) == len(set(lists)) == 3


def test_given_order_is_the_first_stage_s(collection: Collection, tmp_path: Path, model: str) -> None:
    for row in made(collection, tmp_path, model, order="given"):
        assert list(row.first_stage) == sorted(row.first_stage)


def test_exclusion_rows(collection: Collection, tmp_path: Path, model: str) -> None:
    rows = made(collection, tmp_path, model, reranker="iranker", draw={"size": 6, "positives": 1})
    sizes = [len(row.docids) for row in rows if row.qid == "long"]
    assert sizes == [2, 3, 4, 5, 6]
    assert all(max(row.gains) > 0 for row in rows)


def test_score_rows_are_one_a_passage_and_a_query_s_stand_together(
    collection: Collection, tmp_path: Path, model: str
) -> None:
    rows = made(collection, tmp_path, model, reranker="erank", draw={"size": 6, "positives": 2})
    assert [row.qid for row in rows] == ["long"] * 6 + ["7"] * 5
    assert all(len(row.docids) == 1 and row.grade is not None for row in rows)
    assert all((row.grade or 0) > 0 for row in rows if row.gains[0] > 0)


def test_passages_that_say_the_same_are_shown_once(collection: Collection, tmp_path: Path, model: str) -> None:
    lines = [json.loads(line) for line in collection.corpus.read_text(encoding="utf-8").splitlines()]
    best = max(collection.grades["7"], key=lambda docid: collection.grades["7"][docid])
    for line in lines:
        if line["id"] in ("7-d0", "7-d1", "7-d2", best):
            line["contents"] = "The same  words."
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    [row] = [row for row in made(collection, tmp_path, model, corpus=corpus) if row.qid == "7"]
    assert len(row.docids) == 7 - len({"7-d0", "7-d1", "7-d2", best}) + 1
    assert best in row.docids


def test_held_out_queries(
    collection: Collection, tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    topics = tmp_path / "topics.tsv"
    topics.write_text("".join(f"{i}\tquestion number {i // 2}\n" for i in range(60)), encoding="utf-8")
    qrels, run = tmp_path / "qrels.txt", tmp_path / "run.txt"
    qrels.write_text("".join(f"{i} 0 long-d{i % 25} 1\n" for i in range(60)), encoding="utf-8")
    run.write_text(
        "".join(f"{i} Q0 long-d{j} {j + 1} {30 - j} x\n" for i in range(60) for j in range(25)), encoding="utf-8"
    )
    rows = made(collection, tmp_path, model, topics=topics, qrels=qrels, run=run, dev=0.3)
    dev, _ = read_rows(tmp_path / "rows.dev.jsonl")
    assert len(rows) + len(dev) == 60
    assert 10 <= len(dev) <= 30
    assert not {row.query for row in rows} & {row.query for row in dev}  # two qids, one question: one side
    held = (tmp_path / "rows.dev.topics.tsv").read_text(encoding="utf-8").splitlines()
    assert held == [f"{row.qid}\t{row.query}" for row in dev]
    assert "rows of" in capsys.readouterr().out


def test_a_query_stays_on_its_side_whatever_comes_or_goes() -> None:
    lists = [LabelledList(Query(str(i), f"query {i}"), (), (), (), "x") for i in range(50)]
    train, dev = split_by_query(lists, 0.4, seed=1)
    fewer_train, fewer_dev = split_by_query(lists[::3], 0.4, seed=1)
    assert {*fewer_train} <= {*train}
    assert {*fewer_dev} <= {*dev}
    renamed = [LabelledList(Query(f"other {i}", f"  Query, {i}!"), (), (), (), "x") for i in range(50)]
    assert [r.query.qid for r in split_by_query(renamed, 0.4, seed=1)[1]] == [f"other {r.query.qid}" for r in dev]


def test_queries_without_room_are_counted(
    collection: Collection, tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    topics = tmp_path / "topics.tsv"
    topics.write_text("7\twhat is topic 1\nlong\t" + "endless words " * 3000 + "\n", encoding="utf-8")
    run = tmp_path / "run.txt"
    run.write_bytes(
        b"".join(
            line for line in collection.run.read_bytes().splitlines(keepends=True) if line.split()[0] in (b"7", b"long")
        )
    )
    rows = made(collection, tmp_path, model, topics=topics, run=run)
    assert [row.qid for row in rows] == ["7"]
    assert "1 left out, longer than the context" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"run": None, "corpus": None}, "needs --run and --corpus"),
        ({"format": "tfrank"}, "needs --path"),
        ({"output": "rows.jsonl.gz"}, "without .gz"),
        ({"reranker": "reasonrang"}, "did you mean 'reasonrank'"),
    ],
)
def test_bad_settings(
    changes: Mapping[str, Any], message: str, collection: Collection, tmp_path: Path, model: str
) -> None:
    with pytest.raises(UsageError, match=message):
        step.run(settings(collection, tmp_path, model, **changes))


def test_nothing_to_train_on_writes_nothing(collection: Collection, tmp_path: Path, model: str) -> None:
    qrels = tmp_path / "qrels.txt"
    qrels.write_text("long 0 long-d1 0\n", encoding="utf-8")
    with pytest.raises(UsageError, match="no list has a positive"):
        step.run(settings(collection, tmp_path, model, qrels=qrels))
    assert not (tmp_path / "rows.jsonl").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nfcorpus-devtest", "beir-scifact"])
def test_real_training_judgments(name: str, data: Path, tmp_path: Path, model: str) -> None:
    """Training queries of a real collection, their positives among the first documents of its corpus."""
    folder = data / name
    topics = (folder / "topics.train.tsv").read_text(encoding="utf-8").splitlines()
    with (folder / "corpus.jsonl").open(encoding="utf-8") as corpus:
        docids = [json.loads(line)["id"] for line in islice(corpus, 30)]
    lines = [f"{topic.split('\t')[0]} Q0 {d} {r} {99 - r} x\n" for topic in topics for r, d in enumerate(docids, 1)]
    run = tmp_path / "run.txt"
    run.write_text("".join(lines), encoding="utf-8")
    config = Config(
        reranker="rankgpt",
        model=model,
        topics=folder / "topics.train.tsv",
        qrels=folder / "qrels.train.txt",
        run=run,
        corpus=folder / "corpus.jsonl",
        output=tmp_path / "rows.jsonl",
        dev=0.2,
        queries=100,
        draw=Draw(size=10, positives=2),
    )
    step.run(config)
    rows, audit = read_rows(config.output)
    held_out, _ = read_rows(tmp_path / "rows.dev.jsonl")
    assert audit.read == audit.kept == len(rows) > 5 * len(held_out) / 2
    assert {row.source for row in rows} == {name}


@pytest.mark.parametrize("name", [name for name in yaml_names("train") if name.startswith("data-")])
def test_the_recipes_make_rows_of_their_size(name: str, collection: Collection, model: str, tmp_path: Path) -> None:
    """Each with this collection in place of its own data, and with this tokenizer."""
    given = [f"--{key}={getattr(collection, key)}" for key in ("topics", "run", "corpus")]
    words = [*given, f"--config={name}", f"--output={tmp_path / 'rows.jsonl'}", f"--model={model}", "--dev=0"]
    qrels = collection.folder / "qrels.train.txt"
    config = load("data", Config, [*words, f"--qrels={qrels}", "--format=collection"])
    step.run(config)
    rows, _ = read_rows(config.output)
    grades = [grade(collection, "long", docid) for docid in collection.grades["long"]]
    whole = min(config.draw.size, min(sum(map(bool, grades)), config.draw.positives) + grades.count(0))
    sizes = [len(row.docids) for row in rows if row.qid == "long"]
    if config.draw.least is not None:
        assert {config.draw.least <= size <= whole for size in sizes} == {True}
    else:
        assert max(sizes) == (1 if rows[0].kind == "score" else whole)
    assert len(sizes) == {"score": whole, "worst": whole - 1}.get(rows[0].kind, 1)
