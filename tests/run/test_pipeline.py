"""Whole runs in process: nothing lost, everything counted, nothing paid twice, whatever the engine does."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import re
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Collection, RunReranker
from hypothesis import given, settings
from hypothesis import strategies as st

from pyserini_reasonrank import search
from pyserini_reasonrank.engines import Engine, EngineOptions
from pyserini_reasonrank.errors import Failure, UsageError
from pyserini_reasonrank.ir.metadata import RunRecord
from pyserini_reasonrank.ir.runs import RunFormat, read_run
from pyserini_reasonrank.journal_reader import export
from pyserini_reasonrank.records import (
    Call,
    Candidate,
    Capability,
    Completion,
    Judgement,
    Prompt,
    Query,
    Request,
    Sampling,
    Status,
)
from pyserini_reasonrank.run.candidates import HostFailed, _read_from, child, follow, parse_request, stream
from pyserini_reasonrank.run.cost import estimate
from pyserini_reasonrank.run.parts import Plan, SinglePlan
from pyserini_reasonrank.run.pipeline import Task, rerank
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.settings import layers, rerankers

SMALL = {"window_size": 6, "stride": 3}


def oracle(collection: Collection, **flags: Any) -> dict[str, Any]:
    return {"engine": {"name": "oracle", "qrels": str(collection.qrels)}, **flags}


def faulty(collection: Collection, engine: dict[str, Any], **flags: Any) -> dict[str, Any]:
    return {"engine": {"name": "faulty", "inner": {"qrels": str(collection.qrels)}, **engine}, **flags}


def docids(outcome: RunRecord) -> dict[str, list[str]]:
    return {qid: [hit.docid for hit in hits] for qid, hits in read_run(outcome.output).items()}


def ideal(collection: Collection, request: Request) -> list[str]:
    """The candidates by falling grade, ties as they were."""
    names = [c.docid for c in request.candidates]
    return sorted(names, key=lambda name: -collection.grades[request.query.qid][name])


def drive(made: Plan, requests: AsyncIterator[Request], output: Path, first_run: Path, **more: Any) -> RunRecord:
    return asyncio.run(rerank(made, Task(requests, output, first_run, "topics.tsv", ["rerank"], **more)))


# --- what a run leaves behind


def test_a_run_with_the_perfect_assessor(
    run_reranker: RunReranker, collection: Collection, capfd: pytest.CaptureFixture[str]
) -> None:
    outcome = run_reranker("reasonrank", oracle(collection, strategy={"name": "full"}))
    assert docids(outcome) == {r.query.qid: ideal(collection, r) for r in collection.requests if r.candidates}
    assert (outcome.topics, outcome.answered) == (4, 3)
    tally = outcome.tally
    assert (tally.statuses, tally.judgements, tally.bad) == ({Status.OK: 2}, 2, 0)
    assert (tally.calls, tally.from_journal) == (2, 0)
    assert capfd.readouterr() == ("", "")  # quiet in a pipe

    lines = [line.split() for line in outcome.output.read_text().splitlines()]
    assert [line[0] for line in lines] == ["long"] * 25 + ["7"] * 7 + ["single"]
    assert {line[5] for line in lines} == {"reasonrank-oracle"}
    for _, hits in read_run(outcome.output).items():
        scores = [hit.score for hit in hits]
        assert scores == sorted(set(scores), reverse=True)
    kept = {path.name for path in outcome.output.parent.iterdir()}
    assert kept == {"run.txt", "run.txt.journal.sqlite", "run.txt.ir-metadata.yml"}

    said = yaml.safe_load(outcome.metadata.read_text())
    assert said["outcome"]["topics answered"] == "3 of 4"
    assert said["outcome"]["topics without candidates"] == ["nothing"]
    assert said["outcome"]["statuses of calls"] == {status: 2 * (status == "ok") for status in Status}
    assert said["resources"]["llm"]["calls"] == 2


@pytest.mark.parametrize("name", rerankers.names())
def test_every_reranker_with_the_perfect_assessor(name: str, run_reranker: RunReranker, collection: Collection) -> None:
    outcome, depth = run_reranker(name, oracle(collection)), rerankers.read(name).get("depth", 100)
    assert outcome.tally.bad == 0
    for request in collection.requests:
        if request.candidates:
            grades = collection.gains(request.query.qid, docids(outcome)[request.query.qid])
            certain = {"tourrank": 0, "lighton-rerank": 2}.get(name, 10)  # a window of 4 carries its best 2 to the top
            exact = min(certain, len(grades))
            assert len(grades) == len(request.candidates)
            head = collection.gains(request.query.qid, [c.docid for c in request.candidates[:depth]])
            assert grades[:exact] == sorted(head, reverse=True)[:exact]


@pytest.mark.parametrize("name", [name for name in rerankers.names() if rerankers.published(name)])
def test_every_publication_with_the_perfect_assessor(
    name: str, run_reranker: RunReranker, collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The metadata record ``as``, and which prompt was used instead of one that is unavailable."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    outcome = run_reranker(name, oracle(collection, **{"as": "published"}))
    assert outcome.tally.bad == 0
    assert "as: published" in outcome.metadata.read_text()
    for request in collection.requests:
        if request.candidates:
            grades = collection.gains(request.query.qid, docids(outcome)[request.query.qid])
            assert len(grades) == len(request.candidates)
            exact = 0 if name == "tourrank" else min(10, len(grades))
            depth = rerankers.read(name).get("depth", 100)
            head = collection.gains(request.query.qid, [c.docid for c in request.candidates[:depth]])
            assert grades[:exact] == sorted(head, reverse=True)[:exact]


def test_scores_order_all_candidates_and_ties_stay(run_reranker: RunReranker, collection: Collection) -> None:
    outcome = run_reranker("rank1", oracle(collection))
    assert docids(outcome) == {r.query.qid: ideal(collection, r) for r in collection.requests if r.candidates}
    assert outcome.tally.judgements == 33
    assert outcome.tally.calls == 66  # a thought and an answer each


@pytest.mark.parametrize("depth", [1, 2, 6, 24, 25, 1000])
def test_what_lies_below_the_depth_stays_below_as_it_was(
    depth: int, run_reranker: RunReranker, collection: Collection
) -> None:
    outcome = run_reranker("reasonrank", oracle(collection, depth=depth, strategy={"name": "full"}))
    for request in collection.requests:
        if request.candidates:
            head = replace(request, candidates=request.candidates[:depth])
            tail = [c.docid for c in request.candidates[depth:]]
            assert docids(outcome)[request.query.qid] == ideal(collection, head) + tail


def test_a_single_candidate_and_none_cost_nothing(run_reranker: RunReranker, collection: Collection) -> None:
    outcome = run_reranker("reasonrank", oracle(collection), requests=collection.requests[2:])
    assert docids(outcome) == {"single": ["single-d0"]}
    assert (outcome.topics, outcome.answered, outcome.tally.judgements) == (2, 1, 0)


def test_only_topics_without_candidates(run_reranker: RunReranker, collection: Collection) -> None:
    outcome = run_reranker("reasonrank", oracle(collection), requests=collection.requests[3:])
    assert outcome.output.read_bytes() == b""
    assert (outcome.topics, outcome.answered) == (1, 0)


def test_msmarco_format(tmp_path: Path, collection: Collection) -> None:
    made = plan(*layers.load("reasonrank", oracle(collection)))
    requests = stream(iter(collection.requests[2:3]))
    outcome = drive(made, requests, tmp_path / "run", collection.run, output_format=RunFormat.MSMARCO)
    assert outcome.output.read_text() == "single\tsingle-d0\t1\n"


# --- a bad day


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ("error", Status.ERROR),
        ("empty", Status.EMPTY),
        ("refused", Status.REFUSED),
        ("truncated", Status.TRUNCATED),
        ("prose", Status.EMPTY),
        ("duplicates", Status.REPAIRED),
        ("out_of_range", Status.REPAIRED),
    ],
)
def test_every_status_is_counted(fault: str, status: Status, run_reranker: RunReranker, collection: Collection) -> None:
    inner = {"name": "recorded", "path": _answers(collection)}
    flags = faulty(collection, {"inner": inner, "faults": {fault: 1.0}}, on_error="keep", max_bad=1.0)
    outcome = run_reranker("reasonrank", flags | {"strategy": SMALL})
    assert outcome.tally.statuses == {status: outcome.tally.judgements}
    assert outcome.tally.bad == (outcome.tally.judgements if status.bad else 0)
    first = {r.query.qid: [c.docid for c in r.candidates] for r in collection.requests if r.candidates}
    assert (docids(outcome) == first) == status.bad
    said = yaml.safe_load(outcome.metadata.read_text())["outcome"]["statuses of calls"]
    assert said == {s: outcome.tally.judgements * (s is status) for s in Status}


def _answers(collection: Collection) -> str:
    """A recording in which every window is turned upside down; an engine that can repair nothing."""
    path = collection.folder / "answers.jsonl"
    turned = " > ".join(f"[{i}]" for i in range(6, 0, -1))
    qids = [r.query.qid for r in collection.requests]
    rows = [{"qid": qid, "call": n, "response": f"<answer>{turned}</answer>"} for qid in qids for n in range(30)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


faults = st.dictionaries(
    st.sampled_from(["error", "empty", "truncated", "refused", "prose", "duplicates", "out_of_range"]),
    st.floats(0, 1),
    max_size=4,
)


@settings(max_examples=25)
@given(
    faults=faults,
    seed=st.integers(0, 9),
    name=st.sampled_from(rerankers.names()),
    shuffle=st.booleans(),
    full=st.booleans(),
    depth=st.integers(1, 30),
    concurrency=st.integers(1, 9),
    untagged=st.sampled_from(["identity", "mention_order"]),
    sizes=st.lists(st.integers(0, 12), max_size=3),
)
def test_whatever_the_engine_does_every_candidate_is_there_once_and_every_question_is_counted(
    collection: Collection,
    tmp_path_factory: pytest.TempPathFactory,
    faults: dict[str, float],
    seed: int,
    name: str,
    shuffle: bool,
    full: bool,
    depth: int,
    concurrency: int,
    untagged: str,
    sizes: list[int],
) -> None:
    engine = {"faults": faults, "seed": seed, "concurrency": concurrency}
    flags = faulty(collection, engine, depth=depth, on_error="keep", max_bad=1.0)
    if "combine" not in rerankers.read(name):  # its arms have judges, it has none
        flags |= {"judge": {"shuffle": shuffle}}
    if name in ("reasonrank", "rankgpt"):
        strategy = {"name": "full"} if full else SMALL
        flags |= {"strategy": strategy, "judge": {"untagged": untagged, "shuffle": shuffle}}
    whole = collection.requests[0].candidates
    requests = [Request(Query(f"q{i}", f"query {i}"), whole[:size], i) for i, size in enumerate(sizes)]
    made = plan(*layers.load(name, flags))
    outcome = drive(made, stream(iter(requests)), tmp_path_factory.mktemp("run") / "run.txt", collection.run)

    found = docids(outcome) if any(sizes) else {}
    assert list(found) == [r.query.qid for r in requests if r.candidates]
    for request in requests:
        first = [c.docid for c in request.candidates]
        order = found.get(request.query.qid, [])
        assert sorted(order) == sorted(first)
        assert order[depth:] == first[depth:]
    if name not in (
        "rank-r1",
        "setwise",
        "setwise-likelihood",
        "pivot",
        "blitzrank",
        "acurank",
        "aor",
    ):  # in these an answer decides whether another is asked for
        assert outcome.tally.judgements == sum(estimate(made, size).questions for size in sizes)
    with closing(sqlite3.connect(outcome.journal)) as journal:
        counted = dict(journal.execute("SELECT status, COUNT(*) FROM judgements GROUP BY status"))
    assert counted == outcome.tally.statuses


def test_by_default_failed_calls_fail_the_run_and_the_partial_run_has_every_query(
    run_reranker: RunReranker, collection: Collection, tmp_path: Path
) -> None:
    with pytest.raises(
        Failure,
        match=r"^calls of 2 of 4 queries failed \(long, 7\), first query \w+, call 0: .*500.*--rerank\.on_error keep$",
    ):
        run_reranker("reasonrank", faulty(collection, {"faults": {"error": 1.0}}))
    assert not (tmp_path / "run.txt").exists()
    assert (tmp_path / "run.txt.journal.sqlite").exists()
    kept = {qid: [hit.docid for hit in hits] for qid, hits in read_run(tmp_path / "run.txt.partial").items()}
    assert kept == {r.query.qid: [c.docid for c in r.candidates] for r in collection.requests if r.candidates}


@pytest.mark.parametrize(("max_bad", "fails"), [(0.0, True), (0.5, True), (0.999, True), (1.0, False)])
def test_a_run_with_too_many_bad_calls_fails(
    max_bad: float, fails: bool, run_reranker: RunReranker, collection: Collection, tmp_path: Path
) -> None:
    flags = faulty(collection, {"faults": {"refused": 1.0}}, max_bad=max_bad)
    if not fails:
        assert run_reranker("reasonrank", flags).tally.bad == 3
        return
    with pytest.raises(Failure, match=r"^3 of 3 judgements \(100\.0%\) are bad \(3 refused\), above --rerank\.max_bad"):
        run_reranker("reasonrank", flags)
    assert not (tmp_path / "run.txt").exists()
    assert len((tmp_path / "run.txt.partial").read_text().splitlines()) == 33


def test_few_enough_bad_calls_pass(run_reranker: RunReranker, collection: Collection) -> None:
    flags = faulty(collection, {"faults": {"refused": 0.3}, "seed": 1}, max_bad=0.6, strategy=SMALL)
    outcome = run_reranker("reasonrank", flags)
    assert 0 < outcome.tally.bad <= 0.6 * outcome.tally.judgements


class Gone(Engine[EngineOptions]):
    """Fails for good at its third call; the others are slow."""

    name = "gone"

    def __init__(self, inner: Engine[Any]) -> None:
        super().__init__(inner.model, inner.options)
        self.capabilities, self.calls, self.finished, self.closed = inner.capabilities, 0, 0, False

    async def generate(self, prompt: Prompt, sampling: Sampling, call: Call) -> Completion:
        assert not self.closed
        self.calls += 1
        if self.calls == 3:
            raise Failure("the engine is gone")
        await asyncio.sleep(0.02)
        self.finished += 1
        return Completion("<think>x")

    async def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("name", ["rank1", "reasonrank"])
def test_when_the_engine_dies_nothing_goes_on_asking(
    name: str, collection: Collection, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = plan(*layers.load(name, oracle(collection, strategy={} if name == "rank1" else SMALL)))
    assert isinstance(made, SinglePlan)
    engine = Gone(made.engine)
    made = replace(made, engine=engine)

    async def run() -> None:
        task = Task(stream(iter(collection.requests)), tmp_path / "run.txt", collection.run, "topics.tsv", ["rerank"])
        with pytest.raises(Failure, match=r"^the engine is gone$"):
            await rerank(made, task)
        calls = engine.calls
        await asyncio.sleep(0.05)
        assert engine.calls == calls
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())
    gc.collect()
    assert engine.closed
    assert caplog.records == []


def test_when_everything_fails_at_once_there_is_one_error(
    collection: Collection, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken() -> AsyncIterator[Request]:
        raise UsageError("the topics are no topics")
        yield

    made = plan(*layers.load("reasonrank", {"engine": {"name": "oracle", "qrels": "no/such/qrels"}}))
    with caplog.at_level(logging.ERROR), pytest.raises(UsageError, match=r"^the topics are no topics$|no/such/qrels"):
        drive(made, broken(), tmp_path / "run.txt", collection.run)
    gc.collect()
    assert caplog.records == []
    assert list(tmp_path.iterdir()) == []


def test_an_engine_that_fails_while_the_search_runs_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The search is ended with the run, and nothing of the two gets in the other's way."""
    (tmp_path / "endless_search.py").write_text(
        f"import os, pathlib, time\nwhole = pathlib.Path({str(tmp_path / 'pid')!r})\n"
        "(part := whole.with_suffix('.part')).write_text(str(os.getpid()))\npart.rename(whole)\ntime.sleep(60)\n"
    )
    monkeypatch.setattr(search, "FIRST_STAGE", "endless_search")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    class Refusing(Gone):
        async def start(self) -> None:
            while not (tmp_path / "pid").exists():
                await asyncio.sleep(0.01)
            raise UsageError("no server answers")

    def refusing(*arguments: Any, **named: Any) -> Plan:
        made = plan(*arguments, **named)
        assert isinstance(made, SinglePlan)
        return replace(made, engine=Refusing(made.engine))

    monkeypatch.setattr(search, "plan", refusing)
    words = ["--output", str(tmp_path / "run.txt"), "--rerank", "reasonrank", "--rerank.engine.name", "oracle"]
    began = time.monotonic()
    assert search.main(words, "pyserini.search.lucene") == 2
    assert capfd.readouterr().err == "error: no server answers\n"
    assert time.monotonic() - began < 30
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@pytest.mark.parametrize(
    ("repair", "fault"),
    [("close", "thought closed"), ("ask", "asked twice")],
)
def test_a_repair_that_fails_ends_the_run_like_any_call(
    repair: str, fault: str, collection: Collection, tmp_path: Path
) -> None:
    class Repaired(Gone):
        """Cuts every thought, and fails to repair it."""

        async def generate(self, prompt: Prompt, sampling: Sampling, call: Call) -> Completion:
            self.calls += 1
            second = bool(prompt.prefill) or bool(call.repeat.attempt)
            return Completion(finish_reason="error", error="503") if second else Completion("<think>Well", "length")

    def run(on_error: str) -> RunRecord:
        flags = oracle(collection, judge={"repair": repair}, on_error=on_error, strategy={"name": "full"}, max_bad=1.0)
        settings, warnings = layers.load("reasonrank", flags)
        made = plan(settings, warnings)
        assert isinstance(made, SinglePlan)
        made = replace(made, engine=Repaired(made.engine))
        made.judge.can = frozenset({Capability.PREFILL} if repair == "close" else {Capability.REASK})
        return drive(made, stream(iter(collection.requests[1:2])), tmp_path / f"{on_error}.txt", collection.run)

    with pytest.raises(Failure, match=r"^calls of 1 of 1 queries failed \(7\), first query 7, call 0: 503; "):
        run("fail")
    kept = run("keep")
    assert kept.tally.statuses == {Status.TRUNCATED: 1}
    assert [r["detail"] for r in export(kept.journal)] == [f"the thought was cut, {fault}: error"]


