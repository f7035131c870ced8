"""Strict reading of answers for rewards: complete and in the right format. The parsing itself is in parsing.py.

Serving repairs a faulty answer; a reward that did so would teach the fault.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from pyserini_reasonrank.parsing import read_label
from pyserini_reasonrank.parsing.answer_lists import order_of
from pyserini_reasonrank.parsing.parts import CLOSE_ANSWER, CLOSE_THINK, OPEN_ANSWER, OPEN_THINK, split
from pyserini_reasonrank.records import Completion, Status

TAGS = (OPEN_THINK, CLOSE_THINK, OPEN_ANSWER, CLOSE_ANSWER)
_BLOCKS = re.compile(f"{OPEN_THINK}.*?{CLOSE_THINK}\\s*{OPEN_ANSWER}(.*?){CLOSE_ANSWER}", re.DOTALL)
_GRADED = re.compile(r"\s*(?:(yes|no|true|false)\b)?\s*(?:\(?\s*(\d+(?:\.\d+)?)\s*\)?)?\s*", re.IGNORECASE)
_VALUED = re.compile(r"\[\s*(\d+)\s*\]\s*\(\s*(\d+(?:\.\d+)?)\s*\)")


def well_formed(text: str) -> bool:
    """Whether the text has each of the four tags once, in order, with nothing between thought and answer."""
    return all(text.count(tag) == 1 for tag in TAGS) and _BLOCKS.search(text) is not None


def blocks_alone(text: str) -> bool:
    """Whether the text is a tagged thought and a tagged answer and nothing else."""
    return _BLOCKS.fullmatch(text.strip()) is not None


def bad_tags(text: str) -> int:
    """The number of the four tags that do not occur exactly once."""
    return sum(text.count(tag) != 1 for tag in TAGS)


def exact_order(text: str, n: int) -> tuple[int, ...] | None:
    """The order of all ``n`` positions (from 0); None unless the answer names each position exactly once."""
    ids = order_of(split(text).answer or "", n)
    return tuple(i - 1 for i in ids) if sorted(ids) == list(range(1, n + 1)) else None


def exact_label(text: str, n: int, *, tags: bool) -> int | None:
    """The position (from 0) that the answer names; None unless the answer is one bracketed label and nothing else.

    With ``tags``, thought and answer must be tagged.
    """
    if tags and not well_formed(text):
        return None
    position, judgement = read_label(Completion(text), n, tags=tags)
    return position if judgement.status is Status.OK else None


class Graded(NamedTuple):
    """A pointwise answer: ``yes(3)``, ``yes`` or ``3``. At least one of the fields is not None."""

    label: bool | None
    value: float | None


def graded(text: str) -> Graded | None:
    """The label and the number in an answer about one passage; None for any other answer."""
    found = _GRADED.fullmatch(split(text).answer or "")
    if found is None or found.lastindex is None:
        return None
    label, value = found.groups()
    return Graded(None if label is None else label.lower() in ("yes", "true"), None if value is None else float(value))


def valued_order(text: str) -> tuple[str, dict[int, float]]:
    """The list without values, and the value of each position (from 0), of an answer as ``[2] (9) > [1] (4)``."""
    answer = split(text).answer or ""
    values = {int(number) - 1: float(value) for number, value in _VALUED.findall(answer)}
    return _VALUED.sub(lambda found: f"[{found[1]}]", answer), values
