"""Run files, read and written: TREC's six columns, MS MARCO's three, JSON lines; a file under its final name is always
whole.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import math
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from ctypes import c_float
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, NamedTuple, Self

from pyserini_reasonrank.errors import UsageError


class RunFormat(StrEnum):
    """Run formats: the host's by its names, as in ``--output-format``, and JSON lines, a line a query.

    JSON lines are for what is ranked outside of the host: they hold any qid and docid, blanks and all.
    """

    TREC = "trec"
    MSMARCO = "msmarco"
    JSONL = "jsonl"


class Hit(NamedTuple):
    """A document of a run and the score it stands there with."""

    docid: str
    score: float


Run = dict[str, list[Hit]]
"""For each qid, in the order of the file, its hits, best first."""


class RunLine(NamedTuple):
    """A document of a run, with its query. Where a format has no scores it is 1 / rank, as in the host's tools."""

    qid: str
    docid: str
    rank: int
    score: float
    tag: str


def parse_lines(line: bytes, where: str) -> list[RunLine]:
    """Read one line of a run, in any format: of JSON lines a whole ranking, else one document.

    UsageError, beginning with ``where`` it stands, if it is no line of a run. Columns are parted by ASCII white space
    only, as trec_eval does it, so other Unicode spaces stay in the docid.
    """
    if line.lstrip().startswith(b'{"'):
        return _parse_json(line, where)
    columns = line.split()
    try:
        match columns:
            case [qid, _, docid, rank, score, tag]:
                parsed = RunLine(qid.decode(), docid.decode(), int(rank), float(score), tag.decode())
                if math.isfinite(parsed.score):
                    return [parsed]
            case [qid, docid, rank] if int(rank) > 0:
                return [RunLine(qid.decode(), docid.decode(), int(rank), 1 / int(rank), "")]
    except UnicodeDecodeError:
        raise UsageError(f"{where} is not UTF-8 text; a run is.") from None
    except ValueError:
        pass
    raise UsageError(f"{where}: {_fault(columns)}")


def _parse_json(line: bytes, where: str) -> list[RunLine]:
    """A ranking as RunWriter writes it; or the candidates that were to be ranked, whose order in the file counts."""
    try:
        row: dict[str, Any] = json.loads(line)
        qid, tag = str(row["qid"]), str(row.get("tag", ""))
        if "ranking" not in row:
            docids = [str(candidate["docid"]) for candidate in row["candidates"]]
            return [RunLine(qid, docid, rank, 1 / rank, tag) for rank, docid in enumerate(docids, 1)]
        ranking = row["ranking"]
        lines = [RunLine(qid, str(hit["docid"]), int(hit["rank"]), float(hit["score"]), tag) for hit in ranking]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise UsageError(f"{where}: expected qid and ranking (of docid, rank, score) as JSON ({error!r}).") from None
    if bad := [line.docid for line in lines if not math.isfinite(line.score)]:
        raise UsageError(f"{where}: the score of {bad[0]} is not a finite number.")
    return lines


def _fault(columns: list[bytes]) -> str:
    """Why these are not the columns of a run."""
    texts = [column.decode(errors="replace") for column in columns]
    match texts:
        case [_, _, rank] | [_, _, _, rank, _, _] if not re.fullmatch(r"[+-]?\d+", rank):
            return f"the rank {rank!r} is not a whole number."
        case [_, _, _, _, score, _]:
            return f"the score {score!r} is not a finite number."
        case [_, _, rank]:
            return f"the rank is {rank}; in an MS MARCO run ranks begin at 1."
    return (
        f"{len(columns)} columns where a TREC run has 6 and an MS MARCO run 3; "
        "a docid with a blank in it is the likely cause."
    )


def read_lines(path: Path) -> Iterator[tuple[str, bytes]]:
    """Each line of a file, gzipped if its name ends in .gz, after where it stands: ``path, line number``.

    Blank lines are skipped. UsageError if the file is missing, unreadable or holds no line at all.
    """
    found = False
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    found = True
                    yield f"{path}, line {number}", line
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist.") from None
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{path} can't be read: {getattr(error, 'strerror', None) or error}.") from None
    if not found:
        raise UsageError(f"{path} is empty.")


def read_run(path: str | os.PathLike[str]) -> Run:
    """Read a run in TREC, MS MARCO or JSON lines format, plain or gzipped; or a candidates file, as it is ordered.

    Hits are in the order of falling score. Where scores tie, the rank column decides and then the place in the file:
    that is the order the searcher meant, though trec_eval would break the tie by docid (see ``trec_eval_order``).
    UsageError, with file and line, for a missing or empty file, a wrong number of columns, a rank or score that is
    not a number, and a document twice in one query.
    """
    lines: dict[str, list[RunLine]] = {}
    for where, text in read_lines(Path(path)):
        for line in parse_lines(text, where):
            lines.setdefault(line.qid, []).append(line)
    run: Run = {}
    for qid, found in lines.items():
        if twice := repeated(line.docid for line in found):
            raise UsageError(f"{path}: document {twice[0]} stands twice under query {qid}; a run lists it once.")
        found.sort(key=lambda line: (-line.score, line.rank))
        run[qid] = [Hit(line.docid, line.score) for line in found]
    return run