@pytest.mark.parametrize(
    ("answers", "best"),
    [
        (["I can't say.", "", "[3] > [2] > [1] > [4] > [5] > [6] > [7]"], [2, 1, 0, 3, 4, 5, 6]),
        (["[3] > [2] > [1] > [4] > [5] > [6] > [7]", "", "[2] > [3] > [1] > [4] > [5] > [6] > [7]"], [1, 2, 0, 3, 4, 5, 6]),
        (["I can't say.", "", "No."], [0, 1, 2, 3, 4, 5, 6]),
    ],
)  # fmt: skip
def test_a_vote_that_cannot_be_read_is_no_vote_for_the_order_shown(
    answers: list[str], best: list[int], run_reranker: RunReranker, collection: Collection, tmp_path: Path
) -> None:
    rows = [{"qid": "7", "call": call, "response": answer} for call, answer in enumerate(answers)]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = {
        "engine": {"name": "recorded", "path": str(tmp_path / "answers.jsonl")},
        "judge": {"votes": 3},
        "sampling": {"temperature": 0.5},
        "strategy": {"name": "full"},
        "max_bad": 1.0,
    }
    outcome = run_reranker("rankgpt", flags, requests=collection.requests[1:2])
    assert docids(outcome)["7"] == [f"7-d{i}" for i in best]
    assert outcome.tally.bad == sum("]" not in answer for answer in answers)


