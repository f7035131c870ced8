"""The texts to search: original and rewrite together, Lucene's limit on terms, and the topics file."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.topics import read_topics, write_topics
from pyserini_reasonrank.records import Query
from pyserini_reasonrank.run.rewriting.texts import search_text


def test_the_original_stands_before_the_rewrite_as_often_as_asked() -> None:
    assert search_text("why\nmoths?", "dorsal\tlight", 0, None) == ("dorsal light", False)
    assert search_text("why\nmoths?", "dorsal\tlight", 2, None) == ("why moths? why moths? dorsal light", False)


def test_more_different_words_than_allowed_are_cut() -> None:
    assert search_text("a b", "B c, a; d e", 1, 3) == ("a b B c, a;", True)
    assert search_text("a b", "B c, a; d e", 1, 5) == ("a b B c, a; d e", False)
    assert search_text("", "光に集まる", 0, 3) == ("光に集", True)  # an ideograph is a term of its own


@given(st.text(), st.text(), st.integers(0, 3), st.integers(1, 20))
def test_a_text_is_one_line_and_never_has_more_words(original: str, rewrite: str, keep: int, most: int) -> None:
    text, cut = search_text(original, rewrite, keep, most)
    assert len({word.casefold() for word in text.split() if word.isalnum()}) <= most
    assert text == " ".join(text.split())
    assert cut == (text != search_text(original, rewrite, keep, None).text)


def test_a_topics_file_is_read_again_as_it_was_meant(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "topics.tsv"
    write_topics(path, [Query("007", "two\nlines\tand tabs"), Query("q\u00e9", "moths")])
    assert read_topics(path) == [Query("007", "two lines and tabs"), Query("q\u00e9", "moths")]
    with pytest.raises(UsageError, match="can't contain a qid with a tab"):
        write_topics(path, [Query("a\tb", "moths")])
