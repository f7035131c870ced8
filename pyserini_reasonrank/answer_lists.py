"""The order in the text of an answer: identifiers, lists of them, and which list counts.

An answer can have several lists: chains (``[2] > [1]``), one pair of brackets (``[2, 1]``), JSON, numbered lines. They are
compared by place, never by length: the last list that names every passage counts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

# Other characters for brackets and arrows, and marks that a model puts behind an identifier, such as a footnote.
_CHARACTERS = str.maketrans(
    {"【": "[", "】": "]", "［": "[", "］": "]", "〔": "[", "〕": "]"}
    | dict.fromkeys("＞≻›→⇒⟩〉", ">")
    | dict.fromkeys("＜≺‹←⇐⟨〈", "<")
    | dict.fromkeys("⁰¹²³⁴⁵⁶⁷⁸⁹", None)
)
# An identifier is in brackets, one of which a cut or a prefill may have removed, or beside a ">".
_IDENTIFIER = re.compile(
    r"\[\s*+(\d++)(?:\s*+\]|(?=\s*+(?:[>=<\n]|\Z)))|(?:\A|[>=\n])\s*+(\d++)\s*+\]"
    r"|(?<![\w.])(\d+)(?=\s*>)|(?<=>)\s*(\d+)\b(?!\s*[.):]+\s*\[)"
)
_WITHIN = "⊳"  # joins what was in one pair of brackets
_ONLY_A_LIST = re.compile(r"[\s\d>⊳\[\]().,;:=|-]*\Z")
_BRACKETED = re.compile(r"\[\s*\d+\s*\]")
# "[3, 1, 2]", "[3 1 2]", "['3', '1']", "[3 > 1 > 2": one pair of brackets around a list; a cut may have removed the second.
_ELEMENT = r"[\"']?+\d++[\"']?+"
_GROUP = re.compile(rf"\[\s*+({_ELEMENT}(?:\s*+[,;>=|-]?\s*+{_ELEMENT})+)\s*+[,;>=|-]?+\s*+(?:\]|\Z)")
_RANGE = re.compile(r"\d+\s*-\s*\d+\Z")  # "[1-20]"
_NUMBERED = re.compile(r"\s*\(?(\d+)\s*[.):]+\s*(?=\d)")  # "1. 3", "(1) 3"
# "1. [3]", "2) **[1]** because ...", "(3) Passage [2]"
_NUMBERED_LINE = re.compile(
    r"^[\s*#-]*+\(?(\d{1,4})\s*+[.):]++[\s*_`]*+(?:[A-Za-z]+[ #]+)?\[\s*+(\d++)\s*+\]", re.MULTILINE
)
_RANK_OR_GRADE = re.compile(r"\s*\[\s*(\d+)\s*\][\s:=]*(-?\d+(?:\.\d+)?)\s*[,;.]?\s*")  # a whole line "[1] 3"
_ARROW = re.compile(
    r"[\s\]*_`]*+[>=<⊳][\s>=<⊳*_`]*+(?:\(?\d+\s*[.):]+\s*)?"
)  # between two identifiers of a chain; "> 2. ["
_COMMA = re.compile(r"[\s\]*_`,;|-]*+")
_DIGITS = re.compile(r"\d+")
_LETTER = re.compile(r"\[([A-Z])\]")
_FENCE = re.compile(r"```(?:\w+)?\s*(.*?)```", re.DOTALL)
_NAMES = ("id", "identifier", "passage", "passage_id", "document", "document_id", "doc", "docid", "index", "number")

Identifiers = Literal["brackets", "digits"]


@dataclass(frozen=True, slots=True)
class _List:
    """A list in an answer, by place. ``joints``: what separates its identifiers."""

    start: int
    ids: tuple[int, ...]
    joints: str = ">"

    @property
    def readable(self) -> bool:
        """Whether it is known which end is the best."""
        return "<" not in self.joints

    @property
    def grouped(self) -> bool:
        """Whether one pair of brackets is around the list, which may be a mere mention of several passages."""
        return _WITHIN in self.joints


def identifiers(answer: str, how: Identifiers = "brackets") -> list[int]:
    """Return the identifiers in an answer, in order, as written (from 1, with repeats and numbers out of range).

    ``brackets`` reads numbers in brackets or beside ``>``: none in "the top 10 of 20", one in "1. [3]". If the answer is only
    a list without brackets, it reads all numbers except those of the lines (1, 2, 3). ``digits`` reads every run of digits,
    as the published rerankers do; as there, a digit that is not decimal (a superscript) invalidates the answer.
    """
    if how == "digits":
        runs = "".join(c if c.isdigit() else " " for c in answer).split()
        return [_number(run) for run in runs] if all(run.isdecimal() for run in runs) else []
    answer = _uniform(answer)
    if _ONLY_A_LIST.match(answer) and not _BRACKETED.search(answer):
        return [_number(run) for run in _DIGITS.findall(_unnumbered(answer))]
    return [_named(match) for match in _IDENTIFIER.finditer(answer)]


def order_of(answer: str, n: int, how: Identifiers = "brackets") -> list[int]:
    """Return the identifiers of the order of ``n`` passages in an answer; [] if it is not clear.

    In prose, lists such as ``[2] > [1]`` give the order, and other mentions are ignored. If lists contradict one another,
    the last one that names all passages counts; if none does, the last one, with those before it that name other passages.
    A list with ``<`` has no clear order.
    """
    if how == "digits":
        return identifiers(answer, how)
    if (found := _in_json(answer)) is not None:
        return found
    uniform = _uniform(answer)
    if _ONLY_A_LIST.match(uniform):
        return [] if _ranks_or_grades(uniform) else identifiers(answer)
    everyone = set(range(1, n + 1))
    chains = [chain for chain in _lists(uniform, _ARROW) if len(chain.ids) > 1]
    lines = list(_numbered_lines(uniform))
    last = chains[-1].start if chains else -1
    counted = [
        found for found in (*lines, *_lists(uniform, _COMMA)) if found.start > last
    ]  # else a discussion of passages
    lists = sorted([*chains, *counted], key=lambda found: found.start)
    if complete := [found for found in lists if everyone <= set(found.ids)]:
        return list(complete[-1].ids) if complete[-1].readable else []
    if _ranks_or_grades(uniform):
        return []
    groups = [chain for chain in chains if chain.grouped]
    return _partial([chain for chain in chains if not chain.grouped] or lines, groups, identifiers(answer))


def letters(answer: str) -> list[int]:
    """Return the letter identifiers in an answer, in order, as numbers from 1: 2, 1 for ``[B] > [A]``."""
    return [ord(letter) - ord("A") + 1 for letter in _LETTER.findall(answer)]


def cut_last(ids: Sequence[int], answer: str, n: int) -> list[int]:
    """Return ``ids`` without the last one if the token limit cut it: a ``1`` that could have become 12 of ``n`` passages."""
    cut = bool(ids) and answer[-1:].isdecimal() and 10 * ids[-1] <= n
    return list(ids[:-1] if cut else ids)


def permutation(ids: Sequence[int], n: int) -> tuple[tuple[int, ...], int, str]:
    """Turn ``ids`` (from 1) into a permutation of ``n`` positions (from 0): drop ids out of range and repeats, append the rest.

    Returns the order, the number of appended positions, and a description of the faults.
    """
    inside = [i - 1 for i in ids if 1 <= i <= n]
    given = list(dict.fromkeys(inside))
    missing = sorted(set(range(n)).difference(given))
    faults = {"out of range": len(ids) - len(inside), "repeated": len(inside) - len(given), "missing": len(missing)}
    return (*given, *missing), len(missing), ", ".join(f"{count} {what}" for what, count in faults.items() if count)


def uniform_brackets(text: str) -> str:
    """Replace other characters for brackets and arrows by ``[``, ``]``, ``>`` and ``<``; remove superscripts."""
    return text.translate(_CHARACTERS).replace("&gt;", ">").replace("&lt;", "<")


def _uniform(answer: str) -> str:
    """Return the answer with uniform brackets, and each list in one pair of brackets as a chain."""
    return _GROUP.sub(_chain_of, uniform_brackets(answer))


def _chain_of(group: re.Match[str]) -> str:
    if _RANGE.match(group[1]):
        return ""
    numbers = _DIGITS.findall(group[1])
    closed = "" if not group[0].endswith("]") and group[0][-1:].isdecimal() else "]"
    return "[" + f"] {_WITHIN} [".join(numbers) + closed


def _number(digits: str) -> int:
    # A model may repeat a digit thousands of times, which int() rejects; no passage has such a number.
    return int(digits) if len(digits) < 10 else 0


def _named(match: re.Match[str]) -> int:
    return _number(next(filter(None, match.groups())))


def _partial(lists: Sequence[_List], groups: Sequence[_List], mentioned: list[int]) -> list[int]:
    """Return the identifiers of the order in an answer none of whose lists names all passages; [] if it is not clear."""
    if not lists:
        return [] if len(groups) > 1 else mentioned
    counted = list[_List]()
    for found in reversed(lists):  # lists that name other passages continue one another
        if any(set(found.ids) & set(later.ids) for later in counted):
            break
        counted.insert(0, found)
    return [i for found in counted for i in found.ids] if all(found.readable for found in counted) else []


def _lists(answer: str, joint: re.Pattern[str]) -> Iterator[_List]:
    """Yield the lists of the identifiers of an answer that are separated by nothing but ``joint``."""
    start, end, ids, joints = 0, 0, list[int](), ""
    for match in _IDENTIFIER.finditer(answer):
        between = answer[end : match.start()]
        if ids and joint.fullmatch(between):
            joints += between
        else:
            if ids:
                yield _List(start, tuple(ids), joints)
            start, ids, joints = match.start(), [], ""
        ids.append(_named(match))
        end = match.end()
    if ids:
        yield _List(start, tuple(ids), joints)


def _numbered_lines(answer: str) -> Iterator[_List]:
    """Yield the lists whose lines are numbered 1, 2, 3 and begin with an identifier."""
    start, ids = 0, list[int]()
    for match in _NUMBERED_LINE.finditer(answer):
        if _number(match[1]) != len(ids) + 1:
            if len(ids) > 1:
                yield _List(start, tuple(ids))
            ids = []
            if _number(match[1]) != 1:
                continue
        start = start if ids else match.start()
        ids.append(_number(match[2]))
    if len(ids) > 1:
        yield _List(start, tuple(ids))


def _ranks_or_grades(answer: str) -> bool:
    """Whether the lines are ``[1] 3``, ``[2] 1``, ``[3] 2``: ranks with identifiers, or identifiers with ranks or grades."""
    lines = [_RANK_OR_GRADE.fullmatch(line) for line in answer.splitlines() if line.strip()]
    pairs = [(_number(line[1]), float(line[2])) for line in lines if line]
    values = [value for _, value in pairs]
    counted = list(range(1, len(pairs) + 1))
    if len(pairs) < 2 or len(pairs) < len(lines) or [i for i, _ in pairs] != counted:
        return False
    return values not in (counted, sorted(values, reverse=True))


def _unnumbered(listed: str) -> str:
    """Remove the line numbers of a list whose lines are numbered from 1."""
    lines = [line for line in listed.splitlines() if line.strip()]
    marks = [_NUMBERED.match(line) for line in lines]
    if len(lines) < 2 or [mark and _number(mark[1]) for mark in marks] != list(range(1, len(lines) + 1)):
        return listed
    return "\n".join(line[mark.end() :] for line, mark in zip(lines, marks, strict=True) if mark)


def _in_json(answer: str) -> list[int] | None:
    """Return the identifiers of an answer that is JSON with objects or strings, [] if it is unclear; None if it is not JSON."""
    fenced = _FENCE.findall(answer)
    text = (fenced[-1] if fenced else answer).strip()
    begins = min((i for i in (text.find("{"), text.find("[")) if i >= 0), default=len(text))
    ends = max(text.rfind("}"), text.rfind("]")) + 1
    if "{" not in text[begins:ends] and '"' not in text[begins:ends]:
        return None
    try:
        data = json.loads(text[begins:ends], parse_int=_parsed)
    except (ValueError, RecursionError):
        return None
    lists = [value for value in data.values() if isinstance(value, list)] if isinstance(data, dict) else [data]
    return (_elements(lists[0]) if len(lists) == 1 else None) or []


def _parsed(digits: str) -> int:
    return -1 if digits.startswith("-") else _number(digits)


def _elements(values: list[Any]) -> list[int] | None:
    """Return the identifiers that the elements of a JSON list name, one each; None if one is unclear."""
    ids = [_element(value) for value in values]
    if any(i is None for i in ids):
        return None
    rows = [value for value in values if isinstance(value, dict)]
    sides: dict[str, Callable[[float, float], bool]] = {
        "rank": lambda a, b: a < b, "score": lambda a, b: a >= b, "relevance": lambda a, b: a >= b,
    }  # fmt: skip
    for name, before in sides.items():
        numbers = [row[name] for row in rows if isinstance(row.get(name), int | float)]
        if not all(before(a, b) for a, b in pairwise(numbers)):
            return None
    return [i for i in ids if i is not None]


def _element(value: Any) -> int | None:
    if isinstance(value, dict):
        names = [name for name in _NAMES if name in value]
        return _element(value[names[0]]) if len(names) == 1 and not isinstance(value[names[0]], dict | list) else None
    if isinstance(value, bool) or not isinstance(value, int | str):
        return _element(value[0]) if isinstance(value, list) and len(value) == 1 and isinstance(value[0], int) else None
    found = re.fullmatch(r"\s*\[?\s*(\d+)\s*\]?\s*", str(value))
    return _number(found[1]) if found else None