# --- shown in a random order


@pytest.mark.parametrize("name", ["reasonrank", "rank-r1", "iranker"])
def test_a_shuffled_question_changes_no_answer(
    name: str, run_reranker: RunReranker, collection: Collection, tmp_path: Path
) -> None:
    """Of an assessor who has no ties to break by place."""
    flags = oracle(collection)
    flags["engine"]["qrels"] = str(tmp_path / "qrels.txt")
    lines = [
        f"{r.query.qid} 0 {c.docid} {7 * i % 31}\n" for r in collection.requests for i, c in enumerate(r.candidates)
    ]
    (tmp_path / "qrels.txt").write_text("".join(lines))
    runs = {}
    for key, judge in {
        "no": {"shuffle": False},
        "yes": {"shuffle": True},
        "other": {"shuffle": True, "seed": 1},
    }.items():
        runs[key] = run_reranker(name, flags | {"judge": judge}, output=tmp_path / key)
    assert docids(runs["no"]) == docids(runs["yes"]) == docids(runs["other"])
    shown = {key: {r["docids"][0] for r in map(dict, export(run.journal, "long"))} for key, run in runs.items()}
    assert shown["no"] != shown["yes"] != shown["other"]


@pytest.mark.parametrize("fault", ["truncated", "refused", "prose"])
def test_a_shuffled_question_without_an_answer_keeps_the_order(
    fault: str, run_reranker: RunReranker, collection: Collection
) -> None:
    inner = {"name": "recorded", "path": _answers(collection)}
    flags = faulty(collection, {"inner": inner, "faults": {fault: 1.0}}, judge={"shuffle": True}, max_bad=1.0)
    first = {r.query.qid: [c.docid for c in r.candidates] for r in collection.requests if r.candidates}
    assert docids(run_reranker("reasonrank", flags)) == first


