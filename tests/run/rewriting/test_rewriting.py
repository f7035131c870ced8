"""Rewriting topics: rounds, fallbacks, statuses, the journal, and what the record says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from pyserini_reasonrank.engines import Engine, EngineOptions
from pyserini_reasonrank.errors import Failure, UsageError
from pyserini_reasonrank.ir.metadata import write_metadata
from pyserini_reasonrank.ir.rewrite_record import RewriteRecord, metadata_of
from pyserini_reasonrank.journal_reader import export, rankings
from pyserini_reasonrank.models.catalogue import Model
from pyserini_reasonrank.records import Call, Candidate, Completion, Prompt, Query, Sampling
from pyserini_reasonrank.run.rewriting.pipeline import Passages, RewriteTask, rewrite
from pyserini_reasonrank.run.rewriting.plan import RewritePlan, planned
from pyserini_reasonrank.settings.rewriters import lift

QUERIES = [Query("q1", "why do moths\nfly to lamps"), Query("007", "moon light"), Query("q3", "nothing")]
Answer = Callable[[Call], Completion]


class Scripted(Engine[EngineOptions]):
    """Answers by a function of the call, and keeps the prompts."""

    name = "scripted"
    without_model = True

    def __init__(self, answer: Answer) -> None:
        super().__init__(Model("scripted", "scripted"), EngineOptions())
        self.answer, self.prompts = answer, list[tuple[str, str]]()
        self.started = 0

    async def start(self) -> None:
        self.started += 1

    async def generate(self, prompt: Prompt, sampling: Sampling, call: Call) -> Completion:
        self.prompts.append((call.qid, prompt.messages[-1].content))
        return self.answer(call)


def good(call: Call) -> Completion:
    return Completion(f"<think>t</think><answer>terms of {call.qid} round {call.number}</answer>", output_tokens=7)


def plan_of(answer: Answer, *words: str, name: str = "keywords") -> tuple[RewritePlan, Scripted]:
    oracle = ["--rewrite.engine.name", "oracle", "--rewrite.engine.qrels", "q"]
    made = planned(name, lift(["--rewrite", name, *oracle, *words])[1])
    engine = Scripted(answer)
    return replace(made, part=replace(made.part, engine=engine)), engine


def run(made: RewritePlan, output: Path, search: Any = None, queries: Sequence[Query] = QUERIES) -> RewriteRecord:
    return asyncio.run(rewrite(made, RewriteTask(queries, output, search)))


def lines(path: Path) -> dict[str, str]:
    return dict(line.split("\t") for line in path.read_text().splitlines())


def test_topics_are_rewritten_and_recorded(tmp_path: Path) -> None:
    made, engine = plan_of(good)
    record = run(made, tmp_path / "topics.tsv")
    assert lines(tmp_path / "topics.tsv") == {
        "q1": "why do moths fly to lamps terms of q1 round 0",
        "007": "moon light terms of 007 round 0",
        "q3": "nothing terms of q3 round 0",
    }
    assert (record.rewritten, record.kept, record.cut, record.tally.calls) == (3, [], 0, 3)
    assert record.warnings == []
    shown = dict(engine.prompts)
    assert "why do moths fly to lamps" in shown["q1"]
    assert "passages" not in shown["q1"]


def test_a_second_run_asks_nothing(tmp_path: Path) -> None:
    first = run(plan_of(good)[0], tmp_path / "topics.tsv")
    before = (tmp_path / "topics.tsv").read_bytes()
    made, engine = plan_of(good)
    second = run(made, tmp_path / "topics.tsv")
    assert (engine.prompts, second.tally.calls, second.tally.from_journal) == ([], 0, 3)
    assert second.tally.output_tokens == first.tally.output_tokens == 21
    assert (tmp_path / "topics.tsv").read_bytes() == before


def test_an_answer_without_a_query_leaves_the_original_and_says_so(tmp_path: Path) -> None:
    answers = {"q1": Completion("<answer>  </answer>"), "007": Completion("I can't.", "refusal")}
    made, _ = plan_of(lambda call: answers.get(call.qid) or good(call), "--rewrite.max_bad", "1")
    record = run(made, tmp_path / "topics.tsv")
    assert lines(tmp_path / "topics.tsv")["q1"] == "why do moths fly to lamps"
    assert record.kept == ["q1", "007"]
    [warning] = record.warnings
    assert warning == (
        "queries without a readable rewrite: 2 (1 empty, 1 refused), searched with their original query: q1, 007"
    )
    assert "rewrites  1 of 3 topics, 2 with their original query, 0 cut" in record.counts()
    fields = record.fields()
    assert fields["topics rewritten"] == "1 of 3"
    assert fields["topics with their original query"] == ["q1", "007"]
    assert (fields["statuses of calls"]["empty"], fields["statuses of calls"]["ok"]) == (1, 1)
    write_metadata(tmp_path / "m.yml", metadata_of(record, ["x"], "topics", "f"))
    assert yaml.safe_load((tmp_path / "m.yml").read_text())["method"]["query rewriting"]["originals"] == 1


def test_too_many_bad_answers_fail_the_run(tmp_path: Path) -> None:
    made, _ = plan_of(lambda call: Completion("<answer></answer>"))
    with pytest.raises(Failure, match=r"3 of 3 rewrites \(100.0%\) are bad \(3 empty\), above --rewrite.max_bad 0.5"):
        run(made, tmp_path / "topics.tsv")
    assert not (tmp_path / "topics.tsv").exists()


def test_strict_makes_a_missing_rewrite_an_error(tmp_path: Path) -> None:
    made, _ = plan_of(lambda call: Completion() if call.qid == "q1" else good(call), "--rewrite.strict", "true")
    with pytest.raises(
        Failure, match=r"without a readable rewrite: 1 .*\(--rewrite.strict true makes warnings errors\)"
    ):
        run(made, tmp_path / "topics.tsv")


def test_a_failed_call_fails_the_run_after_the_others_which_are_not_asked_again(tmp_path: Path) -> None:
    def broken(call: Call) -> Completion:
        return Completion(finish_reason="error", error="HTTP 500") if call.qid == "007" else good(call)

    with pytest.raises(Failure) as error:
        run(plan_of(broken)[0], tmp_path / "topics.tsv")
    assert str(error.value) == (
        "the rewriting of 1 of 3 queries failed (007), first query 007, call 0: HTTP 500: run the same command again to "
        "retry, or search with their original queries with --rewrite.on_error keep"
    )
    made, engine = plan_of(good)
    record = run(made, tmp_path / "topics.tsv")
    assert [qid for qid, _ in engine.prompts] == ["007"]
    assert record.rewritten == 3
    made, _ = plan_of(broken, "--rewrite.on_error", "keep", "--rewrite.sampling.max_tokens", "9")
    assert run(made, tmp_path / "kept.tsv").kept == ["007"]


def found(queries: Sequence[Query]) -> Passages:
    return {
        q.qid: tuple(Candidate(f"{q.qid}-d{i}", 9.0 - i, f"Passage {i} for {q.text}.") for i in range(4))
        for q in queries[:2]
    }


def test_later_rounds_show_what_the_query_of_the_round_before_found(tmp_path: Path) -> None:
    searched = list[list[Query]]()

    async def search(queries: Sequence[Query]) -> Passages:
        searched.append(list(queries))
        return found(queries)

    def answer(call: Call) -> Completion:
        return Completion() if (call.qid, call.number) == ("007", 2) else good(call)

    made, engine = plan_of(answer, "--rewrite.rounds", "3", "--rewrite.depth", "2")
    record = run(made, tmp_path / "topics.tsv", search)
    assert [[q.text.split()[-1] for q in queries] for queries in searched] == [["0", "0", "0"], ["1", "1", "0"]]
    prompts = [text for qid, text in engine.prompts if qid == "q1"]
    assert "[2] Passage 1 for why do moths fly to lamps terms of q1 round 0." in prompts[1]
    assert "Passage 2" not in prompts[1]
    assert "terms of q1 round 1" in prompts[2]
    assert all("why do moths fly to lamps\n" in prompt for prompt in prompts)
    assert len([text for qid, text in engine.prompts if qid == "q3"]) == 1  # without passages, the question is the same
    assert lines(tmp_path / "topics.tsv")["q1"] == "why do moths fly to lamps terms of q1 round 2"
    assert lines(tmp_path / "topics.tsv")["007"] == "moon light terms of 007 round 1"
    assert record.warnings == [
        "queries without a readable rewrite in round 3: 1 (1 empty), searched with that of the round before: 007"
    ]
    assert (record.rewritten, record.tally.judgements) == (3, 9)
    calls = list(export(record.journal, qid="q1"))
    assert [(each["label"], each["docids"]) for each in calls] == [
        ("round 1", []), ("round 2", ["q1-d0", "q1-d1"]), ("round 3", ["q1-d0", "q1-d1"]),
    ]  # fmt: skip
    [ranking] = rankings(record.journal, qid="q1")
    assert ranking["notes"] == {"searched": "why do moths fly to lamps terms of q1 round 2"}
    again, engine = plan_of(answer, "--rewrite.rounds", "3", "--rewrite.depth", "2")
    assert run(again, tmp_path / "topics.tsv", search).tally.calls == 0


def test_rounds_without_a_search_are_refused(tmp_path: Path) -> None:
    made, engine = plan_of(good, "--rewrite.rounds", "2")
    with pytest.raises(UsageError, match=r"--rewrite.rounds above 1 needs a search"):
        run(made, tmp_path / "topics.tsv")
    assert engine.prompts == []


def test_long_queries_are_cut_and_named(tmp_path: Path) -> None:
    long = " ".join(f"w{i}" for i in range(2000))
    made, _ = plan_of(lambda call: Completion(f"<answer>{long}</answer>") if call.qid == "q1" else good(call))
    record = run(made, tmp_path / "topics.tsv")
    assert len(set(lines(tmp_path / "topics.tsv")["q1"].split())) == 1024
    assert (record.cut, record.warnings) == (1, ["queries cut to --rewrite.most_terms 1024 different words: q1"])


def test_keep_says_how_often_the_original_is_searched(tmp_path: Path) -> None:
    for keep, expected in (("0", "terms of 007 round 0"), ("2", "moon light moon light terms of 007 round 0")):
        run(plan_of(good, "--rewrite.originals", keep)[0], tmp_path / "topics.tsv")
        assert lines(tmp_path / "topics.tsv")["007"] == expected


def test_a_query_that_does_not_fit_is_refused_with_the_rewriters_flags(tmp_path: Path) -> None:
    made, engine = plan_of(good, "--rewrite.max_model_len", "900")
    with pytest.raises(UsageError, match=r"cut it with --rewrite.query_tokens, or lower --rewrite.sampling.max_tokens"):
        run(made, tmp_path / "topics.tsv", queries=[Query("long", "moths " * 3000)])
    assert engine.prompts == []


def test_recorded_answers_are_replayed(tmp_path: Path) -> None:
    answers = tmp_path / "answers.jsonl"
    rows = [{"qid": q.qid, "call": 0, "response": f"<answer>recorded {q.qid}</answer>"} for q in QUERIES]
    answers.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    tree = lift(["--rewrite", "keywords", "--rewrite.engine.name", "recorded", "--rewrite.engine.path", str(answers)])[
        1
    ]
    record = run(planned("keywords", tree), tmp_path / "topics.tsv")
    assert lines(tmp_path / "topics.tsv")["q3"] == "nothing recorded q3"
    assert record.part.model.name == "recorded"


def test_the_oracle_leaves_queries_as_they_are_and_faults_are_counted(tmp_path: Path) -> None:
    qrels = tmp_path / "qrels.txt"
    qrels.write_text("q1 0 d1 1\n")
    words = ["--rewrite", "keywords", "--rewrite.originals", "0", "--rewrite.engine.name", "faulty",
             "--rewrite.engine.inner.qrels", str(qrels)]  # fmt: skip
    record = run(planned("keywords", lift(words)[1]), tmp_path / "topics.tsv")
    assert lines(tmp_path / "topics.tsv")["007"] == "moon light"
    assert record.tally.judgements == 3
