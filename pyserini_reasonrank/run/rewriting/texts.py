"""The texts to search: the original query and its rewrite together, cut to what Lucene accepts."""

from __future__ import annotations

import re
from typing import NamedTuple

from pyserini_reasonrank.ir.topics import one_line

_IDEOGRAPHS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
_WORD = re.compile(rf"[{_IDEOGRAPHS}]|[^\W{_IDEOGRAPHS}]+")
"""A word as Lucene's tokenizer sees it, or a part of one: there are never fewer than Lucene has terms."""


class SearchText(NamedTuple):
    """A text to search; ``cut``: words of it were left out."""

    text: str
    cut: bool = False


def search_text(original: str, rewrite: str, originals: int, most_terms: int | None) -> SearchText:
    """``rewrite`` after ``originals`` times the ``original``, on one line, with at most ``most_terms`` different words."""
    text = one_line(" ".join([*[original] * originals, rewrite]))
    return SearchText(text) if most_terms is None else _cut(text, most_terms)


def _cut(text: str, most: int) -> SearchText:
    seen = set[str]()
    for word in _WORD.finditer(text):
        seen.add(word.group().casefold())
        if len(seen) > most:
            return SearchText(text[: word.start()].rstrip(), cut=True)
    return SearchText(text)
