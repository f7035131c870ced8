"""Topics as the host reads and orders them, from a file in any of its formats or by name."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyserini_reasonrank.errors import UsageError, nearest
from pyserini_reasonrank.ir.topics import read_topics
from pyserini_reasonrank.records import Query


def host_topics(topics: str, topics_format: str = "default") -> list[Query]:
    """The queries of a topics file or of topics that the host has by name. Call ``bootstrap.prepare()`` before.

    Qids are those of the host's runs: it reads ``007`` as the number 7. UsageError if the topics are missing, empty,
    malformed or without text.
    """
    from jnius import JavaException
    from pyserini.query_iterator import TopicsFormat, get_query_iterator

    formats = [known.value for known in TopicsFormat]
    if topics_format not in formats:
        raise UsageError(f"--topics-format {topics_format!r} is not known{nearest(topics_format, formats)}")
    if topics_format == TopicsFormat.DEFAULT.value and topics.endswith((".tsv", ".tsv.gz")):
        read_topics(topics)  # the host silently skips missing, malformed and repeated topics
    try:
        found = get_query_iterator(topics, TopicsFormat(topics_format))
        return [Query(str(qid), _text(query, str(qid))) for qid, query in found]
    except (OSError, ValueError, NotImplementedError, JavaException) as reason:
        fault = "can't be read" if os.path.exists(topics) else "no such file, and Pyserini has no topics of that name"
        raise UsageError(f"topics {topics}: {fault} ({_first_line(reason)})") from None


@contextmanager
def readable(topics: str) -> Iterator[str]:
    """``topics``, or a temporary link to the file if the host would misread it because of its path.

    If a path contains "cacm", the host expects the SGML of that collection, whatever the file's format.
    """
    path = Path(topics)
    if "cacm" not in topics or not path.is_file() or path.suffix not in (".tsv", ".jsonl"):
        yield topics
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder, f"topics{path.suffix}")
        link.symlink_to(path.resolve())
        yield str(link)


def _text(query: Any, qid: str) -> str:
    text = (query.get("query") or query.get("query_txt")) if isinstance(query, dict) else query
    if not isinstance(text, str) or not text.strip():
        raise UsageError(f"topic {qid!r} has no text")
    return text.strip()


def _first_line(reason: Exception) -> str:
    return next(iter(str(getattr(reason, "reason", reason)).strip().splitlines()), type(reason).__name__)
