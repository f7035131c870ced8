"""When texts are prepared: those of a question before it is asked, each once, and without a thread if they are known."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from pyserini_reasonrank.prompts import sources
from pyserini_reasonrank.prompts.fitting import Fitter
from pyserini_reasonrank.prompts.tokens import EstimatedTokens
from pyserini_reasonrank.records import Candidate, Query, Request
from pyserini_reasonrank.rerankers.preparation import Preparation


class Watched(EstimatedTokens):
    """Notes what is cut, and in which thread."""

    def __init__(self) -> None:
        self.cuts: list[list[str]] = []
        self.threads: set[int] = set()

    def cut(self, texts: Sequence[str], limit: int) -> list[tuple[str, int]]:
        if texts:
            self.cuts.append([text.split()[0] for text in texts])
            self.threads.add(threading.get_ident())
        return super().cut(texts, limit)


def fitter(tokens: EstimatedTokens) -> Fitter:
    prompt = sources.load("listwise")
    return Fitter(prompt, tokens, context=None, output_tokens=0, passage_tokens=2, query_tokens=None)


def request(qid: str) -> Request:
    return Request(Query(qid, "a query"), tuple(Candidate(f"d{i}", -float(i), f"p{i} of the search") for i in range(6)))


def test_a_question_waits_for_its_own_passages_only() -> None:
    tokens = Watched()

    async def ask() -> None:
        preparation = Preparation(fitter(tokens), request("1"))
        assert (await preparation.showing([4, 5])).passages.keys() == {4, 5}
        assert tokens.cuts == [["p4", "p5"]]
        assert (await preparation.showing([3, 4])).passages.keys() == {3, 4, 5}
        assert tokens.cuts == [["p4", "p5"], ["p3"]]

    asyncio.run(ask())
    assert threading.get_ident() not in tokens.threads


def test_questions_that_wait_are_prepared_for_together() -> None:
    tokens = Watched()

    async def ask() -> None:
        preparation = Preparation(fitter(tokens), request("1"))
        found = await asyncio.gather(*(preparation.showing([i]) for i in range(5)))
        assert {len(prepared.passages) for prepared in found} == {5}
        assert len((await preparation.showing([5, 0])).passages) == 6

    asyncio.run(ask())
    assert tokens.cuts == [["p0", "p1", "p2", "p3", "p4"], ["p5"]]


def test_documents_of_an_earlier_query_need_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = Watched()
    fit = fitter(tokens)

    async def ask() -> None:
        await Preparation(fit, request("1")).showing(range(6))
        monkeypatch.setattr(asyncio, "to_thread", None)
        prepared = await Preparation(fit, request("2")).showing(range(6))
        assert [prepared.passages[i].text for i in range(6)] == [f"p{i} of " for i in range(6)]

    asyncio.run(ask())
    assert len(tokens.cuts) == 1


def test_an_error_reaches_every_waiting_question_and_the_next_one() -> None:
    class Broken(EstimatedTokens):
        def cut(self, texts: Sequence[str], limit: int) -> list[tuple[str, int]]:
            if texts:
                raise ValueError("no tokenizer")
            return []

    async def ask() -> None:
        preparation = Preparation(fitter(Broken()), request("1"))
        for _ in range(2):
            found = await asyncio.gather(*(preparation.showing([i]) for i in range(3)), return_exceptions=True)
            assert [str(error) for error in found] == ["no tokenizer"] * 3

    asyncio.run(ask())


def test_a_cancelled_question_leaves_the_others_their_passages() -> None:
    async def ask() -> None:
        preparation = Preparation(fitter(Watched()), request("1"))
        first, other = (asyncio.create_task(preparation.showing([i])) for i in (0, 1))
        await asyncio.sleep(0)
        first.cancel()
        assert 1 in (await other).passages
        assert first.cancelled()

    asyncio.run(ask())
