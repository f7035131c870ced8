"""Files of lines: reading with line numbers, gzipped or not; JSON lines; writing that never leaves half a file."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import IO, Any, cast

from pyserini_reasonrank import interrupts
from pyserini_reasonrank.errors import Failure, UsageError

GZIP = b"\x1f\x8b"
"""The first two bytes of a gzipped file, by which readers recognise it, whatever its name."""
COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zip")
"""The endings of names of compressed files."""


def read_lines(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield each line of a UTF-8 file with its place, ``"path, line number"``. Every reader of text files uses it.

    Lines have no line terminator, neither LF nor CRLF. A byte order mark is removed. A file is decompressed if it
    begins as a gzipped file does. Blank lines are skipped. UsageError if the file is missing,
    unreadable, UTF-16 text or has no other lines, and, with the place, for a carriage return inside a line: other programs
    end the line there.
    """
    found, name = False, str(path)
    try:
        with _opened(path) as file:
            for number, line in enumerate(file, 1):
                text = line.rstrip(b"\r\n")
                if number == 1:
                    if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                        raise UsageError(f"{path} is UTF-16 text; save it as UTF-8")
                    text = text.removeprefix(codecs.BOM_UTF8)
                if b"\r" in text:
                    raise UsageError(f"{path}, line {number} contains a carriage return; end lines with LF or CRLF")
                if text.strip():
                    found = True
                    yield f"{name}, line {number}", text
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist") from None
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{path} can't be read: {getattr(error, 'strerror', None) or error}") from None
    if not found:
        raise UsageError(f"{path} is empty")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    with path.open("rb") as file:
        if file.peek(len(GZIP))[: len(GZIP)] != GZIP:
            yield file
            return
        with gzip.open(file) as unpacked:
            yield cast(IO[bytes], unpacked)


def decoded(text: bytes, where: str) -> str:
    """``text`` of the place ``where``. UsageError if it is not UTF-8."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise UsageError(f"{where} is not UTF-8 text") from None


def tabbed(line: bytes, docid_at: Mapping[int, int]) -> list[bytes] | None:
    """The columns between the tabs of a line, of which only the docid may contain white space; None for any other line.

    ``docid_at`` has the position of the docid by the number of columns that the format can have.
    """
    columns = [column.strip() for column in line.split(b"\t")]
    docid = docid_at.get(len(columns))
    if docid is None or not columns[docid]:
        return None
    return columns if all(len(c.split()) == 1 for i, c in enumerate(columns) if i != docid) else None


def parse_json(line: bytes) -> Any:
    """The value of a JSON text. ValueError for everything else, also for text that UTF-8 can't represent."""
    try:
        value = json.loads(line.decode())
        if b"\\u" in line:
            json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair can't be written
    except UnicodeDecodeError:
        raise ValueError("not UTF-8 text") from None
    except UnicodeEncodeError:
        raise ValueError("an escape such as \\ud800 is half of a character") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value


def read_json_rows(path: Path, expected: str) -> Iterator[tuple[str, Any]]:
    """Yield each value of a file of JSON lines, or of one JSON list, plain or gzipped, with its place.

    ``expected`` describes a value, for error messages. UsageError if the file is missing or empty, or if a value is not JSON.
    """
    lines = read_lines(path)
    first = next(lines)
    if first[1].lstrip().startswith(b"["):
        whole = b"\n".join([first[1], *(line for _, line in lines)])
        for number, row in enumerate(_parsed(whole, str(path), expected), 1):
            yield f"{path}, request {number}", row
        return
    for where, line in chain([first], lines):
        yield where, _parsed(line, where, expected)


def _parsed(text: bytes, where: str, expected: str) -> Any:
    try:
        return parse_json(text)
    except ValueError as error:
        raise UsageError(f"{where}: expected {expected} ({error})") from None


def identifier(value: Any, name: str) -> str:
    """A qid or docid from JSON, verbatim: a string or an integer. ValueError, with ``name``, for anything else."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"{name} is {json.dumps(value)}; it must be a string or an integer")
    return str(value)


def check_plain(path: Path, flag: str = "--output") -> None:
    """UsageError if the name of a file that will be written as it is promises a compressed one. ``flag`` names it."""
    if (suffix := path.suffix.lower()) in COMPRESSED:
        raise UsageError(f"{flag} {path} would be written uncompressed; use a name without {suffix}")


@contextlib.contextmanager
def folder_for(path: Path) -> Iterator[None]:
    """Make the folder of a file to write. At the end of the block, or at a signal, what was made and is empty is removed.

    OSError if it can't be made.
    """
    absolute = Path(os.path.abspath(path))
    missing = [folder for folder in absolute.parents if not folder.exists()]

    def remove() -> None:
        with contextlib.suppress(OSError):  # not empty
            for folder in missing:
                folder.rmdir()

    try:
        with interrupts.cleaning(remove):
            absolute.parent.mkdir(parents=True, exist_ok=True)
            yield
    finally:
        remove()


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """A file to write, which appears under ``path``, complete and on disk, if the block succeeds, and otherwise never.

    Failure, with the path, if it can't be written: the disk is full, or the folder is read-only.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with interrupts.cleaning(lambda: temporary.unlink(missing_ok=True)), temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise Failure(f"{path} can't be written: {error.strerror or error}") from None
        raise
