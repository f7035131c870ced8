"""Topics as Pyserini reads and orders them: by name, from a file in any of its formats, or from a file that we checked."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyserini_reasonrank.errors import UsageError, nearest
from pyserini_reasonrank.interrupts import temporary_folder
from pyserini_reasonrank.ir.topics import SUFFIXES, read_topics
from pyserini_reasonrank.records import Query

SHOWN = 40
"""The number of characters of a query that an error message shows."""


@contextmanager
def host_topics(topics: str, topics_format: str = "default") -> Iterator[tuple[str, list[Query]]]:
    """The topics to pass to Pyserini, and their queries in its order. Call ``bootstrap.prepare()`` before.

    The topics are those given, or a temporary file if Pyserini would misread that one (see ``agreed``). Qids are those of
    the file if ``ir.topics`` reads it, otherwise Pyserini's; in Pyserini's runs they are ``host_qid`` of these. UsageError if
    the topics are missing, empty, malformed or without text.
    """
    from pyserini.query_iterator import TopicsFormat

    formats = [known.value for known in TopicsFormat]
    if topics_format not in formats:
        raise UsageError(f"--topics-format {topics_format!r} is not known{nearest(topics_format, formats)}")
    if topics_format != TopicsFormat.DEFAULT.value or not topics.endswith(SUFFIXES):
        yield topics, _pyserini_reading(topics, topics_format)
        return
    with agreed(topics, read_topics(topics), _pyserini_reading) as found:
        yield found


def host_qid(qid: str) -> str:
    """``qid`` as the host returns it: qids of digits are numbers there, without leading zeros."""
    return str(int(qid)) if qid.isdecimal() else qid


@contextmanager
def agreed(
    topics: str, queries: Sequence[Query], read: Callable[[str], list[Query]]
) -> Iterator[tuple[str, list[Query]]]:
    """The first file that ``read`` reads as ``queries``, with qids as ``host_qid`` gives them; and ``queries`` in its order.

    The files are ``topics`` itself, and temporary TSV and JSON lines files of ``queries``. Pyserini skips malformed and
    repeated lines, cuts a query at a tab, keeps a byte order mark, and chooses a format by words in the path ("beir", "cacm").
    UsageError if it reads none of the files as ``queries``, or if two qids are the same number.
    """
    expected: dict[str, Query] = {}
    for query in queries:
        if (other := expected.setdefault(host_qid(query.qid), query)) is not query:
            raise UsageError(
                f"topics {topics}: Pyserini reads the qid {query.qid!r} and another one as the number "
                f"{host_qid(query.qid)} ({other.qid!r}: {other.text[:SHOWN]!r}); rename one of them"
            )
    with temporary_folder() as folder:
        tsv, jsonl = Path(folder, "topics.tsv"), Path(folder, "topics.jsonl")
        tsv.write_text("".join(f"{query.qid}\t{query.text}\n" for query in queries), encoding="utf-8")
        rows = [json.dumps({"qid": query.qid, "title": query.text}, ensure_ascii=False) for query in queries]
        jsonl.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
        for path in (topics, str(tsv), str(jsonl)):
            try:
                found = read(path)
            except UsageError:
                continue
            texts = {qid: query.text for qid, query in expected.items()}
            if len(found) == len(expected) and {query.qid: query.text for query in found} == texts:
                yield path, [expected[query.qid] for query in found]
                return
    raise UsageError(f"topics {topics}: Pyserini can't read these qids and texts unchanged; simplify the qids")


def _pyserini_reading(topics: str, topics_format: str = "default") -> list[Query]:
    from jnius import JavaException
    from pyserini.query_iterator import TopicsFormat, get_query_iterator

    try:
        found = get_query_iterator(topics, TopicsFormat(topics_format))
        return [Query(str(qid), _text(query, str(qid))) for qid, query in found]
    except (OSError, ValueError, AttributeError, NotImplementedError, JavaException) as reason:
        fault = "can't be read" if os.path.exists(topics) else "no such file, and Pyserini has no topics of that name"
        raise UsageError(f"topics {topics}: {fault} ({first_line(reason)})") from None


def _text(query: Any, qid: str) -> str:
    text = (query.get("query") or query.get("query_txt")) if isinstance(query, dict) else query
    if not isinstance(text, str) or not text.strip():
        raise UsageError(f"topic {qid!r} has no text")
    return text.strip()


def first_line(reason: Exception) -> str:
    return next(iter(str(getattr(reason, "reason", reason)).strip().splitlines()), type(reason).__name__)