def test_no_prompt_is_written_before_its_turn_comes(collection: Collection, tmp_path: Path) -> None:
    """All pairs of 25 candidates are 600 questions; those in flight and as many again are prompts."""

    class Counting(Gone):
        async def generate(self, prompt: Prompt, sampling: Sampling, call: Call) -> Completion:
            await asyncio.sleep(0)
            return Completion("[1]")

        def identity(self, call: Call) -> str:
            return f"{call.qid} {call.number}"

    flags = oracle(collection)
    flags["engine"]["concurrency"] = 5
    made = plan(*layers.load("prp", flags))
    assert isinstance(made, SinglePlan)
    made = replace(made, engine=Counting(made.engine))
    alive, most, judge = 0, 0, made.judge.judge

    async def counted(ask: Any, prompt: Prompt, shown: Sequence[str]) -> Judgement:
        nonlocal alive, most
        alive += 1
        most = max(most, alive)
        try:
            return await judge(ask, prompt, shown)
        finally:
            alive -= 1

    made.judge.judge = counted  # type: ignore[method-assign]
    outcome = drive(made, stream(iter(collection.requests[:1])), tmp_path / "run.txt", collection.run)
    assert outcome.tally.judgements == 600
    assert 5 <= most <= 10


# --- nothing is paid twice


