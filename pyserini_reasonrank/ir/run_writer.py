"""Writing runs: the lines of a query, and a run file that is complete from the moment it has its final name."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from pyserini_reasonrank.errors import Failure, UsageError
from pyserini_reasonrank.ir.documents import Document, document_record
from pyserini_reasonrank.ir.file_io import atomic
from pyserini_reasonrank.ir.runs import RunFormat, repeated
from pyserini_reasonrank.records import Candidate, Query

_BLANK = re.compile(r"[ \t\n\r\f\v]")


def writable(name: str, what: str, blanks: str | None = None) -> str:
    """``name`` as a run can contain it: verbatim, or with each white-space character replaced by ``blanks``.

    UsageError that names ``what`` (``"docid"``, ``"qid"``, ``"tag"``) if ``name`` is empty, or contains white space and
    ``blanks`` is None: white space separates the columns of a run.
    """
    if not name:
        raise UsageError(f"a run file can't contain an empty {what}")
    if blanks is not None:
        return _BLANK.sub(blanks, name)
    if _BLANK.search(name):
        remedy = "; --rerank.docid_blanks _ replaces it with _" if what == "docid" else ""
        raise UsageError(f"the {what} {name!r} contains white space, which a run file can't represent{remedy}")
    return name


def run_lines(qid: str, docids: Sequence[str], tag: str, output_format: RunFormat) -> str:
    """The lines of one query, ``docids`` best first, with scores n, n-1, ... 1. UsageError for a name with white space."""
    if output_format.has_columns:
        qid, docids = writable(qid, "qid"), [writable(docid, "docid") for docid in docids]
    return _lines(qid, docids, writable(tag, "tag"), output_format)


def _lines(qid: str, names: Sequence[str], tag: str, output_format: RunFormat) -> str:
    n = len(names)
    match output_format:
        case RunFormat.TREC:
            return "".join(f"{qid} Q0 {name} {i + 1} {n - i:.6f} {tag}\n" for i, name in enumerate(names))
        case RunFormat.MSMARCO:
            return "".join(f"{qid}\t{name}\t{i + 1}\n" for i, name in enumerate(names))
        case RunFormat.JSONL:
            ranking = [{"docid": name, "rank": i + 1, "score": n - i} for i, name in enumerate(names)]
            return json.dumps({"qid": qid, "tag": tag, "ranking": ranking}, ensure_ascii=False) + "\n"
        case RunFormat.CASTORINI:
            raise ValueError("a request needs the query and its documents; see castorini_line")


def castorini_line(query: Query, candidates: Sequence[Candidate]) -> str:
    """A query and its documents, best first, as a line of Castorini's requests, with scores n, n-1, ... 1.

    ``doc`` has the fields of a document, or its text in ``contents``; it is empty for a document without text.
    """
    rows = [
        {"docid": candidate.docid, "score": float(len(candidates) - i), "doc": _doc(candidate)}
        for i, candidate in enumerate(candidates)
    ]
    request = {"query": {"text": query.text, "qid": query.qid}, "candidates": rows}
    return json.dumps(request, ensure_ascii=False) + "\n"


def _doc(candidate: Candidate) -> dict[str, Any]:
    if candidate.fields:
        return document_record(Document(candidate.text, candidate.fields))
    return {"contents": candidate.text} if candidate.text else {}


class RunWriter:
    """Writes a run: each query as soon as it is finished, in any order; the run file itself at ``commit``.

    Finished queries go to ``<output>.partial``. ``commit`` writes them in topics order under the final name in one step
    and removes the partial file. Use it as a context manager: without ``commit``, the partial file remains, so that the
    finished queries can be used; it is deleted only after a UsageError before the first of them.
    """

    def __init__(
        self,
        output: str | os.PathLike[str],
        *,
        tag: str,
        output_format: RunFormat = RunFormat.TREC,
        docid_blanks: str | None = None,
    ) -> None:
        """Open ``<output>.partial`` and create parent folders. ``docid_blanks`` replaces white space in docids."""
        self.output = Path(output)
        self.partial = self.output.with_name(f"{self.output.name}.partial")
        self.tag = writable(tag, "tag")
        self.output_format = output_format
        if docid_blanks is not None:
            writable(docid_blanks, "replacement for white space in docids")
        self.docid_blanks = docid_blanks
        self._spans: dict[str, tuple[int, int]] = {}  # qid -> offset and length of its lines in the partial file
        if self.output.is_dir():
            raise UsageError(f"--output {output} is a folder; name the run file itself")
        try:
            self.output.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.partial.open("w+b")
        except OSError as error:
            raise UsageError(f"{output} can't be written: {error.strerror}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, exception_type: type[BaseException] | None, *_: object) -> None:
        with suppress(OSError):  # what a full disk did not take was reported by ``write``
            self._file.close()
        if exception_type is not None and issubclass(exception_type, UsageError) and not self._spans:
            self.partial.unlink(missing_ok=True)

    def write(self, qid: str, docids: Sequence[str]) -> None:
        """Append a query's documents, best first, in a format that has no texts. Each query is written once."""
        self.write_ranked(Query(qid, ""), [Candidate(docid, 0.0, "") for docid in docids])

    def write_ranked(self, query: Query, candidates: Sequence[Candidate]) -> None:
        """Append a query's candidates, best first, with scores n, n-1, ... 1. Each query is written once."""
        qid = query.qid
        if qid in self._spans:
            raise ValueError(f"query {qid} was written before")
        names = self.names(qid, [candidate.docid for candidate in candidates])
        if self.output_format is RunFormat.CASTORINI:
            renamed = [replace(each, docid=name) for each, name in zip(candidates, names, strict=True)]
            data = castorini_line(query, renamed).encode(errors="replace")  # a text may have half of a surrogate pair
        else:
            data = _lines(qid, names, self.tag, self.output_format).encode()
        self._spans[qid] = (self._file.tell(), len(data))
        try:
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            raise Failure(f"{self.partial} can't be written: {error.strerror}") from None

    def names(self, qid: str, docids: Sequence[str]) -> list[str]:
        """The docids of a query as they appear in the run.

        UsageError if the format can't represent the query or one of them, or if two are the same there.
        """
        if self.output_format.has_columns:
            writable(qid, "qid")
        names = [self._docid(docid) for docid in docids]
        if duplicates := repeated(names):
            mapped = "" if docids.count(duplicates[0]) > 1 else " with --rerank.docid_blanks"
            raise UsageError(
                f"query {qid} lists document {duplicates[0]} twice{mapped}; a run lists a document once per query"
            )
        return names

    def _docid(self, docid: str) -> str:
        if docid and not self.output_format.has_columns:
            return docid
        return writable(docid, "docid", self.docid_blanks)

    def commit(self, qids: Iterable[str]) -> None:
        """Write the run file. ``qids`` are all topics in order; those without documents take no TREC or MS MARCO lines."""
        self._copy(self.output, qids)
        self._file.close()
        self.partial.unlink()

    def keep(self, qids: Iterable[str]) -> None:
        """Put the partial file in the order of ``qids``, all topics. Nothing can be written afterwards."""
        self._copy(self.partial, qids)
        self._file.close()

    def _copy(self, target: Path, qids: Iterable[str]) -> None:
        spans = dict(self._spans)
        with atomic(target) as run:
            for qid in qids:
                begin, length = spans.pop(qid, (0, 0))
                self._file.seek(begin)
                run.write(self._file.read(length))
            if spans:
                raise ValueError(f"queries that are not among the topics were written: {', '.join(spans)}")
