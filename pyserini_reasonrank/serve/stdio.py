"""The messages of an MCP client on stdin, one a line, each of at most as many bytes as the body of an HTTP request."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from typing import BinaryIO

_PIECE = 1 << 16  # bytes of a message that is too long are read and dropped in pieces
_ID = re.compile(rb'"id"\s*:\s*(-?\d+|"(?:[^"\\]|\\.)*")')


def take_stdin() -> BinaryIO:
    """The stdin of this process, which itself and its child processes read as empty from now on."""
    taken = os.dup(0)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    return open(taken, "rb")  # never closed: a thread may still read it at the end


class Messages:
    """The lines of ``source`` that have at most ``limit`` bytes, as text.

    For each longer one ``refuse`` is called with the id of its request, None if it is not found; the memory used is that
    of the limit.
    """

    def __init__(self, source: BinaryIO, limit: int, refuse: Callable[[str | int | None], None]) -> None:
        self._source, self._limit, self._refuse = source, limit, refuse

    def readline(self) -> str:
        """The next line; "" at the end."""
        while len(line := self._source.readline(self._limit + 1)) > self._limit and not line.endswith(b"\n"):
            last = line
            while last and not last.endswith(b"\n"):
                last = self._source.readline(_PIECE)
            self._refuse(request_id(line))
        return line.decode(errors="replace")


def request_id(beginning: bytes) -> str | int | None:
    """The id of the request that begins so; None if it is not before the parameters, which may have ids of their own."""
    found = _ID.search(beginning.partition(b'"params"')[0])
    if found is None:
        return None
    try:
        read: str | int = json.loads(found[1])
    except ValueError:
        return None
    return read