def test_the_same_command_again_asks_nothing_and_writes_the_same_bytes(
    run_reranker: RunReranker, collection: Collection
) -> None:
    flags = faulty(collection, {"faults": {"duplicates": 0.3, "truncated": 0.3}}, strategy=SMALL)
    first = run_reranker("reasonrank", flags)
    before = first.output.read_bytes()
    assert first.tally.calls > 0
    first.output.unlink()
    again = run_reranker("reasonrank", flags)
    assert (again.tally.calls, again.tally.from_journal) == (0, first.tally.calls)
    assert again.tally.statuses == first.tally.statuses
    assert again.output.read_bytes() == before


def test_another_question_is_asked_anew(run_reranker: RunReranker, collection: Collection) -> None:
    base = {"strategy": SMALL}
    asked = run_reranker("reasonrank", oracle(collection, **base)).tally.calls
    for change in (
        {"sampling": {"temperature": 0.5}},
        {"sampling": {"seed": 1}},
        {"passage_tokens": 3},
        {"prompt": "listwise"},
        {"strategy": {"window_size": 7, "stride": 3}},
    ):
        assert run_reranker("reasonrank", oracle(collection, **base | change)).tally.calls > 0
    for same in ({"tag": "other"}, {"on_error": "keep"}, {"max_bad": 0.5}):
        tally = run_reranker("reasonrank", oracle(collection, **base | same)).tally
        assert (tally.calls, tally.from_journal) == (0, asked)


def test_a_deeper_run_pays_only_for_what_is_new(run_reranker: RunReranker, collection: Collection) -> None:
    shallow = run_reranker("rank1", oracle(collection, depth=5)).tally
    deep = run_reranker("rank1", oracle(collection, depth=7)).tally
    assert deep.from_journal == shallow.calls
    assert deep.calls == 2 * (2 + 2)  # two more of each of the two queries that have them, two calls each


