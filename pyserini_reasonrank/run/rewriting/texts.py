"""The texts to search: the original query and its rewrite together, cut to what Lucene accepts, and the file of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.file_io import atomic
from pyserini_reasonrank.records import Query

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


def one_line(text: str) -> str:
    """``text`` with single blanks for all white space, as a line of a topics file has it."""
    return " ".join(text.split())


def _cut(text: str, most: int) -> SearchText:
    seen = set[str]()
    for word in _WORD.finditer(text):
        seen.add(word.group().casefold())
        if len(seen) > most:
            return SearchText(text[: word.start()].rstrip(), cut=True)
    return SearchText(text)


def write_topics(path: Path, queries: Sequence[Query]) -> None:
    """Write a topics file, ``qid<TAB>text`` a line, in one step, whose texts are on one line.

    UsageError if a qid contains a tab.
    """
    for query in queries:
        if "\t" in query.qid or "\n" in query.qid:
            raise UsageError(f"topic {query.qid!r}: a topics file can't contain a qid with a tab; rename it")
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as file:
        file.write("".join(f"{query.qid}\t{one_line(query.text)}\n" for query in queries).encode())
