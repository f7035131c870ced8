"""Text for a terminal: cut and wrapped by display width, without control characters, coloured only where that is wanted."""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from collections.abc import Iterator

WIDTH = 80
"""The width where stdout is not a terminal."""
ELLIPSIS = "…"

_STYLES = {"bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33}


def width() -> int:
    """The columns of the terminal; 80 if stdout is not a terminal and COLUMNS is not set."""
    return max(40, shutil.get_terminal_size((WIDTH, 24)).columns)


def coloured() -> bool:
    """Whether to colour: stdout is a terminal, and neither NO_COLOR nor TERM=dumb is set."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def styled(text: str, style: str, *, colour: bool) -> str:
    """``text`` in a style: bold, dim, red, green or yellow."""
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if colour and text else text


def printable(text: str) -> str:
    """``text`` without characters that control a terminal; line ends are kept, a tab is a space."""
    return "".join(
        c if c == "\n" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp") else _visible(c) for c in text
    )


_INVISIBLE = dict.fromkeys("\r\u00ad\u200b\u200e\u200f\u2060\ufeff", "") | {
    "\t": " ",
    "\u200c": "\u200c",
    "\u200d": "\u200d",
}
"""Characters without a glyph that occur in texts, and what is written for them: joiners are kept."""


def _visible(character: str) -> str:
    return _INVISIBLE.get(character, "\N{REPLACEMENT CHARACTER}")


def columns(text: str) -> int:
    """The columns that ``text`` takes."""
    return sum(_columns(character) for character in text)


def _columns(character: str) -> int:
    if character.isascii():
        return 1
    if unicodedata.combining(character) or character in "\u200c\u200d":
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def one_line(text: str, most: int) -> str:
    """The beginning of ``text`` in one line of at most ``most`` columns."""
    line = " ".join(printable(text).split())
    if columns(line) <= most:
        return line
    return _head(line, most - 1).rstrip() + ELLIPSIS


def _head(text: str, most: int) -> str:
    """The longest beginning of ``text`` with at most ``most`` columns."""
    taken = 0
    for index, character in enumerate(text):
        taken += _columns(character)
        if taken > most:
            return text[:index]
    return text


def wrapped(text: str, most: int) -> Iterator[str]:
    """The lines of ``text``, broken between words where they exceed ``most`` columns, and inside words that are longer."""
    for line in printable(text).splitlines():
        rest = line.rstrip()
        while columns(rest) > most:
            head = _head(rest, most)
            at = head.rfind(" ") if not rest[len(head) :].startswith(" ") else len(head)
            at = at if at > 0 else max(len(head), 1)
            yield rest[:at].rstrip()
            rest = rest[at:].lstrip()
        yield rest