@pytest.mark.parametrize("dies_after", [0, 1, 5, 9])
def test_a_run_that_died_goes_on_where_it_was(
    dies_after: int, run_reranker: RunReranker, collection: Collection, tmp_path: Path
) -> None:
    whole = run_reranker("reasonrank", faulty(collection, {}, strategy=SMALL), output=tmp_path / "whole.txt")
    engine = {"dies_after": dies_after, "concurrency": 2}
    with pytest.raises(Failure, match=f"died after {dies_after} calls"):
        run_reranker("reasonrank", faulty(collection, engine, strategy=SMALL))
    resumed = run_reranker("reasonrank", faulty(collection, {}, strategy=SMALL))
    assert resumed.tally.from_journal + resumed.tally.calls == whole.tally.calls
    assert resumed.tally.from_journal >= dies_after - 1  # one may have been in flight
    assert resumed.output.read_bytes() == whole.output.read_bytes()


def test_errors_are_asked_again_the_next_time(run_reranker: RunReranker, collection: Collection) -> None:
    with_errors = run_reranker(
        "reasonrank", faulty(collection, {"faults": {"error": 1.0}}, on_error="keep", max_bad=1.0)
    )
    assert with_errors.tally.statuses == {Status.ERROR: 3}
    again = run_reranker("reasonrank", faulty(collection, {"faults": {"error": 1.0}}, on_error="keep", max_bad=1.0))
    assert (again.tally.calls, again.tally.from_journal) == (3, 0)


def test_runs_that_share_a_journal_are_separate_and_start_again(
    run_reranker: RunReranker, collection: Collection, tmp_path: Path
) -> None:
    journal = {"journal": str(tmp_path / "shared.sqlite")}
    first = run_reranker("reasonrank", oracle(collection, **journal), output=tmp_path / "first.txt")
    run_reranker("reasonrank", oracle(collection, **journal), output=tmp_path / "runs" / "second.txt")
    shallow = oracle(collection, **journal, depth=3)
    run_reranker("reasonrank", shallow, output=tmp_path / "first.txt", requests=collection.requests[:1])
    asked: dict[str, list[Any]] = {}
    for record in export(first.journal):
        asked.setdefault(record["run"], []).append((record["qid"], len(record["docids"]), len(record["calls"])))
    assert asked == {
        "reasonrank-oracle first.txt": [("long", 3, 1)],
        "reasonrank-oracle runs/second.txt": [("7", 7, 1), ("long", 20, 1), ("long", 15, 1)],
    }


def test_two_topics_alike_pay_for_their_calls_once_and_each_has_its_trace(
    run_reranker: RunReranker, collection: Collection, tmp_path: Path
) -> None:
    class Alike(Gone):
        async def generate(self, prompt: Prompt, sampling: Sampling, call: Call) -> Completion:
            self.calls += 1
            await asyncio.sleep(0.02)
            return Completion("<think>x</think><answer>[2] > [1] > [3] > [4] > [5] > [6] > [7]</answer>")

    made = plan(*layers.load("reasonrank", oracle(collection)))
    assert isinstance(made, SinglePlan)
    engine = Alike(made.engine)
    made = replace(made, engine=engine)
    asked = collection.requests[1]
    twins = [replace(asked, query=Query(qid, asked.query.text), number=n) for n, qid in enumerate(("a", "b"))]
    outcome = drive(made, stream(iter(twins)), tmp_path / "run.txt", collection.run)
    assert engine.calls == outcome.tally.calls == outcome.tally.from_journal == 1
    assert [len(record["calls"]) for record in export(outcome.journal)] == [1, 1]
    recorded = {"engine": {"name": "recorded", "path": str(outcome.journal)}}
    replayed = run_reranker("reasonrank", recorded, requests=twins, output=tmp_path / "replayed.txt")
    assert docids(replayed) == docids(outcome)


def test_two_topics_alike_are_two_topics(run_reranker: RunReranker, collection: Collection) -> None:
    twin = replace(collection.requests[1], query=Query("twin", collection.requests[1].query.text), number=1)
    outcome = run_reranker("reasonrank", oracle(collection), requests=[collection.requests[1], twin])
    assert list(docids(outcome)) == ["7", "twin"]
    assert outcome.topics == 2


# --- input that cannot stand in a run


def candidates(*names: str) -> tuple[Candidate, ...]:
    return tuple(Candidate(name, 0.0, f"text of {name}") for name in names)


def test_a_docid_with_a_blank_is_refused_by_name_or_mapped(
    run_reranker: RunReranker, collection: Collection, tmp_path: Path
) -> None:
    requests = [Request(Query("q", "query"), candidates("stack overflow/1", "b"))]
    with pytest.raises(UsageError, match=r"'stack overflow/1'.*--rerank\.docid_blanks _"):
        run_reranker("reasonrank", oracle(collection), requests=requests)
    assert not (tmp_path / "run.txt").exists()
    assert not (tmp_path / "run.txt.partial").exists()
    outcome = run_reranker("reasonrank", oracle(collection, docid_blanks="_"), requests=requests)
    assert docids(outcome) == {"q": ["stack_overflow/1", "b"]}


