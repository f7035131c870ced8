"""Identifiers of passages in the text of an answer, and the characters in which models write them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Identifiers = Literal["brackets", "digits"]

WITHIN = "⊳"  # joins what was in one pair of brackets
# Other characters for brackets and arrows, characters without width, and marks behind an identifier, such as a footnote.
_CHARACTERS = str.maketrans(
    dict.fromkeys("【［〔「『", "[")
    | dict.fromkeys("】］〕」』", "]")
    | dict.fromkeys("＞≻›→⇒⟩〉≥≫", ">")
    | dict.fromkeys("＜≺‹←⇐⟨〈≤≪", "<")
    | {"（": "(", "）": ")"}
    | {chr(0x2460 + i): f"[{i + 1}]" for i in range(20)}  # circled digits
    | dict.fromkeys("⁰¹²³⁴⁵⁶⁷⁸⁹\u200b\u200c\u200d\u2060\ufeff" + WITHIN)
)
_LATEX = {
    ">": re.compile(r"&gt;|\\(?:succ|gt|geq?|to|rightarrow|Rightarrow)\b"),
    "<": re.compile(r"&lt;|\\(?:prec|lt|leq?|leftarrow|Leftarrow)\b"),
}
_KIND = r"(?:passage|document|doc|text|candidate)"
# "[Passage 3]", "[P3]", "[#3]", "[3.]"
_NAMED_WITHIN = re.compile(rf"\[ ?(?:(?:{_KIND}|p|d|id|no\.?)?[ #_:]*)(\d++)[ .:]*+\]", re.IGNORECASE)
_RANK_WITHIN = re.compile(r"\[ ?rank (\d{1,4}) ?\]", re.IGNORECASE)  # "[Rank 1] [3]" is "1. [3]"
_NAMED = re.compile(rf"\b{_KIND}(?: (?:id|no\.?|number))?[ #_:]*(\d++)\b", re.IGNORECASE)  # "Passage 3"
# "[3, 1, 2]", "[3 1 2]", "['3', '1']", "[3 > 1 > 2": one pair of brackets around a list; a cut may have removed the second.
_ELEMENT = r"[\"']?+\d++[\"']?+"
_GROUP = re.compile(rf"\[ ?({_ELEMENT}(?:\s?[,;>=|-]?+\s?+{_ELEMENT})+)\s?[,;>=|-]?+\s?+(?:\]|\Z)")
_RANGE = re.compile(r"\d+\s?-\s?\d+\Z")  # "[1-20]"
_ELIDED = re.compile(r"(\d ?\]?)\s?[>,]\s?(?:\.{3,}|…|⋯)\s?[>,](?:\s?\[?\d++ ?\]?\s?[>,]?)++")  # "[3] > ... > [20]"
# An identifier is in brackets, one of which a cut or a prefill may have removed, or beside a ">".
_IDENTIFIER = re.compile(
    r"\[ ?(\d++)(?: ?\]|(?=\s?(?:[>=<\n]|\Z)))|(?:\A|[>=\n])\s?(\d++) ?\]"
    r"|(?<![\w.])(\d++)(?=\s?>)|(?<=>)\s?(\d++)\b(?!\s?[.):]+\s?\[)"
)
_SEPARATED = re.compile(r"[><=,;\n|]")
_ONLY_A_LIST = re.compile(r"[\s\d>⊳\[\]().,;:=|-]*\Z")
_BRACKETED = re.compile(r"\[ ?\d+ ?\]")
_NUMBERED = re.compile(r"\(?(\d{1,4})\s?[.):]+\s?(?=\d)")  # "1. 3", "(1) 3"
_DIGITS = re.compile(r"\d+")
_LETTER = re.compile(r"\[([A-Z])\]")


@dataclass(frozen=True, slots=True)
class Identifier:
    """A number that names a passage, and where it is in the text: from ``start`` up to ``end``."""

    number: int
    start: int
    end: int


def identifiers(answer: str, how: Identifiers = "brackets") -> list[int]:
    """Return the identifiers in an answer, in order, as written (from 1, with repeats and numbers out of range).

    ``brackets`` reads numbers in brackets or beside ``>``: none in "the top 10 of 20", one in "1. [3]". If the answer is only
    a list without brackets, it reads all numbers except those of the lines (1, 2, 3). ``digits`` reads every run of digits,
    as the published rerankers do; as there, a digit that is not decimal (a superscript) invalidates the answer.
    """
    if how == "digits":
        runs = "".join(c if c.isdigit() else " " for c in answer).split()
        return [number_of(run) for run in runs] if all(run.isdecimal() for run in runs) else []
    return listed(uniform(answer))


def listed(text: str) -> list[int]:
    """Return the identifiers in a text that ``uniform`` made."""
    if only_a_list(text) and not _BRACKETED.search(text):
        return [number_of(run) for run in _DIGITS.findall(_unnumbered(text))]
    return [found.number for found in found_in(text)]


def found_in(text: str) -> Iterator[Identifier]:
    """Yield the identifiers in a text that ``uniform`` made. The 9 of "[3]: 9 > [1]" is a score and not an identifier."""
    last: Identifier | None = None
    for match in _IDENTIFIER.finditer(text):
        if match[3] and last and text[last.end - 1] == "]" and not _SEPARATED.search(text, last.end, match.start()):
            continue
        last = Identifier(number_of(next(filter(None, match.groups()))), match.start(), match.end())
        yield last


def letters(answer: str) -> list[int]:
    """Return the letter identifiers in an answer, in order, as numbers from 1: 2, 1 for ``[B] > [A]``."""
    return [ord(letter) - ord("A") + 1 for letter in _LETTER.findall(answer)]


def only_a_list(text: str) -> bool:
    """Whether a text has nothing but numbers and what separates them."""
    return _ONLY_A_LIST.match(text) is not None


def uniform(answer: str) -> str:
    """Return an answer in the characters and names of identifiers that the patterns of this package know.

    There are no blank lines, and a blank is a single one, so that the patterns take linear time. A list in one pair of
    brackets becomes a chain. Identifiers after "..." are removed, since passages between are missing.
    """
    return _ELIDED.sub(r"\1", _GROUP.sub(_chain_of, uniform_brackets(answer)))


def uniform_brackets(answer: str) -> str:
    """Return an answer in uniform characters, with single blanks; the lists in it stay as they are."""
    text = answer.translate(_CHARACTERS)
    for arrow, pattern in _LATEX.items():
        text = pattern.sub(arrow, text)
    text = "\n".join(line for line in (" ".join(line.split()) for line in text.splitlines()) if line)
    text = _NAMED_WITHIN.sub(r"[\1]", _RANK_WITHIN.sub(r"\1.", text))
    return text if _BRACKETED.search(text) else _NAMED.sub(r"[\1]", text)


def number_of(digits: str) -> int:
    """Return the number; 0 for more than nine digits, which int() may reject and no passage has."""
    return int(digits) if len(digits) < 10 else 0


def _chain_of(group: re.Match[str]) -> str:
    if _RANGE.match(group[1]):
        return ""
    numbers = _DIGITS.findall(group[1])
    closed = "" if not group[0].endswith("]") and group[0][-1:].isdecimal() else "]"
    return "[" + f"] {WITHIN} [".join(numbers) + closed


def _unnumbered(text: str) -> str:
    """Remove the line numbers of a list whose lines are numbered from 1."""
    lines = text.splitlines()
    marks = [_NUMBERED.match(line) for line in lines]
    if len(lines) < 2 or [mark and number_of(mark[1]) for mark in marks] != list(range(1, len(lines) + 1)):
        return text
    return "\n".join(line[mark.end() :] for line, mark in zip(lines, marks, strict=True) if mark)
