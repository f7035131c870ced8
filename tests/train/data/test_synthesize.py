"""A teacher labels lists: what it picks, what is filtered, that it resumes, and what good and bad teachers leave."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Collection, Command

from pyserini_reasonrank.engines.oracle import Oracle
from pyserini_reasonrank.errors import Failure, UsageError
from pyserini_reasonrank.ir.runs import Hit
from pyserini_reasonrank.parsing.parts import OPEN_ANSWER
from pyserini_reasonrank.records import Call, Completion, Prompt, Sampling, Status
from pyserini_reasonrank.train.command import load
from pyserini_reasonrank.train.data import labelling
from pyserini_reasonrank.train.data import prepare as data_step
from pyserini_reasonrank.train.data.index_texts import hits_with_texts
from pyserini_reasonrank.train.data.labelling import Config, TeacherSettings
from pyserini_reasonrank.train.data.rows import Row, read_rows
from pyserini_reasonrank.train.data.selection import HardNegativeSelection, RelevanceSelection, template_of
from pyserini_reasonrank.train.data.synthesize import run
from pyserini_reasonrank.train.rewards.listwise import multiview
from pyserini_reasonrank.train.rewards.rollouts import Rollout


@pytest.fixture(scope="module")
def model(tokenizer_file: Path) -> str:
    (tokenizer_file.parent / "config.json").write_text('{"max_position_embeddings": 16384}', encoding="utf-8")
    return str(tokenizer_file.parent)


@pytest.fixture
def settings(collection: Collection, tmp_path: Path, model: str) -> dict[str, Any]:
    """A perfect teacher over the collection: a document of grade 2 or 3 is useful."""
    lines = [f"{q} 0 {d} {max(g - 1, 0)}\n" for q, of in collection.grades.items() for d, g in of.items()]
    (tmp_path / "qrels.txt").write_text("".join(lines), encoding="utf-8")
    engine = {"name": "oracle", "qrels": str(tmp_path / "qrels.txt")}
    return {
        "teacher": {"settings": {"engine": engine, "passage_tokens": 100}},
        "reranker": "reasonrank",
        "model": model,
        "rerank": {"sampling": {"max_tokens": 512}},
        "topics": collection.topics,
        "run": collection.run,
        "corpus": collection.corpus,
        "output": tmp_path / "rows.jsonl",
    }


def labelled(settings: dict[str, Any], **changes: Any) -> list[Row]:
    config = Config.model_validate(settings | changes)
    run(config)
    return read_rows(config.output)[0]


def spoiled(settings: dict[str, Any], **faults: float) -> dict[str, Any]:
    """The same teacher on a bad day."""
    inner = settings["teacher"]["settings"]["engine"]
    engine = {"name": "faulty", "inner": inner, "faults": faults}
    return {"teacher": {"settings": {**settings["teacher"]["settings"], "engine": engine}}}


# --- picking ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "picked", "status"),
    [
        ("<think>a</think><answer>[2] [3]</answer>", [1, 2], Status.OK),
        ("<think>a</think><answer>None</answer>", [], Status.OK),
        ("<think>a</think><answer>none of them</answer>", [], Status.OK),
        ("<think>a</think><answer>[3] > [1]</answer>", [2, 0], Status.OK),
        ("<think>a</think><answer>[3] [3] [9]</answer>", [2], Status.REPAIRED),
        ("<think>a</think> [3]", [2], Status.REPAIRED),
        ("<think>a</think><answer>the third</answer>", None, Status.EMPTY),
        ("<think>a [3]", None, Status.TRUNCATED),
        ("", None, Status.EMPTY),
    ],
)
def test_reading_a_pick(text: str, picked: list[int] | None, status: Status) -> None:
    judge = RelevanceSelection(RelevanceSelection.Options(), Sampling(), frozenset(), "")
    judgement = judge.read(Completion(text), 3)
    assert judgement.status is status
    assert judge.outcome(judgement, [0, 1, 2]) == picked
    assert sorted(judgement.order) == [0, 1, 2]


@pytest.mark.parametrize("kind", [RelevanceSelection, HardNegativeSelection])
def test_ideal_picks_are_read_back(kind: type[RelevanceSelection]) -> None:
    judge = kind(kind.Options(), Sampling(), frozenset(), "")
    for gains, useful in (((0.0, 1.0, 2.0), [1, 2]), ((0.0, 0.0), []), ((1.0,), [0])):
        judgement = judge.read(Completion(judge.ideal(gains)), len(gains))
        wanted = useful if kind is RelevanceSelection else [i for i in range(len(gains)) if i not in useful]
        assert judge.outcome(judgement, range(len(gains))) == wanted
        assert judgement.status is Status.OK


@pytest.mark.parametrize("purpose", ["useful", "misleading"])
def test_the_prompts_show_everything(purpose: str) -> None:
    shown = "\n".join(m.content for m in template_of(purpose).render("why - Answer: so", ["p one", "p two"]).messages)
    assert all(text in shown for text in ("why - Answer: so", "[1] p one", "[2] p two", "None", "<answer>"))


# --- the whole way ---------------------------------------------------------------------------------------------------


def test_a_good_teacher(settings: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    rows = labelled(settings, window=5)
    assert [row.qid for row in rows] == ["long", "7"]
    for row in rows:
        assert row.gold is not None
        assert set(row.docids) == set(row.gold)
        positives = sum(row.gains)
        assert 0 < positives < len(row.docids) <= 20
        assert [row.gains[row.docids.index(docid)] for docid in row.gold] == sorted(row.gains, reverse=True)
        gold = tuple(row.docids.index(docid) for docid in row.gold)
        assert multiview(Rollout(row.demonstration, row.gains, row.docids, gold=gold)).reward > 1.0
    told = capsys.readouterr().out
    assert "calls that select positives and negatives        8" in told  # 25, 7 and 1 candidates, 5 at a time
    assert "calls that order a list                          3" in told
    assert "no negative" in told or "no positive" in told  # of the query with a single candidate
    assert "no candidates to select from" in told
    assert "50.0%" in told


def test_the_thoughts_of_orders_are_not_for_a_student_that_is_asked_for_something_else(
    settings: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    thoughts = "the reasoning of 2 of 2 lists is left out"
    assert all(row.demonstration.startswith("<think>") for row in labelled(settings))
    assert thoughts not in capsys.readouterr().out
    labelled(settings, reranker="rank-r1")
    assert thoughts in capsys.readouterr().out


def test_the_order_is_asked_without_the_answer_and_the_pick_with_it(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = tmp_path / "answers.jsonl"
    answers.write_text('{"qid": "7", "answer": "because of xyzzy"}\n', encoding="utf-8")
    asked: list[tuple[str, str, str]] = []
    answer = Oracle.generate

    async def caught(self: Oracle, prompt: Prompt, sampling: Sampling, call: Call) -> Completion:
        asked.append((call.part, call.qid, "\n".join(m.content for m in prompt.messages)))
        return await answer(self, prompt, sampling, call)

    monkeypatch.setattr(Oracle, "generate", caught)
    rows = labelled(settings, answers=answers)
    told = {(part, qid): "because of xyzzy" in text for part, qid, text in asked}
    assert told[("useful", "7")]
    assert not told[("useful", "long")]
    assert not told[("order", "7")]
    assert not any("xyzzy" in message.content for row in rows for message in row.prompt)


def test_hard_negatives_come_before_what_was_not_picked(
    settings: dict[str, Any], collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    useful = [d for d, grade in collection.grades["long"].items() if grade > 1]
    useless = [d for d, grade in collection.grades["long"].items() if grade <= 1][-4:]
    other = tmp_path / "negatives.txt"
    found = [useful[0], *useless, useful[1]]
    other.write_text("".join(f"long Q0 {d} {i} {9 - i} x\n" for i, d in enumerate(found, 1)), encoding="utf-8")
    shown: dict[str, tuple[str, ...]] = {}
    answer = Oracle.generate

    async def caught(self: Oracle, prompt: Prompt, sampling: Sampling, call: Call) -> Completion:
        shown[call.part] = call.docids
        return await answer(self, prompt, sampling, call)

    monkeypatch.setattr(Oracle, "generate", caught)
    topics = tmp_path / "topics.tsv"
    topics.write_text("long\twhat is topic 0\n", encoding="utf-8")
    size = len(useful) + 4
    [row] = labelled(settings, topics=topics, negatives=other, size=size, depth=25, window=25)
    assert {docid for docid, gain in zip(row.docids, row.gains, strict=True) if not gain} == set(useless)
    assert len(row.docids) == size
    assert shown["misleading"] == tuple(useless)  # what was picked as useful is not shown again


def test_the_order_can_be_asked_in_a_dialogue_as_published(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RankGPT's dialogue: a turn for each passage, and the thought of a model that thinks before its answer."""
    turns: list[list[str]] = []
    answer = Oracle.generate

    async def thinking(self: Oracle, prompt: Prompt, sampling: Sampling, call: Call) -> Completion:
        found = await answer(self, prompt, sampling, call)
        if call.part != "order":
            return found
        turns.append([message.role for message in prompt.messages])
        return replace(found, text=f"<think>[2] fits, [1] less.</think>\n{found.text}")

    monkeypatch.setattr(Oracle, "generate", thinking)
    teacher = {"reranker": "rankgpt", **settings["teacher"]}
    rows = labelled(settings, teacher=teacher, qrels=tmp_path / "qrels.txt", size=6)
    assert [row.qid for row in rows] == ["long", "7"]
    assert turns[0] == ["system", *["user", "assistant"] * 7, "user"]  # the announcement and six passages
    assert all(row.demonstration.startswith("<think>[2] fits, [1] less.</think>") for row in rows)


