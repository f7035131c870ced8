"""Fitting into a context: the same cuts as one text after the other gives, each text tokenized once, in a worker thread."""

from __future__ import annotations

import asyncio
import threading
from array import array
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyserini_reasonrank.prompts import fitting, sources
from pyserini_reasonrank.prompts.fitting import FLOOR, WHOLE, Fitter, frame_tokens, query_repeats
from pyserini_reasonrank.prompts.prepared_text import PreparedText, TextStore
from pyserini_reasonrank.prompts.tokens import EstimatedTokens, ModelTokens, Tokens
from pyserini_reasonrank.records import Candidate, Query, Request
from pyserini_reasonrank.rerankers.preparation import Preparation

TEMPLATE = sources.load("listwise")
words = st.sampled_from(
    ["the", "passage", "of search", "antidisestablishmentarianism", "漢字", "🤖🤖", "é", "[3]", "=" * 70]
)
texts = st.builds(lambda said, times: " ".join(said * times), st.lists(words, max_size=20), st.integers(1, 12))


@pytest.fixture(scope="module")
def tokens(tokenizer_file: Path) -> ModelTokens:
    return ModelTokens(tokenizer_file)


def fitter(tokens: Tokens, context: int | None, passage_tokens: int | None = None) -> Fitter:
    return Fitter(TEMPLATE, tokens, context=context, output_tokens=0, passage_tokens=passage_tokens, query_tokens=None)


def request(query: str, passages: Sequence[str]) -> Request:
    return Request(Query("q", query), tuple(Candidate(f"d{i}", 0.0, text) for i, text in enumerate(passages)))


def cut_one_by_one(tokens: Tokens, query: str, passages: Sequence[str], room: int) -> tuple[str, list[str]]:
    """Query and passages in ``room`` tokens by the rule of this package's first releases: counted, then cut, one at a time."""

    def count(text: str) -> int:
        return tokens.cut([text], WHOLE)[0][1]

    def head(text: str, most: int) -> str:
        return tokens.cut([text], most)[0][0]

    repeats = query_repeats(TEMPLATE)
    bytes_of = [len(text.encode()) for text in (query, *passages)]
    if repeats * bytes_of[0] + sum(bytes_of[1:]) <= room:
        return query, list(passages)
    counts = [count(passage) for passage in passages]
    most = max((room - sum(min(n, FLOOR) for n in counts)) // repeats, 1)
    query, spent = (query, count(query)) if count(query) <= most else (head(query, most), most)
    left = room - repeats * spent
    if sum(counts) <= left:
        return query, list(passages)
    cap = fitting._level(counts, left)
    return query, [head(text, cap) if n > cap else text for text, n in zip(passages, counts, strict=True)]


@settings(max_examples=150)
@given(
    query=texts, passages=st.lists(texts, min_size=1, max_size=5), room=st.integers(1, 1500), estimated=st.booleans()
)
def test_cuts_are_those_of_one_text_after_the_other(
    tokens: ModelTokens, query: str, passages: list[str], room: int, estimated: bool
) -> None:
    kind = EstimatedTokens() if estimated else tokens
    n = len(passages)
    fit = fitter(kind, frame_tokens(TEMPLATE, kind, n) + n + room)
    prepared = fit.prepare(request(query, passages))
    shown = [prepared.passages[i].text for i in range(n)]
    assert fit._fit(prepared.query, [prepared.passages[i] for i in range(n)]) == cut_one_by_one(
        kind, prepared.query.text, shown, room
    )


class Watched(EstimatedTokens):
    """Counts how often each text is tokenized, and notes the threads."""

    def __init__(self) -> None:
        self.counted, self.measured = Counter[str](), Counter[str]()
        self.threads: set[int] = set()

    def cut(self, texts: Sequence[str], limit: int) -> list[tuple[str, int]]:
        self.threads |= {threading.get_ident()} if texts else set()
        self.counted.update(texts)
        return super().cut(texts, limit)

    def ends(self, texts: Sequence[str]) -> list[array[int]]:
        self.threads |= {threading.get_ident()} if texts else set()
        self.measured.update(texts)
        return super().ends(texts)


@pytest.mark.parametrize(("share", "cut"), [(0.2, True), (0.03, True), (0.7, False)])
def test_prompts_that_may_not_fit_are_tokenized_once_and_in_a_worker_thread(share: float, cut: bool) -> None:
    tokens = Watched()
    passages = [f"{i} {'the passage of the search ' * 40}".strip() for i in range(30)]
    windows = [range(start, start + 20) for start in (10, 5, 0)]
    context = frame_tokens(TEMPLATE, tokens, 20) + int(share * 20 * len(passages[0]))
    fit = fitter(tokens, context)
    asked = request("a query", passages)

    async def ask() -> None:
        preparation = Preparation(fit, asked)
        fit._frame(20)
        tokens.threads.clear()
        for window in windows:
            prepared = await preparation.showing(window)
            prompt = fit.render(prepared, window)
            assert (passages[window[0]] in prompt.messages[-1].content) != cut

    asyncio.run(ask())
    assert tokens.threads
    assert threading.get_ident() not in tokens.threads
    seen = tokens.measured if cut else tokens.counted
    assert max(seen[passage] for passage in passages) == 1


def test_documents_of_an_earlier_query_are_not_tokenized_again() -> None:
    tokens = Watched()
    passages = ["the passage of the search " * 40 for _ in range(5)]
    fit = fitter(tokens, frame_tokens(TEMPLATE, tokens, 5) + 300)
    for _ in range(2):
        fit.render(fit.prepare(request("a query", passages)), range(5))
    assert max(tokens.measured[text.strip()] for text in passages) == 5  # five documents with this text


def test_prepared_documents_are_kept_up_to_a_number_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "_SHARED", 20_000)
    fit = fitter(EstimatedTokens(), None)
    for number in range(50):
        passages = [f"{number} {i} {'a' * 1000}" for i in range(5)]
        prepared = fit.prepare(request(str(number), passages))
        assert [prepared.passages[i].text for i in range(5)] == passages
    assert len(fit._texts) < 20
    kept = fit.begin(asked := request("again", passages))
    assert fit.reuse(kept, asked, range(5))  # the latest ones


def test_the_oldest_texts_are_dropped() -> None:
    store = TextStore(10_000)
    for number in range(10):
        store.add(number, PreparedText("a" * 2000, 2000, counted=False))
    assert [number for number in range(10) if store.get(number)] == [6, 7, 8, 9]
    store.add(10, PreparedText("a" * 20_000, 20_000, counted=False))
    assert len(store) == 0
    store.add(11, PreparedText("a", 1, counted=False))
    first = store.get(11)
    store.add(11, PreparedText("a", 1, counted=False))
    assert store.get(11) is first
