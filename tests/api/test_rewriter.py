"""``Rewriter``: queries rewritten in Python, by the same code as the command's: rounds, statuses, settings, journals."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyserini_reasonrank import Failure, Rewriter, RewrittenQuery, UsageError
from pyserini_reasonrank.engines import Engine, EngineOptions
from pyserini_reasonrank.journal_reader import export, rankings
from pyserini_reasonrank.models.catalogue import Model
from pyserini_reasonrank.records import Call, Completion, Prompt, Query, Sampling, Status
from pyserini_reasonrank.run.rewriting.pipeline import RewriteTask, rewrite
from pyserini_reasonrank.run.rewriting.plan import planned

QUERY = "why do moths\nfly to lamps"
HITS = [{"docid": f"d{i}", "text": f"Passage {i} about light.", "score": 9.0 - i} for i in range(4)]


class Scripted(Engine[EngineOptions]):
    """Answers by a function of the call, and keeps the prompts."""

    name = "scripted"
    without_model = True

    def __init__(self, answer: Callable[[Call], Completion]) -> None:
        super().__init__(Model("scripted", "scripted"), EngineOptions())
        self.answer, self.prompts = answer, list[str]()

    async def generate(self, prompt: Prompt, sampling: Sampling, call: Call) -> Completion:
        self.prompts.append(prompt.messages[-1].content)
        return self.answer(call)


def good(call: Call) -> Completion:
    text = f"<think>because {call.number}</think><answer>dorsal light {call.qid} {call.number}</answer>"
    return Completion(text, prompt_tokens=10, output_tokens=7)


def rewriter_of(answer: Callable[[Call], Completion] = good, **settings: Any) -> tuple[Rewriter, Scripted]:
    engine = Scripted(answer)
    return Rewriter("reasoning-query", engine=engine, **settings), engine


def test_a_query_becomes_the_text_to_search() -> None:
    rewriter, engine = rewriter_of()
    with rewriter:
        found = rewriter.rewrite(QUERY, qid="q1")
    assert found.text == "why do moths fly to lamps dorsal light q1 0"
    assert found == RewrittenQuery(
        "q1", QUERY, found.text, "dorsal light q1 0", {Status.OK: 1}, "", False, "because 0", 10, 7, found.seconds
    )
    assert "why do moths fly to lamps\n" in engine.prompts[0]
    assert (rewriter.tally.calls, rewriter.tally.statuses[Status.OK]) == (1, 1)
    assert repr(rewriter) == "Rewriter('reasoning-query', model='scripted')"
    with pytest.raises(UsageError, match="the rewriter is closed"):
        rewriter.rewrite(QUERY)


@pytest.mark.parametrize("settings", [{}, {"originals": 0}, {"originals": 3, "most_terms": 5}])
def test_the_text_is_that_of_the_command(settings: dict[str, Any], tmp_path: Path) -> None:
    rewriter, _ = rewriter_of(**settings)
    found = rewriter.rewrite(QUERY, qid="q1")
    made = planned("reasoning-query", {**settings, "model": "scripted"}, engine=Scripted(good))
    asyncio.run(rewrite(made, RewriteTask([Query("q1", QUERY)], tmp_path / "topics.tsv")))
    assert (tmp_path / "topics.tsv").read_text() == f"q1\t{found.text}\n"
    assert found.cut == ("most_terms" in settings)


def test_later_rounds_show_what_the_text_before_found() -> None:
    searched = list[tuple[str, int]]()

    def search(text: str, k: int) -> list[dict[str, Any]]:
        searched.append((text, k))
        return HITS

    async def search_async(text: str, k: int) -> list[dict[str, Any]]:
        return search(text, k)

    rewriter, engine = rewriter_of(rounds=2, depth=3)
    found = rewriter.rewrite(QUERY, search=search, qid="q1")
    assert searched == [("why do moths fly to lamps dorsal light q1 0", 3)]
    assert found.text == "why do moths fly to lamps dorsal light q1 1"
    assert (found.statuses, found.reasoning) == ({Status.OK: 2}, "because 0\n\nbecause 1")
    assert "[3] Passage 2 about light." in engine.prompts[1]
    assert "Passage 3" not in engine.prompts[1]
    for either in (search, search_async):
        again = asyncio.run(rewriter.rewrite_async(QUERY, search=either, qid="q1"))
        assert (again.text, again.output_tokens) == (found.text, found.output_tokens)
    assert rewriter.tally.calls == 2  # the others are known
    with pytest.raises(UsageError, match=r"rounds above 1 need a search: pass search="):
        rewriter.rewrite(QUERY)
    with pytest.raises(UsageError, match="use rewrite_async"):
        rewriter.rewrite(QUERY, search=search_async)


def test_queries_with_one_qid_have_their_own_tokens() -> None:
    async def main() -> list[RewrittenQuery]:
        return await asyncio.gather(*(rewriter.rewrite_async(f"query {i}", qid="q1") for i in range(3)))

    rewriter, _ = rewriter_of()
    with rewriter:
        assert [(found.prompt_tokens, found.output_tokens) for found in asyncio.run(main())] == [(10, 7)] * 3


def test_a_search_has_to_be_a_function() -> None:
    with pytest.raises(UsageError, match="search is a str; it has to be a function of a text and a number of hits"):
        rewriter_of(rounds=2)[0].rewrite(QUERY, search="index")  # type: ignore[arg-type]


def test_an_answer_without_a_query_leaves_the_text_of_before_and_says_so() -> None:
    def answer(call: Call) -> Completion:
        return Completion("<answer> </answer>") if call.number == 1 or call.qid == "bad" else good(call)

    rewriter, _ = rewriter_of(answer, rounds=2)
    first = rewriter.rewrite(QUERY, search=lambda text, k: HITS, qid="q1")
    assert (first.rewrite, first.statuses) == ("dorsal light q1 0", {Status.OK: 1, Status.EMPTY: 1})
    rewriter, _ = rewriter_of(answer)
    bad = rewriter.rewrite(QUERY, qid="bad")
    assert (bad.text, bad.rewrite, bad.statuses) == ("why do moths fly to lamps", "", {Status.EMPTY: 1})
    assert bad.detail == "the answer has no word"


def test_a_failed_call_is_a_failure_unless_the_query_is_kept() -> None:
    def broken(call: Call) -> Completion:
        return Completion(finish_reason="error", error="HTTP 500")

    with pytest.raises(Failure, match="query q1, call 0: HTTP 500"):
        rewriter_of(broken)[0].rewrite(QUERY, qid="q1")
    kept = rewriter_of(broken, on_error="keep")[0].rewrite(QUERY)
    assert (kept.text, kept.statuses) == ("why do moths fly to lamps", {Status.ERROR: 1})


def test_a_journal_has_the_calls_and_the_text_and_spares_them(tmp_path: Path) -> None:
    path = tmp_path / "calls.sqlite"
    with rewriter_of(journal=path)[0] as rewriter:
        found = rewriter.rewrite(QUERY, qid="q1")
    [ranking] = rankings(path)
    assert ranking["notes"] == {"searched": found.text}
    [record] = export(path)
    assert (record["qid"], record["label"], record["status"]) == ("q1", "round 1", "ok")
    again, engine = rewriter_of(journal=path)
    with again:
        assert again.rewrite(QUERY, qid="q1").text == found.text
    assert engine.prompts == []


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("keyword", {}, "there is no rewriter 'keyword'; did you mean 'keywords'"),
        ("keywords", {"originalz": 2}, r"--rewrite.originalz is not known; did you mean 'originals'"),
        ("keywords", {"strategy": "sliding"}, r"--rewrite.strategy is not known"),
        ("keywords", {"originals": -1}, r"--rewrite.originals -1"),
        ("keywords", {"engine": "vlm"}, "vlm"),
    ],
)
def test_settings_are_checked_at_once(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Rewriter(name, **settings)


def test_queries_that_can_not_be_rewritten() -> None:
    rewriter, engine = rewriter_of(max_model_len=3000)
    with pytest.raises(UsageError, match=r"--rewrite\.query_tokens"):
        rewriter.rewrite("moths " * 5000)
    with pytest.raises(UsageError, match="the query is a int; it has to be a string"):
        rewriter.rewrite(7)  # type: ignore[arg-type]
    assert engine.prompts == []