def test_negatives_of_another_index_have_its_texts(
    settings: dict[str, Any], collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    run_of_web, asked = tmp_path / "web.txt", []
    run_of_web.write_text("7 Q0 7-d0 1 3 x\n7 Q0 w1 2 2 x\n", encoding="utf-8")

    def web(run: Path, topics: Path, index: str, depth: int) -> tuple[dict[str, list[Hit]], dict[str, str]]:
        asked.append((run, topics, index, depth))
        found = [Hit("negative:7-d0", 3.0), Hit("negative:w1", 2.0)]
        return {"7": found}, {hit.docid: f"a page of the web, {hit.docid}" for hit in found}

    monkeypatch.setattr(labelling, "hits_with_texts", web)
    given = {"negatives": run_of_web, "negatives_index": "web-index", "depth": 7}
    run(Config.model_validate(settings | given | {"cost": True}))
    assert "passages shown" in capsys.readouterr().out
    rows = labelled(settings, **given)
    assert asked[0] == (run_of_web, collection.topics, "web-index", 7)
    [row] = [row for row in rows if row.qid == "7"]
    assert any("a page of the web, negative:w1" in message.content for message in row.prompt)
    gains = dict(zip(row.docids, row.gains, strict=True))
    assert (gains["negative:w1"], gains["negative:7-d0"]) == (0.0, 0.0)
    with pytest.raises(UsageError, match="--negatives_index holds the texts of a run: set --negatives"):
        labelled(settings, negatives_index="web-index")


@pytest.mark.slow
@pytest.mark.jvm
@pytest.mark.soak_only
def test_texts_come_from_a_pyserini_index(
    settings: dict[str, Any], collection: Collection, tmp_path: Path, command: Command
) -> None:
    index = tmp_path / "index"
    made = command("index", "--corpus", collection.corpus, "--index", index)
    assert made.returncode == 0, made.stderr
    hits, texts = hits_with_texts(collection.run, collection.topics, str(index), 3)
    assert [hit.docid for hit in hits["7"]] == ["negative:7-d0", "negative:7-d1", "negative:7-d2"]
    assert texts["negative:7-d1"] == "Passage 1 says what there is to say of topic 1."
    run_of_web = tmp_path / "web.txt"
    run_of_web.write_text("7 Q0 7-d0 1 3 x\n7 Q0 long-d20 2 2 x\n", encoding="utf-8")
    rows = labelled(settings, negatives=run_of_web, negatives_index=str(index), depth=7)
    [row] = [row for row in rows if row.qid == "7"]
    gains = dict(zip(row.docids, row.gains, strict=True))
    assert gains["negative:long-d20"] == 0.0
    assert "negative:7-d0" not in gains  # its text is that of a positive
    assert any("Passage 20 says what there is to say of topic 0." in message.content for message in row.prompt)


def test_known_positives_are_not_picked(settings: dict[str, Any], tmp_path: Path, capsys: Any) -> None:
    rows = labelled(settings, qrels=tmp_path / "qrels.txt")
    assert [row.qid for row in rows] == ["long", "7"]
    told = capsys.readouterr().out
    assert "calls that select positives and negatives        0" in told
    assert "useful" not in told


def test_an_order_that_contradicts_the_positives_is_dropped(
    settings: dict[str, Any], tmp_path: Path, capsys: Any
) -> None:
    """The orderer goes by other judgments than the positives: the filter is what tells."""
    against = tmp_path / "against.txt"
    first = [line.split() for line in (tmp_path / "qrels.txt").read_text(encoding="utf-8").splitlines()]
    worst = "".join(f"{qid} 0 {docid} {0 if int(grade) else 1}\n" for qid, _, docid, grade in first)
    against.write_text(worst, encoding="utf-8")
    engine = {"name": "oracle", "qrels": str(against)}
    teacher = {"settings": {"engine": engine, "passage_tokens": 100}}
    with pytest.raises(UsageError, match="no row to train on"):
        labelled(settings, teacher=teacher, qrels=tmp_path / "qrels.txt", threshold=0.9)
    told = capsys.readouterr().out
    assert "the order contradicts the positives (nDCG@10 below 0.9)" in told
    records = [
        json.loads(line) for line in (tmp_path / "rows.jsonl.records.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert len(records) == 2
    assert all(record["agreement"] < 0.9 for record in records)


def test_records_are_read_back_by_the_reader_of_reasonrank_s_release(settings: dict[str, Any], tmp_path: Path) -> None:
    rows = labelled(settings)
    config = data_step.Config(
        reranker=settings["reranker"],
        model=settings["model"],
        rerank=settings["rerank"],
        format="reasonrank",
        path=tmp_path / "rows.jsonl.records.jsonl",
        corpus=settings["corpus"],
        output=tmp_path / "again.jsonl",
    )
    data_step.run(config)
    again, _ = read_rows(config.output)
    assert [(r.prompt, r.completion, r.gold, r.gains) for r in again] == [
        (r.prompt, r.completion, r.gold, r.gains) for r in rows
    ]


# --- a teacher's bad days --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["refused", "empty"])
def test_a_teacher_that_says_nothing_is_counted_and_nothing_is_written(
    fault: str, settings: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match="no row to train on"):
        labelled(settings, **spoiled(settings, **{fault: 1.0}))
    told = capsys.readouterr().out
    assert "the selection of positives can't be read" in told
    assert f"useful: 3 {fault}" in told
    assert not settings["output"].exists()


def test_a_refused_order_is_told_from_a_bad_one(
    settings: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match="no row to train on"):
        labelled(settings, qrels=tmp_path / "qrels.txt", **spoiled(settings, refused=1.0))
    assert "- the order is refused" in capsys.readouterr().out


def test_repaired_orders_are_taken_only_where_they_are_asked_for(settings: dict[str, Any], tmp_path: Path) -> None:
    bad = spoiled(settings, out_of_range=1.0)
    with pytest.raises(UsageError, match="no row to train on"):
        labelled(settings, qrels=tmp_path / "qrels.txt", **bad)
    assert len(labelled(settings, qrels=tmp_path / "qrels.txt", repaired=True, **bad)) == 2


def test_an_interrupted_run_goes_on_where_it_stopped(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = labelled(settings, output=tmp_path / "whole.jsonl", window=5)
    calls: list[str] = []
    answer = Oracle.generate

    async def counted(self: Oracle, prompt: Prompt, sampling: Sampling, call: Call) -> Completion:
        if len(calls) == 4:
            raise Failure("the teacher is gone")
        calls.append(call.qid)
        return await answer(self, prompt, sampling, call)

    monkeypatch.setattr(Oracle, "generate", counted)
    with pytest.raises(Failure, match="is gone"):
        labelled(settings, window=5)
    assert not settings["output"].exists()
    monkeypatch.setattr(Oracle, "generate", answer)
    made: list[str] = []

    async def noted(self: Oracle, prompt: Prompt, sampling: Sampling, call: Call) -> Completion:
        made.append(call.qid)
        return await answer(self, prompt, sampling, call)

    monkeypatch.setattr(Oracle, "generate", noted)
    assert labelled(settings, window=5) == whole
    assert len(made) == 8 + 2 - 4  # eight picks, two orders, four of them on record
    made.clear()
    assert labelled(settings, window=5) == whole
    assert made == []


def test_a_recorded_teacher(settings: dict[str, Any], tmp_path: Path) -> None:
    """The journal of a good teacher is a recorded one."""
    rows = labelled(settings)
    recorded = {"name": "recorded", "path": f"{settings['output']}.journal.sqlite"}
    teacher = {"settings": {"engine": recorded, "passage_tokens": 100}}
    assert labelled(settings, teacher=teacher, output=tmp_path / "replayed.jsonl") == rows


def test_the_cost_alone(settings: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    run(Config.model_validate(settings | {"cost": True}))
    told = capsys.readouterr().out
    assert "4 queries to oracle on oracle" in told
    assert "at most" in told
    assert not list(settings["output"].parent.glob("rows.jsonl*"))


def test_the_recipe(settings: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """It needs nothing but the data and where the teacher is."""
    given = [f"--{key}={settings[key]}" for key in ("topics", "run", "corpus", "output", "model")]
    engine = [
        "--teacher.settings.engine.name=oracle",
        f"--teacher.settings.engine.qrels={settings['output'].parent}/qrels.txt",
    ]
    run(load("synthesize", Config, [*given, *engine, "--config=synthesize"]))
    assert len(read_rows(settings["output"])[0]) == 2
    assert "kept" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"teacher": {"reranker": "coranking", "settings": {"engine": {"name": "oracle"}}}},
            "name a single reranker as the teacher",
        ),
        ({"answers": "nowhere.jsonl"}, "does not exist"),
    ],
)
def test_bad_settings(changes: dict[str, Any], message: str, settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=message):
        labelled(settings, **changes)


def test_answers_must_be_answers(settings: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "answers.jsonl").write_text('{"qid": "7"}\n', encoding="utf-8")
    with pytest.raises(UsageError, match=r"line 1 is not"):
        labelled(settings, answers=tmp_path / "answers.jsonl")


# --- real ------------------------------------------------------------------------------------------------------------


def real(data: Path, tmp_path: Path, teacher: dict[str, Any], queries: int) -> Config:
    """CACM, its BM25 run and judged queries."""
    folder = data / "cacm"
    return Config(
        teacher=TeacherSettings.model_validate({"settings": teacher}),
        reranker="reasonrank",
        model="smollm2-135m",
        topics=folder / "topics.tsv",
        run=folder / "run.bm25.anserini.top100.txt",
        corpus=folder / "corpus.clean.jsonl",
        output=tmp_path / "rows.jsonl",
        queries=queries,
        depth=4,
        window=4,
        size=4,
    )


def test_a_good_teacher_on_cacm(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine = {"name": "oracle", "qrels": str(data / "cacm" / "qrels.txt")}
    run(real(data, tmp_path, {"engine": engine, "passage_tokens": 100}, 20))
    rows, _ = read_rows(tmp_path / "rows.jsonl")
    told = capsys.readouterr().out
    assert len(rows) > 5
    assert "mean nDCG@10 1.000" in told
    assert all(OPEN_ANSWER in row.demonstration for row in rows)


@pytest.mark.soak_only
@pytest.mark.model
def test_the_embedded_model_is_a_bad_teacher(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It runs to the end, its answers are filtered, and the rates are told."""
    pytest.importorskip("torch")
    teacher = {"model": "smollm2-135m", "passage_tokens": 16, "sampling": {"max_tokens": 8},
               "engine": {"name": "transformers"}}  # fmt: skip
    with pytest.raises(UsageError, match="no row to train on"):
        run(real(data, tmp_path, teacher, 1))
    told = capsys.readouterr().out
    assert "1 queries to smollm2-135m on transformers" in told
    assert "kept" in told
    assert "0.0%" in told