def trec_eval_order(hits: Iterable[Hit]) -> list[str]:
    """The docids as trec_eval orders them: by falling score in single precision, ties by falling docid."""
    return [hit.docid for hit in sorted(hits, key=lambda hit: (single(hit.score), hit.docid), reverse=True)]


def single(score: float) -> float:
    """The score in single precision, in which trec_eval holds it: what differs beyond that is a tie there."""
    return c_float(score).value


def repeated(items: Iterable[str]) -> list[str]:
    """The items that occur more than once, in the order of their second occurrence."""
    seen: set[str] = set()
    again = []
    for item in items:
        if item in seen:
            again.append(item)
        seen.add(item)
    return again


_BLANK = re.compile(r"[ \t\n\r\f\v]")


def writable(name: str, what: str, blanks: str | None = None) -> str:
    """``name`` as a run can hold it: verbatim, or with each white-space character replaced by ``blanks``.

    UsageError naming ``what`` (``"docid"``, ``"qid"``, ``"tag"``) if it has white space and ``blanks`` is None, or is
    empty: in a file whose columns are parted by white space no reader could tell where it ends.
    """
    if not name:
        raise UsageError(f"An empty {what} can't stand in a run file.")
    if blanks is not None:
        return _BLANK.sub(blanks, name)
    if _BLANK.search(name):
        remedy = "; --rerank.docid_blanks _ writes its blanks as _" if what == "docid" else ""
        raise UsageError(f"The {what} {name!r} has white space in it, which can't stand in a run file{remedy}.")
    return name


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that appears under ``path``, whole and on disk, when the block ends well, and else never."""
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def run_lines(qid: str, docids: Sequence[str], tag: str, output_format: RunFormat) -> str:
    """The lines of one query, ``docids`` best first, with scores n, n-1, ... 1. UsageError for a name with white space."""
    if output_format is not RunFormat.JSONL:
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


class RunWriter:
    """Writes a run: each query's lines the moment it ends, in whatever order they end; the run file itself at commit.

    Finished queries go to ``<output>.partial``. ``commit`` puts them in topics order under the final name in one step
    and removes the partial file. Use as a context manager: left without commit, the partial file stays for whoever
    wants the finished queries, except after a UsageError, which leaves nothing behind.
    """

    def __init__(
        self,
        output: str | os.PathLike[str],
        *,
        tag: str,
        output_format: RunFormat = RunFormat.TREC,
        docid_blanks: str | None = None,
    ) -> None:
        """Open ``<output>.partial``, making parent folders. ``docid_blanks`` replaces white space in docids."""
        self.output = Path(output)
        self.partial = self.output.with_name(f"{self.output.name}.partial")
        self.tag = writable(tag, "tag")
        self.output_format = output_format
        if docid_blanks is not None:
            writable(docid_blanks, "replacement for blanks in docids")
        self.docid_blanks = docid_blanks
        self._spans: dict[str, tuple[int, int]] = {}  # qid -> where its lines begin in the partial file, and how long
        if self.output.is_dir():
            raise UsageError(f"{output} is a folder; --output names the run file itself.")
        try:
            self.output.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.partial.open("w+b")
        except OSError as error:
            raise UsageError(f"{output} can't be written: {error.strerror}.") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, exception_type: type[BaseException] | None, *_: object) -> None:
        self._file.close()
        if exception_type is not None and issubclass(exception_type, UsageError):
            self.partial.unlink(missing_ok=True)

    def write(self, qid: str, docids: Sequence[str]) -> None:
        """Append a query's documents, best first, with scores n, n-1, ... 1. Each query once."""
        if qid in self._spans:
            raise ValueError(f"query {qid} was written before")
        self.qid(qid)
        names = [self.docid(docid) for docid in docids]
        if twice := repeated(names):
            raise UsageError(f"Query {qid} lists document {twice[0]} twice; a run lists a document once a query.")
        data = _lines(qid, names, self.tag, self.output_format).encode()
        self._spans[qid] = (self._file.tell(), len(data))
        self._file.write(data)
        self._file.flush()

    def qid(self, qid: str) -> str:
        """``qid`` as it will stand in the run. UsageError if it can't."""
        return qid if self.output_format is RunFormat.JSONL else writable(qid, "qid")

    def docid(self, docid: str) -> str:
        """``docid`` as it will stand in the run. UsageError if it can't."""
        return docid if docid and self.output_format is RunFormat.JSONL else writable(docid, "docid", self.docid_blanks)

    def commit(self, qids: Iterable[str]) -> None:
        """Write the run file, queries in the order of ``qids``, the topics; of one without documents at most that."""
        spans = dict(self._spans)
        with atomic(self.output) as run:
            for qid in qids:
                begin, length = spans.pop(qid, (0, 0))
                self._file.seek(begin)
                run.write(self._file.read(length))
            if spans:
                raise ValueError(f"queries that are not among the topics were written: {', '.join(spans)}")
        self._file.close()
        self.partial.unlink()
