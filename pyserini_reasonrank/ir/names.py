"""Topics and qrels by the names of ir_datasets, and what tells a name from a file."""

from __future__ import annotations

import json
import os
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pyserini_reasonrank.errors import UsageError

IRDS = "irds:"
"""The prefix of names of ir_datasets: ``irds:vaswani``."""

_FILES = {".txt", ".tsv", ".csv", ".json", ".jsonl", ".gz", ".trec", ".run", ".qrels", ".qrel", ".xml"}


def looks_like_a_file(value: str) -> bool:
    """Whether ``value`` is a file, or a path that can't be a name."""
    return os.path.exists(value) or os.path.isabs(value) or Path(value).suffix.lower() in _FILES


def is_name(value: str) -> bool:
    """Whether ``value`` may be a name of Pyserini: it does not look like a file and is not a path."""
    return not looks_like_a_file(value) and (value.startswith(IRDS) or os.sep not in value)


def irds_file(kind: str, name: str, folder: Path) -> Path | None:
    """The topics or qrels (``kind``) of an ir_datasets data set as a file in ``folder``.

    The prefix ``irds:`` is optional; without it, the result is None if ir_datasets has no data set of that name or is not
    installed. UsageError for a prefixed name that is unknown, for a data set without topics or qrels, and if it can't be
    downloaded.
    """
    prefixed, bare = name.startswith(IRDS), name.removeprefix(IRDS)
    if find_spec("ir_datasets") is None:
        if prefixed:
            raise UsageError(f"{kind} {name} need the package ir_datasets; run: pip install ir_datasets")
        return None
    ir_datasets: Any = import_module("ir_datasets")
    try:
        dataset = ir_datasets.load(bare)
    except (KeyError, ValueError) as reason:
        if prefixed:
            raise UsageError(f"{kind} {name}: ir_datasets has no data set of that name ({reason!r})") from None
        return None
    try:
        lines = _qrels(dataset) if kind == "qrels" else _topics(dataset)
    except AttributeError:
        raise UsageError(f"the data set {name} of ir_datasets has no {kind}") from None
    except Exception as reason:  # a download fails in many ways
        raise UsageError(f"the {kind} of {name} can't be read by ir_datasets: {reason}") from None
    path = folder / ("qrels.tsv" if kind == "qrels" else "topics.jsonl")
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def _qrels(dataset: Any) -> list[str]:
    return [f"{each.query_id}\t0\t{each.doc_id}\t{each.relevance}" for each in dataset.qrels_iter()]


def _topics(dataset: Any) -> list[str]:
    return [
        json.dumps({"qid": query.query_id, "query": _text(query)}, ensure_ascii=False)
        for query in dataset.queries_iter()
    ]


def _text(query: Any) -> str:
    """The text of a query of ir_datasets: what it calls the default text, or the field ``text`` or ``title``."""
    if hasattr(query, "default_text"):
        return str(query.default_text())
    return str(next(getattr(query, name) for name in ("text", "title", "query") if hasattr(query, name)))
