"""Files of lines: reading with line numbers, gzipped or not, and writing that never leaves half a file."""

from __future__ import annotations

import contextlib
import gzip
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from pyserini_reasonrank.errors import UsageError


def read_lines(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield each line of a file with its place, ``"path, line number"``. Names that end in .gz are decompressed.

    Blank lines are skipped. UsageError if the file is missing, unreadable or has no other lines.
    """
    found = False
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    found = True
                    yield f"{path}, line {number}", line
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist") from None
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{path} can't be read: {getattr(error, 'strerror', None) or error}") from None
    if not found:
        raise UsageError(f"{path} is empty")


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """A file to write, which appears under ``path``, complete and on disk, if the block succeeds, and otherwise never."""
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
