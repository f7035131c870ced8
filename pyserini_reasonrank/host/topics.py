"""The topics of a search as the host reads and orders them, in any of its formats or by name."""

from __future__ import annotations

import os
from typing import Any

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.records import Query
from pyserini_reasonrank.topics import read_topics


def host_topics(topics: str, topics_format: str = "default") -> list[Query]:
    """The queries of a topics file or of a collection the host knows by name. Needs ``bootstrap.prepare()``.

    Qids are the host's, as they stand in its runs: it reads ``007`` as the number 7. UsageError if the topics are
    missing, empty, malformed or without text.
    """
    from jnius import JavaException
    from pyserini.query_iterator import TopicsFormat, get_query_iterator

    formats = [known.value for known in TopicsFormat]
    if topics_format not in formats:
        raise UsageError(f"The host knows no topics format {topics_format!r}; it has {', '.join(formats)}.")
    if topics_format == TopicsFormat.DEFAULT.value and topics.endswith((".tsv", ".tsv.gz")):
        read_topics(topics)  # the host passes over what is missing, malformed or repeated in silence
    try:
        found = [Query(str(qid), _text(query, str(qid))) for qid, query in get_query_iterator(topics, TopicsFormat(topics_format))]
    except (OSError, ValueError, NotImplementedError, JavaException) as reason:
        kind = "can't be read" if os.path.exists(topics) else "are no file here and no name that the host can fetch"
        raise UsageError(f"The topics {topics} {kind} ({str(reason).strip() or type(reason).__name__}).") from None
    return found


def _text(query: Any, qid: str) -> str:
    text = (query.get("query") or query.get("query_txt")) if isinstance(query, dict) else query
    if not isinstance(text, str) or not text.strip():
        raise UsageError(f"Topic {qid!r} has no text to rerank by.")
    return text.strip()
