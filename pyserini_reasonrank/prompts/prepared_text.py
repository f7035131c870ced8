"""Prepared texts, and the store of those that later queries show again."""

from __future__ import annotations

from array import array
from collections.abc import Hashable
from dataclasses import dataclass
from sys import getsizeof
from threading import Lock

_ENTRY = 400  # bytes of an entry of the store beside its text


@dataclass(slots=True)
class PreparedText:
    """A text, defused and cut to its limit.

    ``tokens`` is its number of tokens if ``counted``, otherwise its number of bytes, which no tokenizer exceeds. Fitting is
    cheap because most texts are never tokenized. ``ends``, if known, are the characters at which its tokens end.
    """

    text: str
    tokens: int
    counted: bool
    ends: array[int] | None = None

    def count(self, tokens: int) -> None:
        """Set the number of tokens."""
        self.tokens = tokens
        self.counted = True

    def measure(self, ends: array[int]) -> None:
        """Set the characters at which the tokens end, and with them their number."""
        self.ends = ends
        self.count(len(ends))


class TextStore:
    """Prepared texts by key, at most ``limit`` bytes of them: the oldest are dropped. Several threads may use it."""

    def __init__(self, limit: int) -> None:
        self._limit, self._bytes = limit, 0
        self._texts: dict[Hashable, PreparedText] = {}
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._texts)

    def get(self, key: Hashable) -> PreparedText | None:
        """The text with this key, or None."""
        return self._texts.get(key)

    def add(self, key: Hashable, text: PreparedText) -> None:
        """Store a text, unless its key has one."""
        with self._lock:
            if key in self._texts:
                return
            self._texts[key] = text
            self._bytes += _size(text)
            while self._bytes > self._limit:
                self._bytes -= _size(self._texts.pop(next(iter(self._texts))))


def _size(text: PreparedText) -> int:
    """Bytes that an entry with this text takes, without ``ends``, which are found later."""
    return getsizeof(text.text) + _ENTRY
