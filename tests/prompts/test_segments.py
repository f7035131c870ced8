"""Segments of long documents: their number from lengths, no text lost between them, sentences kept whole, joined scores."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pyserini_reasonrank.prompts.segments import Segments, spans
from pyserini_reasonrank.prompts.tokens import EstimatedTokens, ModelTokens, Tokens

WHOLE = 1 << 20
texts = st.text(
    alphabet=st.one_of(st.sampled_from("the passage. Is it\n? No! 。 🤖é漢,"), st.characters(codec="utf-8")),
    max_size=600,
)
scores = st.lists(st.one_of(st.none(), st.floats(-50, 50)), max_size=8)


@st.composite
def options(draw: st.DrawFn) -> Segments:
    tokens = draw(st.integers(8, 60))
    stride = draw(st.one_of(st.none(), st.integers(1, tokens)))
    join = draw(st.sampled_from(["max", "first", "mean-top-2"]))
    return Segments(tokens=tokens, stride=stride, most=draw(st.integers(1, 12)), join=join)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def tokens(tokenizer_file: Path) -> ModelTokens:
    return ModelTokens(tokenizer_file)


@given(texts, options())
@example("\u0800000000000", Segments(tokens=8, stride=1, most=1))
def test_segments_are_as_many_as_the_length_says_and_leave_no_gap(
    tokens: ModelTokens, text: str, options: Segments
) -> None:
    for kind in (tokens, EstimatedTokens()):
        starts = kind.starts(text, WHOLE)
        found = spans(text, kind, options)
        assert len(found) == options.count(len(starts))
        assert found[0][0] == 0
        for begin, end in found:
            assert begin < end or not text
            assert len({start for start in starts if begin < start < end}) <= options.tokens
        for (_, end), (begin, _) in pairwise(found):
            assert begin <= end
        everything = len(starts) <= options.tokens + (options.judged - 1) * options.step
        assert (found[-1][1] == len(text)) or not everything


@given(texts, st.integers(0, 40))
def test_tokens_begin_where_the_whole_text_is_cut(tokens: ModelTokens, text: str, limit: int) -> None:
    for kind in (tokens, EstimatedTokens()):
        starts = kind.starts(text, limit)
        [(_, count)] = kind.cut([text], WHOLE)
        assert len(starts) == min(limit, count)
        assert starts == sorted(starts)
        assert starts == kind.starts(text, WHOLE)[:limit]


def words(tokens: Tokens, *sentences: str) -> list[str]:
    text = "".join(sentences)
    return [text[begin:end] for begin, end in spans(text, tokens, Segments(tokens=40, stride=20, most=20))]


def test_segments_begin_and_end_at_sentences() -> None:
    sentences = [f"Sentence {chr(65 + i)} has some words in it. " for i in range(12)]
    found = words(EstimatedTokens(), *sentences)
    assert all(segment.startswith("Sentence") and segment.endswith("it. ") for segment in found)
    assert len(found) == Segments(tokens=40, stride=20, most=20).count(-(-len("".join(sentences)) // 3))
    assert {sentence.strip() for segment in found for sentence in segment.split(". ")} >= {
        sentence.strip(". ") for sentence in sentences
    }


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("See the figure, e.g. ", "those of Smith et al. "),  # no sentence begins with a small letter
        ("Version 3.", "14 has it "),
    ],
)
def test_an_abbreviation_is_no_end_of_a_sentence(before: str, after: str) -> None:
    text = ("x" * 6 + " ") * 8 + before + after + ("y" * 6 + " ") * 40
    for begin, end in spans(text, EstimatedTokens(), Segments(tokens=40, stride=20)):
        assert begin != len("x" * 6 + " ") * 8 + len(before)
        assert end != len("x" * 6 + " ") * 8 + len(before)


def test_a_text_without_sentences_is_cut_at_tokens() -> None:
    found = spans("x" * 300, EstimatedTokens(), Segments(tokens=40, stride=20, most=3))
    assert found == [(0, 120), (60, 180), (120, 240)]


@pytest.mark.parametrize(("tokens", "number"), [(0, 1), (256, 1), (257, 2), (384, 2), (385, 3), (1152, 8), (10**9, 8)])
def test_the_number_of_segments_by_length(tokens: int, number: int) -> None:
    assert Segments().count(tokens) == number
    assert Segments(join="first").count(tokens) == 1


@given(scores)
def test_scores_are_joined(found: list[float | None]) -> None:
    known = sorted(score for score in found if score is not None)
    of_best, of_two = Segments().joined(found), Segments(join="mean-top-2").joined(found)
    if not known:
        assert of_best is of_two is None
        return
    assert of_best == max(known)
    assert of_two == pytest.approx(sum(known[-2:]) / len(known[-2:]))
