"""Readers of released training data: ReasonRank's records, TFRank's rows, MS MARCO triples and lists of passages.

A record that can't be used is counted, named and left out. Where a release has no docids, a passage is called by the
digest of its text.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeGuard

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.corpus import document_docid, document_text, read_corpus
from pyserini_reasonrank.ir.files import read_lines
from pyserini_reasonrank.ir.topics import read_topics
from pyserini_reasonrank.records import Candidate, Query
from pyserini_reasonrank.train.data.builder import Listed
from pyserini_reasonrank.train.data.rows import Audit

Task = Literal["listwise", "pairwise", "pointwise"]
_TFRANK = re.compile(r"\[(\d+)\](?:\((\d+)\))?\s*([<>=]?)\s*")
_TFRANK_YES = 2  # the lowest grade that comes with yes
_TFRANK_CLOSING = "Before giving the final reply to the user"
_TFRANK_LABEL = re.compile(r"(yes|no)(?:\((\d+)\))?")


@dataclass(frozen=True)
class Released:
    """Where released records are, and the texts that they name by id."""

    path: Path
    topics: Path | None
    corpus: Path | None
    source: str
    task: Task

    def query(self, dataset: str, qid: str) -> str | None:
        """The text of a query that a record names by id."""
        return self._queries(dataset).get(qid)

    def document(self, dataset: str, docid: str) -> str | None:
        """The text of a passage that a record names by id."""
        return self._documents(dataset).get(docid)

    @cached_property
    def _queries(self) -> Callable[[str], Mapping[str, str]]:
        return _by_dataset(self.topics, lambda path: {query.qid: query.text for query in read_topics(path)})

    @cached_property
    def _documents(self) -> Callable[[str], Mapping[str, str]]:
        return _by_dataset(self.corpus, lambda path: dict(read_corpus(path)))


def reasonrank(released: Released, audit: Audit) -> Iterator[Listed]:
    """ReasonRank's ``training_data_all.jsonl``: dataset, qid, initial_list, final_list, reasoning, relevant_docids.

    ``topics`` and ``corpus`` are its folders ``id_query`` and ``id_doc`` (a JSON mapping for each dataset), or files as
    everywhere else; a record's own ``query`` goes before. The order of ``initial_list`` is kept, which is the one
    that the reasoning numbers.
    """
    for where, record in _records(released.path, audit):
        try:
            dataset, qid = str(record.get("dataset") or released.source), str(record["qid"])
            shown, gold = [str(d) for d in record["initial_list"]], [str(d) for d in record["final_list"]]
            relevant = {str(d) for d in record["relevant_docids"]}
            reasoning = str(record.get("reasoning") or "")
        except (KeyError, TypeError):
            audit.note("no record of ReasonRank's", where)
            continue
        query = record.get("query") or released.query(dataset, qid)
        texts = [released.document(dataset, docid) for docid in shown]
        found = [text for text in texts if text]
        audited = {
            "the query has no text": not query,
            "a passage has no text": len(found) < len(texts),
            "the final list has other passages than the initial one": sorted(gold) != sorted(shown),
            "a relevant passage is not in the list": not relevant <= set(shown),
            "the same text is relevant and is not": _contradicts(found, [d in relevant for d in shown]),
        }
        if not audit.note(next((fault for fault, there in audited.items() if there), None), f"{where} (qid {qid})"):
            continue
        yield Listed(
            Query(qid, str(query)),
            tuple(Candidate(d, -float(i), text) for i, (d, text) in enumerate(zip(shown, found, strict=True))),
            tuple(float(d in relevant) for d in shown),
            tuple(range(1, len(shown) + 1)),
            dataset,
            gold=tuple(gold),
            reasoning=reasoning,
        )


def tfrank(released: Released, audit: Audit) -> Iterator[Listed]:
    """TFRank's rows of one task: query, passages, reasoning, answer, with ``>``, ``=``, ``<`` and grades from 0 to 4.

    The release has the same question in several forms, with grades or a thought or neither; they come out as one. A
    thought ends before the sentence that announces TFRank's own form of an answer.
    """
    merged: dict[tuple[str, ...], Listed] = {}
    graded: set[tuple[str, ...]] = set()
    for where, record in _records(released.path, audit):
        if record.get("task") != released.task:
            audit.note(f"of another task than {released.task}", where)
            continue
        query, passages, answer = (record.get(name) for name in ("query", "passages", "answer"))
        if not (isinstance(query, str) and isinstance(answer, str) and _are_texts(passages)):
            audit.note("no row of TFRank's", where)
            continue
        gains, has_grades = tfrank_gains(answer, len(passages), released.task)
        if not audit.note("an answer that does not name every passage once" if gains is None else None, where):
            continue
        key = (query, *passages)
        listed = _listed(query, passages, gains or (), released.source)
        if has_grades:
            listed = replace(listed, relevant=tuple(gain >= _TFRANK_YES for gain in listed.gains))
        known = merged.setdefault(key, listed)
        if has_grades and key not in graded:
            graded.add(key)
            known = replace(known, gains=listed.gains, relevant=listed.relevant)
        thought = str(record.get("reasoning") or "").partition(_TFRANK_CLOSING)[0].rstrip()
        merged[key] = replace(known, reasoning=known.reasoning or thought)
    yield from merged.values()


def tfrank_gains(answer: str, n: int, task: Task) -> tuple[tuple[float, ...] | None, bool]:
    """The gain of each of ``n`` passages by an answer of TFRank's, and whether it gives grades.

    Without grades the gains count the steps down from the best: ``[2] > [1] = [3]`` is 0, 1, 0.
    """
    if task == "pointwise":
        label = _TFRANK_LABEL.fullmatch(answer.strip())
        if label is None or n != 1:
            return None, False
        return (float(label[2] if label[2] is not None else label[1] == "yes"),), label[2] is not None
    parts = _TFRANK.findall(answer)
    ids = [int(number) - 1 for number, _, _ in parts]
    if sorted(ids) != list(range(n)) or _TFRANK.sub("", answer).strip():
        return None, False
    if all(grade for _, grade, _ in parts):
        return tuple(float(parts[ids.index(i)][1]) for i in range(n)), True
    levels = [0]
    for _, _, sign in parts[:-1]:
        levels.append(levels[-1] + {">": -1, "<": 1}.get(sign, 0))
    return tuple(float(levels[ids.index(i)] - min(levels)) for i in range(n)), False


def triples(released: Released, audit: Audit) -> Iterator[Listed]:
    """MS MARCO triples, a line each: query, positive and negative, as texts or, with ``topics`` and ``corpus``, as ids.

    Or JSON lines of query, pos and neg, with their scores or not (FlagEmbedding), or of query, positive_passages and
    negative_passages (Tevatron). A query's lines are put together. There is no first stage to tell of: its ranks are
    the places of the list, positives first. Scores are on the scale of whoever gave them.
    """
    json_lines = ".jsonl" in released.path.suffixes
    lists: dict[str, tuple[Query, dict[str, Passage]]] = {}
    for where, found in (_json_lists if json_lines else _tsv_triples)(released, audit):
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
        yield Listed(
            query,
            tuple(candidate for candidate, _, _ in ranked),
            tuple(gain for _, gain, _ in ranked),
            tuple(range(1, len(ranked) + 1)),
            released.source,
            teacher=tuple(scores) if len(scores) == len(ranked) else None,
        )


READERS: dict[str, Callable[[Released, Audit], Iterator[Listed]]] = {
    "reasonrank": reasonrank,
    "tfrank": tfrank,
    "triples": triples,
}

Passage = tuple[Candidate, float, float | None]
"""What a line tells of a passage: its gain, and a score where it has one."""
Found = tuple[Query, list[Passage]]
NOT_A_LIST = "neither a triple nor a list"


def _tsv_triples(released: Released, audit: Audit) -> Iterator[tuple[str, Found | str]]:
    """Where each line stands, and its triple or what is wrong with it."""
    by_id = released.topics is not None and released.corpus is not None
    for where, line in read_lines(released.path):
        columns = line.decode(errors="replace").rstrip("\r\n").split("\t")
        if len(columns) != 3 or not all(map(str.strip, columns)):
            yield where, NOT_A_LIST
            continue
        query, *both = columns
        if by_id:
            texts = [released.document("", docid) for docid in both]
            text = released.query("", query)
            known = [_named(docid, found) for docid, found in zip(both, texts, strict=True) if found]
            asked = Query(query, text) if text else None
        else:
            known, asked = [_named(digest(text), text) for text in both], Query(digest(query), query)
        if asked is None or len(known) < len(both):
            yield where, NOT_A_LIST
        else:
            yield where, (asked, [(known[0], 1.0, None), (known[1], 0.0, None)])


def _json_lists(released: Released, audit: Audit) -> Iterator[tuple[str, Found | str]]:
    """The same for a file of lists."""
    for where, record in _records(released.path, audit):
        sides = ("positive_passages", "negative_passages") if "positive_passages" in record else ("pos", "neg")
        query, known = record.get("query"), list[Passage]()
        fault = None if isinstance(query, str) else NOT_A_LIST
        for gain, side in zip((1.0, 0.0), sides, strict=True):
            found = _side(record.get(side), record.get(f"{side}_scores"), gain)
            if isinstance(found, str):
                fault = fault or found
            else:
                known += found
        qid = record.get("qid") or record.get("query_id") or digest(str(query))
        yield where, fault or (Query(str(qid), str(query)), known)


def _side(passages: Any, scores: Any, gain: float) -> list[Passage] | str:
    """The positives or the negatives of a list, or what is wrong with them."""
    passages = [] if passages is None else passages
    if not isinstance(passages, list):
        return NOT_A_LIST
    texts = [document_text(p) if isinstance(p, dict) else p for p in passages]
    if not _are_texts(texts):
        return "a passage without a text"
    if scores is None:
        scores = [None] * len(passages)
    elif not (isinstance(scores, list) and len(scores) == len(passages) and all(map(_is_number, scores))):
        return "scores that are not a number for each passage"
    docids = [document_docid(p) if isinstance(p, dict) else None for p in passages]
    return [
        (_named(docid or digest(text), text), gain, score)
        for docid, text, score in zip(docids, texts, scores, strict=True)
    ]


def _are_texts(values: Any) -> TypeGuard[list[str]]:
    return isinstance(values, list) and all(isinstance(value, str) and value.strip() for value in values)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _records(path: Path, audit: Audit) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each record of a file of JSON lines and where it stands; a line that holds none is noted."""
    for where, line in read_lines(path):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if isinstance(record, dict):
            yield where, record
        else:
            audit.note("no JSON record", where)


def _by_dataset(path: Path | None, read: Callable[[Path], Mapping[str, str]]) -> Callable[[str], Mapping[str, str]]:
    """Texts by id for each dataset, read as they are asked for: of a folder of JSON mappings the one of that name, of a
    file the same for all."""
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
        raise UsageError(f"{path} holds no JSON mapping of ids to texts")
    return {str(name): str(text) for name, text in found.items()}


def _listed(query: str, passages: Sequence[str], gains: Sequence[float], source: str) -> Listed:
    candidates = tuple(Candidate(digest(text), -float(i), text) for i, text in enumerate(passages))
    return Listed(Query(digest(query), query), candidates, tuple(gains), tuple(range(1, len(passages) + 1)), source)


def _contradicts(texts: Sequence[str], relevant: Iterable[bool]) -> bool:
    labels: dict[str, set[bool]] = {}
    for text, label in zip(texts, relevant, strict=False):
        labels.setdefault(" ".join(text.split()), set()).add(label)
    return any(len(found) > 1 for found in labels.values())


def _named(docid: str, text: str) -> Candidate:
    return Candidate(docid, 0.0, text)


def digest(text: str) -> str:
    """The name of a text that has none."""
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16]