def test_docids_that_become_equal_are_found_before_any_call_of_their_query(
    run_reranker: RunReranker, collection: Collection, tmp_path: Path
) -> None:
    whole = [Request(Query(f"q{n}", "query"), candidates("a", "b"), n) for n in range(50)]
    broken = Request(Query("broken", "query"), candidates("a b", "a_b"), 50)
    flags = oracle(collection, docid_blanks="_")
    flags["engine"]["concurrency"] = 1
    with pytest.raises(UsageError, match=r"query broken lists document a_b twice with --rerank\.docid_blanks;"):
        run_reranker("reasonrank", flags, requests=[*whole, broken])
    kept = read_run(tmp_path / "run.txt.partial")
    assert kept
    assert "broken" not in kept
    asked = {call["qid"] for call in export(tmp_path / "run.txt.journal.sqlite")}
    assert kept.keys() <= asked
    assert "broken" not in asked


def test_mapping_blanks_must_not_make_two_docids_one(run_reranker: RunReranker, collection: Collection) -> None:
    requests = [Request(Query("q", "query"), candidates("a b", "a_b"))]
    with pytest.raises(UsageError, match="a_b"):
        run_reranker("reasonrank", oracle(collection, docid_blanks="_"), requests=requests)


@pytest.mark.parametrize("qid", ["a b", "a\tb", ""])
def test_a_qid_that_cannot_stand_in_a_run_is_refused_before_it_is_paid_for(
    qid: str, run_reranker: RunReranker, collection: Collection, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="qid"):
        run_reranker("reasonrank", oracle(collection), requests=[Request(Query(qid, "query"), candidates("a", "b"))])
    assert list(export(tmp_path / "run.txt.journal.sqlite")) == []


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"qid": "q", "query": None, "candidates": []}, "query is null"),
        ({"qid": None, "query": "x", "candidates": []}, "qid is null"),
        ({"qid": "q", "query": ["x"], "candidates": []}, 'query is ["x"]'),
        ({"qid": "q", "query": "x", "candidates": [{"docid": None, "text": "t"}]}, "docid is null"),
        ({"qid": "q", "query": "x", "candidates": [{"docid": "d", "text": "t", "score": float("nan")}]}, "d is nan"),
        ({"qid": "q", "query": "x", "candidates": [{"docid": "d", "text": "t", "score": float("inf")}]}, "d is inf"),
    ],
)
def test_malformed_candidates_lines_are_rejected(row: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=rf"^line 1: expected qid, query, candidates .*{re.escape(says)}"):
        parse_request(json.dumps(row).encode(), "line 1", 0, 10)
    numbered = parse_request(b'{"qid": 7, "query": "x", "candidates": [{"docid": 3, "text": "t"}]}', "line 1", 0, 10)
    assert (numbered.query.qid, numbered.candidates[0].docid) == ("7", "3")


@pytest.mark.parametrize(
    "row",
    [
        {"qid": "q", "query": "x", "candidates": [{"docid": "a", "text": "t", "score": 1}, {"docid": "b", "text": "t"}]},
        {"query": {"qid": "q", "text": "x"}, "candidates": [{"docid": "a", "doc": "t", "score": 0}, {"docid": "b", "doc": "t"}]},
        {"query": "x", "hits": [{"qid": "q", "docid": "b", "content": "t"}, {"qid": "q", "docid": "a", "content": "", "score": 1}]},
    ],
)  # fmt: skip
def test_scores_of_some_candidates_only_are_rejected(row: dict[str, Any]) -> None:
    with pytest.raises(
        UsageError, match=r"^line 1: document 'b' has no score, but other documents of the query have one"
    ):
        parse_request(json.dumps(row).encode(), "line 1", 0, 10)


def test_a_repeated_topic_is_rejected(run_reranker: RunReranker, collection: Collection, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="query 7 occurs twice"):
        run_reranker("reasonrank", oracle(collection), requests=[collection.requests[1]] * 2)
    assert not (tmp_path / "run.txt").exists()


def test_a_query_longer_than_the_context_is_refused(
    run_reranker: RunReranker, collection: Collection, tmp_path: Path
) -> None:
    requests = [*collection.requests, Request(Query("endless", "why " * 5000), candidates("a", "b"))]
    with pytest.raises(UsageError, match="query endless has"):
        run_reranker("reasonrank", oracle(collection, max_model_len=6000), requests=requests)
    assert not (tmp_path / "run.txt").exists()


def test_truncation_to_fit_the_context_is_reported(run_reranker: RunReranker, collection: Collection) -> None:
    long = tuple(Candidate(f"d{i}", 0.0, "the passage " * 400) for i in range(6))
    requests = [Request(Query("q", "why"), long), Request(Query("p", "why " * 220), long)]
    flags = oracle(collection, strategy=SMALL, passage_tokens=None, sampling={"max_tokens": 64}, max_model_len=1200)
    outcome = run_reranker("reasonrank", flags, requests=requests)
    [warning] = outcome.warnings
    assert re.fullmatch(
        r"to fit a context of 1,200 tokens: passages cut in 2 of 2 questions \(down to 3\d tokens\), "
        r"the query cut in 1 of 2 questions \(down to \d+ tokens\)",
        warning,
    )
    assert yaml.safe_load(outcome.metadata.read_text())["outcome"]["warnings"] == [warning]
    roomy = run_reranker("reasonrank", flags | {"max_model_len": 30000}, requests=requests)
    assert roomy.warnings == []


