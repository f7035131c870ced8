"""Released training data: where its records and texts are, and how a file of JSON records is read.

The modules ``reasonrank``, ``tfrank`` and ``triples`` read the three formats. They count, name and leave out the records
that can't be used. Where a release has no docids, the digest of a passage's text is its docid.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeGuard

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.corpus import read_corpus
from pyserini_reasonrank.ir.topics import read_topics
from pyserini_reasonrank.train.data.record_files import values
from pyserini_reasonrank.train.data.rows import Audit

TfrankTask = Literal["listwise", "pairwise", "pointwise"]


@dataclass(frozen=True)
class Release:
    """The file of released records, and the topics and corpus that hold the texts they name by id.

    ``source`` names the data in rows and messages. ``task`` selects among TFRank's rows.
    """

    path: Path
    topics: Path | None
    corpus: Path | None
    source: str
    task: TfrankTask

    def query(self, dataset: str, qid: str) -> str | None:
        """The text of the query that a record names by id."""
        return self._queries(dataset).get(qid)

    def document(self, dataset: str, docid: str) -> str | None:
        """The text of the passage that a record names by id."""
        return self._documents(dataset).get(docid)

    @cached_property
    def _queries(self) -> Callable[[str], Mapping[str, str]]:
        return _by_dataset(self.topics, lambda path: {query.qid: query.text for query in read_topics(path)})

    @cached_property
    def _documents(self) -> Callable[[str], Mapping[str, str]]:
        return _by_dataset(self.corpus, lambda path: dict(read_corpus(path)))


def read_records(path: Path, audit: Audit) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each record of a file, a folder or a data set after its location. ``audit`` notes what is not a record."""
    for where, record in values(path):
        if isinstance(record, dict):
            yield where, record
        else:
            audit.note("not a JSON record", where)


def are_texts(values: Any) -> TypeGuard[list[str]]:
    """Whether ``values`` is a list of strings of which none is blank."""
    return isinstance(values, list) and all(isinstance(value, str) and value.strip() for value in values)


def digest(text: str) -> str:
    """The id of a text that has none: the start of its SHA-256, 16 hexadecimal digits."""
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16]


def _by_dataset(path: Path | None, read: Callable[[Path], Mapping[str, str]]) -> Callable[[str], Mapping[str, str]]:
    """A function from a data set's name to its texts by id. Files are read on first use.

    A folder has one JSON mapping for each data set; a single file serves all data sets.
    """
    known: dict[str, Mapping[str, str]] = {}

    def texts(dataset: str) -> Mapping[str, str]:
        if path is None:
            return {}
        name = dataset if path.is_dir() else ""
        if name not in known:
            known[name] = _mapping(path / f"{name}.json") if path.is_dir() else read(path)
        return known[name]

    return texts


def _mapping(path: Path) -> Mapping[str, str]:
    if not path.is_file():
        raise UsageError(f"{path} does not exist: it should map ids of that dataset to texts")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise UsageError(f"{path} is not a JSON mapping of ids to texts")
    return {str(name): str(text) for name, text in found.items()}
