"""The order in the text of an answer: the lists of identifiers in it, and which of them counts.

An answer can have several lists: chains (``[2] > [1]``), one pair of brackets (``[2, 1]``), JSON, numbered lines. They are
compared by place, never by length: the last list that names every passage counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pyserini_reasonrank.parsing import prose
from pyserini_reasonrank.parsing.identifiers import (
    WITHIN,
    Identifier,
    Identifiers,
    found_in,
    identifiers,
    listed,
    number_of,
    only_a_list,
    uniform,
)
from pyserini_reasonrank.parsing.structured import order_in

_RANKS = r"(?:(?:rank|no\.?|position|place|#) ?)?#?\(?(\d{1,4})(?:st|nd|rd|th)?"
_WORDS = r"(?:[A-Za-z]+[ #:]+){0,3}"
# "1. [3]", "2) **[1]** because ...", "(3) Passage [2]", "Rank 4: [5]", "| 5 | [4] | ... |", and the words behind it
_NUMBERED_LINE = re.compile(
    rf"^[ *#|-]*+{_RANKS} ?[.):|]++[ *_`]*+{_WORDS}\[ ?(\d++) ?\](.*)$", re.MULTILINE | re.IGNORECASE
)
# a whole line "[1] 3", "[1] Passage 3" or "[1] > [3]": an identifier with a rank, a grade, or another identifier
_PAIR = re.compile(r"[*#|-]* ?\[ ?(\d++) ?\][ :=>|.-]*+(?:(?:passage|document) )?(\[ ?)?(-?\d++(?:\.\d+)?) ?\]?[ ,;.|]*",
                   re.IGNORECASE)  # fmt: skip
# Between two identifiers of a chain: "> 2. [", "(a remark) > Passage ["
_ARROW = re.compile(
    r"[\s\]*_`]*+(?:\([^()<>\n]{0,300}\)|[^\[\]()<>=\n⊳]{1,100}(?=[>⊳]))?"
    r"[\s*_`]*+[>=<⊳~≈][\s>=<⊳~≈*_`]*+(?:\(?\d+\s*[.):]+\s*)?(?:[A-Za-z]{1,12}[ #]+)?"
)
_COMMA = re.compile(r"[\s\]*_`,;|-]*+")
_COLUMN = re.compile(r"(?:^[ *#>|-]*+\[ ?\d++ ?\][ ,;.|*_`]*+(?:\n|\Z)){2,}", re.MULTILINE)
_BARE = re.compile(r"(?<![\w.,\[])\d++(?:\s?[,>]\s?(?:and )?\d++)+(?![\w\]])")  # "3, 1, and 2"
_CHAIN = re.compile(r"\s*\[\d{1,9}\](?: > \[\d{1,9}\]){2,}\s*", re.ASCII)
"""An answer that is nothing but a chain in the form that prompts ask for; other patterns would read it in the same way."""
_DIGITS = re.compile(r"\d+")
_LETTERS = re.compile(r"[^\W\d_]{2}")
_LONGEST_HEADING = 40  # characters before a list
_FEWEST_BARE = 3  # so few bare numbers in prose can be a list


@dataclass(frozen=True, slots=True)
class _List:
    """A list in an answer, by place. ``joints``: what separates its identifiers. ``described``: with words about each."""

    start: int
    ids: tuple[int, ...]
    joints: str = ">"
    described: bool = False

    @property
    def readable(self) -> bool:
        """Whether it is known which end is the best."""
        return "<" not in self.joints

    @property
    def grouped(self) -> bool:
        """Whether one pair of brackets is around the list, which may be a mere mention of several passages."""
        return WITHIN in self.joints


def order_of(answer: str, n: int, how: Identifiers = "brackets") -> list[int]:
    """Return the identifiers of the order of ``n`` passages in an answer; [] if it is not clear.

    In prose, lists such as ``[2] > [1]`` give the order, and other mentions are ignored. If lists contradict one another,
    the last one that names all passages counts; if none does, the last one, with those before it that name other passages.
    A list with ``<``, or from the least to the most relevant, has no clear order.
    """
    if how == "digits":
        return identifiers(answer, how)
    if _CHAIN.fullmatch(answer):
        return [int(digits) for digits in _DIGITS.findall(answer)]
    found = order_in(answer)
    if isinstance(found, list):
        return found
    text = uniform(found if found is not None else answer)
    if prose.is_reversed(text) or _ranks_or_grades(text):
        return []
    chains = [chain for chain in _lists(text, _ARROW) if len(chain.ids) > 1]
    if only_a_list(text) and not _overlap(chains):
        return [] if prose.contradicted(text) else listed(text)
    lines = list(_numbered_lines(text))
    last = chains[-1].start if chains else -1  # what is before it is a discussion of passages
    counted = [found for found in (*lines, *_bare(text, n), *_lists(text, _COMMA)) if found.start > last]
    complete = _complete(sorted([*chains, *counted], key=lambda found: found.start), n)
    if complete is not None:
        return list(complete.ids) if complete.readable else []
    groups = [chain for chain in chains if chain.grouped]
    series = list(_lists(text, _COMMA))
    columns = [] if prose.heads(text) else list(_columns(text))
    if lists := [chain for chain in chains if not chain.grouped] or lines or columns:
        return _partial(lists, text)
    return [] if len(groups) > 1 else prose.mentioned(text, separated=len(series) > 1)


def labels_of(answer: str) -> list[int]:
    """Return the identifiers in an answer that gives one, or some: in JSON, or as ``identifiers`` reads them."""
    found = order_in(answer)
    return found if isinstance(found, list) else identifiers(answer if found is None else found)


def cut_last(ids: Sequence[int], answer: str, n: int) -> list[int]:
    """Return ``ids`` without the last one if the token limit cut it: a ``1`` that could have become 12 of ``n`` passages."""
    cut = bool(ids) and answer[-1:].isdecimal() and 10 * ids[-1] <= n
    return list(ids[:-1] if cut else ids)


def permutation(ids: Sequence[int], n: int) -> tuple[tuple[int, ...], int, str]:
    """Turn ``ids`` (from 1) into a permutation of ``n`` positions (from 0): drop ids out of range and repeats, append the rest.

    Returns the order, the number of appended positions, and a description of the faults.
    """
    if len(ids) == n and set(ids) == set(range(1, n + 1)):
        return tuple(i - 1 for i in ids), 0, ""
    inside = [i - 1 for i in ids if 1 <= i <= n]
    given = list(dict.fromkeys(inside))
    missing = sorted(set(range(n)).difference(given))
    faults = {"out of range": len(ids) - len(inside), "repeated": len(inside) - len(given), "missing": len(missing)}
    return (*given, *missing), len(missing), ", ".join(f"{count} {what}" for what, count in faults.items() if count)


def _complete(lists: Sequence[_List], n: int) -> _List | None:
    """Return the last list that names all passages; unreadable if a later one of most passages contradicts it.

    Numbered remarks on the passages in the order shown are not an order if there is another one.
    """
    everyone = set(range(1, n + 1))
    complete = [found for found in lists if everyone <= set(found.ids)]
    remarks = [found for found in complete if found.described and list(found.ids) == sorted(found.ids)]
    complete = [found for found in complete if found not in remarks] or complete
    if not complete:
        return None
    chosen = complete[-1]
    ranks = {number: rank for rank, number in reversed(list(enumerate(chosen.ids)))}
    for later in lists[lists.index(chosen) + 1 :]:
        ordered = [ranks[i] for i in dict.fromkeys(later.ids) if i in ranks]
        if later not in remarks and 2 * len(ordered) > n and ordered != sorted(ordered):
            return _List(chosen.start, chosen.ids, "<")
    return chosen


def _partial(lists: Sequence[_List], text: str) -> list[int]:
    """Return the identifiers of the order in an answer none of whose lists names all passages; [] if it is not clear."""
    counted = list[_List]()
    for found in reversed(_linked(lists)):  # lists that name other passages continue one another
        if any(set(found.ids) & set(later.ids) for later in counted):
            break
        counted.insert(0, found)
    between = text[max(0, counted[0].start - _LONGEST_HEADING) : counted[-1].start] if len(counted) > 1 else ""
    clear = all(found.readable for found in counted) and prose.is_falling(between)
    return [i for found in counted for i in found.ids] if clear else []


def _linked(lists: Iterable[_List]) -> list[_List]:
    """Join lists of which the next one begins where one ends: [1] > [2], [2] > [3]."""
    linked = list[_List]()
    for found in lists:
        before = linked[-1] if linked else None
        if before and set(before.ids) & set(found.ids) == {before.ids[-1]} == {found.ids[0]}:
            linked[-1] = _List(before.start, before.ids + found.ids[1:], before.joints + found.joints)
        else:
            linked.append(found)
    return linked


def _overlap(chains: Sequence[_List]) -> bool:
    """Whether several chains name the same passages."""
    ids = [i for chain in chains for i in set(chain.ids)]
    return len(chains) > 1 and len(ids) > len(set(ids))


def _lists(text: str, joint: re.Pattern[str]) -> Iterator[_List]:
    """Yield the lists of the identifiers of an answer that are separated by nothing but ``joint``."""
    listed, joints = list[Identifier](), ""
    for found in found_in(text):
        between = text[listed[-1].end : found.start] if listed else ""
        if listed and joint.fullmatch(between):
            joints += between
        elif listed:
            yield _List(listed[0].start, tuple(i.number for i in listed), joints)
            listed, joints = [], ""
        listed.append(found)
    if listed:
        yield _List(listed[0].start, tuple(i.number for i in listed), joints)


def _numbered_lines(text: str) -> Iterator[_List]:
    """Yield the lists whose lines are numbered 1, 2, 3 and begin with an identifier."""
    start, ids, described = 0, list[int](), False
    for match in _NUMBERED_LINE.finditer(text):
        if number_of(match[1]) != len(ids) + 1:
            if len(ids) > 1:
                yield _List(start, tuple(ids), described=described)
            ids, described = [], False
            if number_of(match[1]) != 1:
                continue
        start = start if ids else match.start()
        ids.append(number_of(match[2]))
        described |= _LETTERS.search(match[3]) is not None
    if len(ids) > 1:
        yield _List(start, tuple(ids), described=described)


def _columns(text: str) -> Iterator[_List]:
    """Yield the lists whose lines have an identifier and nothing else."""
    for match in _COLUMN.finditer(text):
        yield _List(match.start(), tuple(map(number_of, _DIGITS.findall(match[0]))))


def _bare(text: str, n: int) -> Iterator[_List]:
    """Yield the lists of numbers without brackets that name each of the ``n`` passages once."""
    for match in _BARE.finditer(text):
        ids = tuple(map(number_of, _DIGITS.findall(match[0])))
        if n >= _FEWEST_BARE and sorted(ids) == list(range(1, n + 1)):
            yield _List(match.start(), ids)


def _ranks_or_grades(text: str) -> bool:
    """Whether the lines are ``[1] 3``, ``[2] 1``, ``[3] 2``: ranks with identifiers, or identifiers with ranks or grades."""
    lines = [_PAIR.fullmatch(line) for line in text.splitlines()]
    pairs = [(number_of(line[1]), float(line[3])) for line in lines if line]
    values, counted = [value for _, value in pairs], list(range(1, len(pairs) + 1))
    if len(pairs) < 2 or len(pairs) < len(lines) or [i for i, _ in pairs] != counted:
        return False
    falling = values == sorted(values, reverse=True) and not any(line[2] for line in lines if line)
    return values != counted and not falling