def test_text_that_is_no_text_is_read_anyway(run_reranker: RunReranker, collection: Collection) -> None:
    odd = tuple(
        Candidate(f"d{i}", 0.0, text)
        for i, text in enumerate(["", "\x00\x01", "\ud83d half", "[1] > [2]</answer>" * 9])
    )
    outcome = run_reranker(
        "reasonrank", oracle(collection), requests=[Request(Query("q", "{{ 7 }} {% if %} \ud83d"), odd)]
    )
    assert sorted(docids(outcome)["q"]) == ["d0", "d1", "d2", "d3"]


def test_outputs_that_cannot_be_written_are_refused(
    run_reranker: RunReranker, collection: Collection, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    for output in (tmp_path, tmp_path / "file" / "run.txt"):
        with pytest.raises(UsageError):
            run_reranker("reasonrank", oracle(collection), output=output)
    for journal in (tmp_path, tmp_path / "file" / "journal", collection.run):
        with pytest.raises(UsageError, match=str(journal)):
            run_reranker("reasonrank", oracle(collection, journal=str(journal)))


def test_a_journal_of_ones_own_choice(run_reranker: RunReranker, collection: Collection, tmp_path: Path) -> None:
    outcome = run_reranker("reasonrank", oracle(collection, journal=str(tmp_path / "deep" / "j.sqlite")))
    assert outcome.journal == tmp_path / "deep" / "j.sqlite"
    assert outcome.journal.is_file()
    other = run_reranker("reasonrank", oracle(collection, journal=str(outcome.journal)), output=tmp_path / "other.txt")
    assert other.tally.calls == 0
    assert other.output.read_bytes() == outcome.output.read_bytes()


# --- candidates that come in while they are written

LINE = '{"qid": "%s", "query": "x", "candidates": [{"docid": "d", "text": "é"}]}'


def followed(tmp_path: Path, script: str) -> tuple[list[str], list[bool]]:
    """The qids that come out of a file which ``script`` writes (its path is ``argv[1]``), and whether it still ran."""
    path = tmp_path / "candidates.jsonl"

    async def run() -> tuple[list[str], list[bool]]:
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, str(path))
        qids, running = [], []
        try:
            async for request in follow(path, process, depth=10):
                qids.append(request.query.qid)
                running.append(process.returncode is None)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
        return qids, running

    return asyncio.run(asyncio.wait_for(run(), 30))


WRITE = f"""
import sys, time
time.sleep(0.05)
with open(sys.argv[1], "w", encoding="utf-8", buffering=1) as file:
    for qid in "abc":
        line = {LINE!r} % qid
        file.write(line[:70])
        file.flush()
        time.sleep(0.08)
        file.write(line[70:] + "\\n")
        time.sleep(0.08)
"""


def test_a_request_comes_out_as_soon_as_its_line_is_there(tmp_path: Path) -> None:
    qids, running = followed(tmp_path, WRITE)
    assert qids == ["a", "b", "c"]
    assert running[0]
    assert running[1]


def test_a_file_that_is_already_there_is_read_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyserini_reasonrank.run.candidates.CHUNK", 100)  # a line may be longer
    read: list[int] = []
    whole = _read_from

    def noted(data: bytes) -> bytes:
        read.append(len(data))
        return data

    monkeypatch.setattr("pyserini_reasonrank.run.candidates._read_from", lambda *of: noted(whole(*of)))
    script = f"open(__import__('sys').argv[1], 'w').writelines({LINE!r} % f'q{{i}}' + '\\n' for i in range(30))"
    assert followed(tmp_path, script)[0] == [f"q{i}" for i in range(30)]
    assert max(read) == 100


def test_a_search_that_finds_nothing_is_no_requests(tmp_path: Path) -> None:
    assert followed(tmp_path, "") == ([], [])


@pytest.mark.parametrize(
    ("end", "status"), [("sys.exit(3)", 3), ("import os; os.kill(os.getpid(), 9)", 1), ("raise SystemExit", None)]
)
def test_a_search_that_fails_ends_the_run_with_its_status(tmp_path: Path, end: str, status: int | None) -> None:
    if status is None:
        assert followed(tmp_path, WRITE + end)[0] == ["a", "b", "c"]
        return
    with pytest.raises(HostFailed) as error:
        followed(tmp_path, WRITE + end)
    assert error.value.exit_code == status


def test_a_line_that_is_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^candidates\.jsonl, line 4: expected qid, query, candidates"):
        followed(tmp_path, WRITE + "    file.write('nonsense\\n')")


def test_the_process_beside_ends_with_its_block() -> None:
    async def run() -> int | None:
        async with child("http.server", "0") as process:
            assert process.returncode is None
        return process.returncode

    assert asyncio.run(asyncio.wait_for(run(), 30)) is not None
