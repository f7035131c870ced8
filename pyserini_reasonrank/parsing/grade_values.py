"""Grades in the text of an answer: which number of a line is the grade, and its scale."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from math import inf

from pyserini_reasonrank.parsing.identifiers import number_of, uniform_brackets
from pyserini_reasonrank.parsing.structured import grades_in

TOP_GRADE = 10
MOST_WORDS = 40  # characters between an identifier and its grade
_MOST_VALUES = 8  # numbers of a line that are considered

# "[2] 7", "[2]: 7/10", "[2] Total score: 7": an identifier and the text after it, on one line.
_GRADED = re.compile(r"\[ ?(\d++) ?\]([^\[\]\n]*)")
_VALUE = re.compile(
    r"(?<![\w.,])([-−–]?)(\d{1,9}(?:[.,]\d{1,9})?)(?![\w])(?: ?(?:/|out of|of) ?(\d{1,9}(?:\.\d{1,9})?)(?![\w])| ?(%))?",
    re.IGNORECASE,
)
_LABELLED = re.compile(r"(?:score|grade|rating|relevance|total)\W{0,6}\Z", re.IGNORECASE)
_LABEL_LENGTH = 20
_WORD_NEXT = re.compile(r"\s*(?!(?:because|since|as)\b)[^\W_]", re.IGNORECASE)
_RANGE = re.compile(r"[-−–]| ?to ?|~")  # "7-8"
_SEPARATOR = " \t:=>|*_`(~-−–"


@dataclass(frozen=True, slots=True)
class Grade:
    """The grade of a text: its position (from 0), the grade, and whether words are between them."""

    position: int
    grade: float
    other_form: bool = False


def graded(answer: str, *, cut: bool) -> tuple[list[Grade], int]:
    """Return the grades in an answer, and the number of texts whose grade is unclear. ``cut``: the last number is cut."""
    if (found := grades_in(answer)) is not None:
        return [Grade(i - 1, grade) for i, grade in found], 0
    grades, unclear, text = list[Grade](), set[int](), uniform_brackets(answer)
    for line in text.splitlines(keepends=True):
        skipped = False  # an identifier without a grade on this line: whose grade is the next number?
        for match in _GRADED.finditer(line):
            position = number_of(match[1]) - 1
            values = numbers_in(match[2])
            if cut and values and text.endswith(line) and match.start(2) + values[-1].end() == len(line):
                values.pop()
            if values and len(match[2][: values[0].start()]) > MOST_WORDS:
                continue  # prose about the text, without its grade
            value = the_grade(match[2], values)
            if value is None or skipped:
                unclear |= {position} if values else set()
                skipped |= not values
                continue
            between = match[2][: value.start()].strip(_SEPARATOR)
            grades.append(Grade(position, on_scale(value), bool(between)))
    return grades, len(unclear - {grade.position for grade in grades})


def values_after(text: str) -> list[float]:
    """Return the numbers directly after the identifiers of an answer in uniform characters, where there is one."""
    found = []
    for match in _GRADED.finditer(text):
        value = _VALUE.search(match[2])
        if value and not re.sub(r"(?i)score|grade|rating|relevance", "", match[2][: value.start()]).strip(_SEPARATOR):
            found.append(on_scale(value))
    return found


def numbers_in(text: str) -> list[re.Match[str]]:
    """Return the numbers in a text that can be grades, the first few of them."""
    return list(islice(_VALUE.finditer(text), _MOST_VALUES))


def the_grade(text: str, values: Sequence[re.Match[str]]) -> re.Match[str] | None:
    """Return the number that is the grade: the only one, the only labelled one, or the first if it stands apart.

    A number within words ("mentions 2 studies") and a range ("7-8") are unclear.
    """
    if not values:
        return None
    labelled = [
        value for value in values if _LABELLED.search(text[max(0, value.start() - _LABEL_LENGTH) : value.start()])
    ]
    if len(labelled) == 1:
        return labelled[0]
    first, *others = values
    alone = not text[: first.start()].strip(_SEPARATOR)
    word_next = _WORD_NEXT.match(text, first.end()) is not None
    if others:
        ranged = first[3] is None and _RANGE.fullmatch(text, first.end(), others[0].start())
        return first if alone and not word_next and not ranged else None
    return first if alone or not word_next else None


def on_scale(value: re.Match[str], top: int = TOP_GRADE) -> float:
    """Return a grade on the scale from 0 to ``top``, to which a fraction or a percentage is converted; a negative one as a
    negative number."""
    sign, number, most, percent = value.groups()
    grade = float(number.replace(",", "."))
    whole = 100.0 if percent else float(most or top)
    return -grade if sign else grade * top / whole if whole else inf
