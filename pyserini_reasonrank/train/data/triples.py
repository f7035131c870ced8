"""Reader of triples and of lists of positives and negatives: MS MARCO, FlagEmbedding, Tevatron."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from pyserini_reasonrank.ir.documents import document_docid, document_text
from pyserini_reasonrank.ir.file_io import read_lines
from pyserini_reasonrank.records import Candidate, Query
from pyserini_reasonrank.train.data.lists import LabelledList
from pyserini_reasonrank.train.data.record_files import holds_records
from pyserini_reasonrank.train.data.release import Release, are_texts, digest, read_records
from pyserini_reasonrank.train.data.rows import Audit

Passage = tuple[Candidate, float, float | None]
"""A passage of a line with its gain, and its score if the line has one."""

Found = tuple[Query, list[Passage]]
NOT_A_LIST = "neither a triple nor a list"


def triples(release: Release, audit: Audit) -> Iterator[LabelledList]:
    """One list for each query, positives first; its places serve as first-stage ranks.

    A file has MS MARCO triples (query, positive and negative as texts or, with ``topics`` and ``corpus``, as ids), or
    records (JSON lines or Parquet) of query, pos and neg, with or without their scores (FlagEmbedding), or of query,
    positive_passages and negative_passages (Tevatron). A query or passage can be a pair of instruction and text
    (ReasonIR), and its text, with ``corpus``, an id. Scores stay on the scale of the release.
    """
    lists: dict[str, tuple[Query, dict[str, Passage]]] = {}
    for where, found in (_json_lists if holds_records(release.path) else _tsv_triples)(release, audit):
        if isinstance(found, str):
            audit.note(found, where)
            continue
        audit.note(None, where)
        query, passages = found
        _, known = lists.setdefault(query.qid, (query, {}))
        for candidate, gain, score in passages:
            if candidate.docid not in known or known[candidate.docid][1] < gain:
                known[candidate.docid] = (candidate, gain, score)
    for query, known in lists.values():
        ranked = sorted(known.values(), key=lambda passage: -passage[1])
        scores = [score for _, _, score in ranked if score is not None]
        yield LabelledList(
            query,
            tuple(candidate for candidate, _, _ in ranked),
            tuple(gain for _, gain, _ in ranked),
            tuple(range(1, len(ranked) + 1)),
            release.source,
            teacher=tuple(scores) if len(scores) == len(ranked) else None,
        )


def _tsv_triples(release: Release, audit: Audit) -> Iterator[tuple[str, Found | str]]:
    """The location of each line, and its triple or the fault."""
    by_id = release.topics is not None and release.corpus is not None
    for where, line in read_lines(release.path):
        columns = line.decode(errors="replace").rstrip("\r\n").split("\t")
        if len(columns) != 3 or not all(map(str.strip, columns)):
            yield where, NOT_A_LIST
            continue
        query, *both = columns
        if by_id:
            texts = [release.document("", docid) for docid in both]
            text = release.query("", query)
            known = [Candidate(docid, 0.0, found) for docid, found in zip(both, texts, strict=True) if found]
            topic = Query(query, text) if text else None
        else:
            known, topic = [Candidate(digest(text), 0.0, text) for text in both], Query(digest(query), query)
        if topic is None or len(known) < len(both):
            yield where, NOT_A_LIST
        else:
            yield where, (topic, [(known[0], 1.0, None), (known[1], 0.0, None)])


def _json_lists(release: Release, audit: Audit) -> Iterator[tuple[str, Found | str]]:
    """The location of each line, and its list or the fault."""
    for where, record in read_records(release.path, audit):
        sides = ("positive_passages", "negative_passages") if "positive_passages" in record else ("pos", "neg")
        query, known = _after_instruction(record.get("query")), list[Passage]()
        fault = None if isinstance(query, str) else NOT_A_LIST
        for gain, side in zip((1.0, 0.0), sides, strict=True):
            found = _side(record.get(side), record.get(f"{side}_scores"), gain, release)
            if isinstance(found, str):
                fault = fault or found
            else:
                known += found
        qid = record.get("qid") or record.get("query_id") or digest(str(query))
        yield where, fault or (Query(str(qid), str(query)), known)


def _side(passages: Any, scores: Any, gain: float, release: Release) -> list[Passage] | str:
    """The positives or the negatives of a list, or the fault."""
    passages = [] if passages is None else passages
    if not isinstance(passages, list):
        return NOT_A_LIST
    passages = [_after_instruction(passage) for passage in passages]
    texts = [document_text(p) if isinstance(p, dict) else p for p in passages]
    ids: list[str | None] = [None] * len(texts)
    if release.corpus is not None and are_texts(texts):
        named = {text: release.document("", text) for text in texts}
        ids = [text if named[text] else None for text in texts]
        texts = [named[text] or text for text in texts]
    if not are_texts(texts):
        return "a passage without a text"
    if scores is None:
        scores = [None] * len(passages)
    elif not (isinstance(scores, list) and len(scores) == len(passages) and all(map(_is_number, scores))):
        return "scores that are not a number for each passage"
    try:
        docids = [document_docid(p) if isinstance(p, dict) else known for p, known in zip(passages, ids, strict=True)]
    except ValueError:
        return "a docid that is not a string or an integer"
    return [
        (Candidate(docid or digest(text), 0.0, text), gain, score)
        for docid, text, score in zip(docids, texts, scores, strict=True)
    ]


def _after_instruction(value: Any) -> Any:
    """The text of a pair of instruction and text; any other value as it is."""
    return value[1] if isinstance(value, list) and len(value) == 2 else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
