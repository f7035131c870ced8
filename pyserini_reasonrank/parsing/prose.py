"""The order in an answer without a list: passages in the order of mention, if the words around them allow it."""

from __future__ import annotations

import re
from itertools import pairwise

from pyserini_reasonrank.parsing.grade_values import values_after
from pyserini_reasonrank.parsing.identifiers import found_in

_REVERSED = re.compile(
    r"\b(?:least|worst|lowest|less)\b(?:\W++\w++){0,3}?\W++to\W++(?:the\W++)?(?:most|best|highest|more)\b"
    r"|\b(?:least|worst|lowest)\b(?:\W++\w++){0,2}?\W++(?:first\b|to\W++(?:most|best|highest)\b)|\bascending\b"
    r"|\bincreasing (?:order|relevance)\b|\breverse order\b",
    re.IGNORECASE,
)
_LOW = re.compile(
    r"\b(?:least|worst|lowest|irrelevant|unrelated|useless|bottom|not|neither|off[- ]topic|worse)\b(?: \w+)?",
    re.IGNORECASE,
)
_HIGH = re.compile(
    r"\b(?:best|most|highest|top|first|relevant|related|useful|helpful|rest|remaining|others?)\b", re.IGNORECASE
)
_LONGEST_HEADING = 60
_HEAD = re.compile(r"^[ *#>|_`-]*+(?:[A-Za-z]+ )?\[ ?(\d{1,9}) ?\]")


def is_reversed(text: str) -> bool:
    """Whether a text says that the worst passage comes first."""
    return _REVERSED.search(text) is not None


def is_falling(text: str, single: bool = False) -> bool:
    """Whether the words do not contradict an order of mention: words for a low rank come only after words for a high one.

    ``single``: the text mentions one passage, so that what it says later is about the others.
    """
    low = _LOW.search(text)
    if low is None:
        return True
    rest = _LOW.sub("", text[low.start() :])
    return _HIGH.search(text, 0, low.start()) is not None and (single or _HIGH.search(rest) is None)


def mentioned(text: str, separated: bool) -> list[int]:
    """Return the identifiers in the order of mention; [] if that may not be the order of the answer.

    ``separated``: there are words between them. Then a passage that is mentioned again, the order shown, and grades that
    do not fall are signs of remarks on the passages. Lines that begin with a passage each count as a list, whatever they
    say about it.
    """
    ids = [found.number for found in found_in(text)]
    if len(set(ids)) == 1:
        return ids[:1] if is_falling(text, single=True) else []
    if not separated:
        return ids if is_falling(text) else []
    if lines := heads(text):
        ids = list(dict.fromkeys(i for i, _ in lines))
        text = "\n".join(line for _, line in lines)
    elif not is_falling(text):
        return []
    shown = len(ids) > 1 and ids == list(range(1, len(ids) + 1))
    return [] if shown or contradicted(text) or len(set(ids)) < len(ids) else ids


def heads(text: str) -> list[tuple[int, str]]:
    """Return the lines that begin with an identifier, with it; [] if one is elsewhere, or headings contradict the order."""
    found, outline = list[tuple[int, str]](), list[str]()
    for line in text.splitlines():
        if head := _HEAD.match(line):
            found.append((int(head[1]), line))
            outline.append(head[0])
        elif any(found_in(line)):
            return []
        elif line.endswith(":") and len(line) <= _LONGEST_HEADING:
            outline.append(line)
    return found if len(found) > 1 and is_falling("\n".join(outline)) else []


def contradicted(text: str) -> bool:
    """Whether every identifier is followed by a number, and the numbers neither fall nor count from 1."""
    grades, ids = values_after(text), list(found_in(text))
    rising = any(a < b for a, b in pairwise(grades))
    return rising and len(grades) == len(ids) and grades != list(range(1, len(grades) + 1))
