"""The parser of completions: from text to reasoning, answer, identifiers and status. Serving and rewards both use it.

A completion is an optional ``<think>...</think>`` and the answer, in ``<answer>...</answer>`` if the prompt asks for tags
(ReasonRank, arXiv 2508.07050, Fig. 12), otherwise bare (RankGPT). An answer is a list of identifiers, ``[2] > [1]``; a single
one, ``[2]``; or lines of an identifier and a grade, ``[2] 7``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pyserini_reasonrank.records import Completion, Judgement, Status

OPEN_THINK, CLOSE_THINK = "<think>", "</think>"
OPEN_ANSWER, CLOSE_ANSWER = "<answer>", "</answer>"

_TAG = re.compile(r"</?(?:think|answer)>", re.IGNORECASE)
# An identifier is in brackets, one of which a cut may have removed, or beside a ">".
_IDENTIFIER = re.compile(r"\[\s*(\d+)|(?<!\d)(\d+)\s*\]|(?<![\w.])(\d+)(?=\s*>)|(?<=>)\s*(\d+)\b(?!\s*[.):]+\s*\[)")
_ONLY_A_LIST = re.compile(r"[\s\d>\[\]().,;:=|-]*\Z")
_BRACKETED = re.compile(r"\[\s*\d+\s*\]")
_TOGETHER = re.compile(r"\[\s*\d+\s*[,;>=|-]+\s*\d")  # "[3, 1, 2]": one pair of brackets around a list
_NUMBERED = re.compile(r"\s*\(?(\d+)\s*[.):]+\s*(?=\d)")  # "1. 3", "(1) 3"
_ARROW = re.compile(r"[\s\]*_`]*[>=][\s>=*_`]*(?:\(?\d+\s*[.):]+\s*)?")  # between two identifiers of a chain; "> 2. ["
# "[3] > [1", "1. [3]", "Ranking: [3]", "Passage [3]"
_BEGINS_AS_A_LIST = re.compile(
    r"[\s*#]*(?:[A-Z]\w*\s+(?=\[)|[A-Z][\w ]{0,40}:[\s*]*)?(?:\(?\d+\s*[.):]+\s*)?(?:\[\s*\d|\[[A-Z]\]|\d+\s*[\]>,])"
)
_DIGITS = re.compile(r"\d+")
_LETTER = re.compile(r"\[([A-Z])\]")
# "[2] 7", "[2]: 7/10", and with words between them "[2] Total score: 7"; all on one line.
_GRADE = re.compile(r"\[\s*(\d+)\s*\]([^\d\[\]\n]{0,40})(\d+(?:\.\d+)?)")

TOP_GRADE = 10

Identifiers = Literal["brackets", "digits"]
Untagged = Literal["identity", "mention_order"]


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a completion. ``answer`` is None if the thought never ended."""

    reasoning: str
    answer: str | None
    tagged: bool


def split(text: str, *, cut: bool = False) -> Parts:
    """Separate reasoning from answer. ``cut``: the token limit ended the thought.

    The last answer tag counts, closed or not. Without one, the text after the last closed thought is the answer; an open
    thought has no answer.
    """
    tags = [(match.group().lower(), match) for match in _TAG.finditer(text)]
    opened = next((match for tag, match in reversed(tags) if tag == OPEN_ANSWER), None)
    closed = next((match for tag, match in reversed(tags) if tag == CLOSE_THINK), None)
    if opened:
        end = next((m.start() for tag, m in tags if tag == CLOSE_ANSWER and m.start() > opened.start()), len(text))
        return Parts(_untag(text[: opened.start()]), text[opened.end() : end], tagged=True)
    if closed:
        return Parts(_untag(text[: closed.start()]), text[closed.end() :], tagged=False)
    if cut or any(tag == OPEN_THINK for tag, _ in tags):
        return Parts(_untag(text), None, tagged=False)
    return Parts("", text, tagged=False)


def was_cut(completion: Completion, *, tags: bool) -> bool:
    """Whether a text without any tag is a cut thought rather than an answer.

    Without ``tags`` in the prompt it can be either, since a chat template may have opened the thought: it is an answer if it
    begins with a list, after at most a few words.
    """
    if completion.finish_reason != "length":
        return False
    return tags or not _BEGINS_AS_A_LIST.match(completion.text)


def parts_of(completion: Completion, *, tags: bool) -> Parts:
    """Split a completion into its parts. ``tags``: the prompt asks for an answer tag."""
    return split(completion.text, cut=was_cut(completion, tags=tags))


def resumed(prefill: str, completion: Completion) -> Completion:
    """Prepend the tag that ``prefill`` opened, with the text after it, to the completion that continues it."""
    begun = _TAG.search(prefill)
    if begun is None or not completion.text.strip():
        return completion
    return replace(completion, text=prefill[begun.start() :] + completion.text)


def identifiers(answer: str, how: Identifiers = "brackets") -> list[int]:
    """Return the identifiers in an answer, in order, as written (from 1, with repeats and numbers out of range).

    ``brackets`` reads numbers in brackets or beside ``>``: none in "the top 10 of 20", one in "1. [3]". If the answer is only
    a list without brackets, it reads all numbers except those of the lines (1, 2, 3). ``digits`` reads every run of digits,
    as the published rerankers do; as there, a digit that is not decimal (a superscript) invalidates the answer.
    """
    if how == "digits":
        runs = "".join(c if c.isdigit() else " " for c in answer).split()
        return [_number(run) for run in runs] if all(run.isdecimal() for run in runs) else []
    if _ONLY_A_LIST.match(answer) and (_TOGETHER.search(answer) or not _BRACKETED.search(answer)):
        return [_number(run) for run in _DIGITS.findall(_unnumbered(answer))]
    return [_named(match) for match in _IDENTIFIER.finditer(answer)]


def order_of(answer: str, how: Identifiers = "brackets") -> list[int]:
    """Return the identifiers of the order in an answer: like ``identifiers``, but for answers that contain prose.

    In prose, chains such as ``[2] > [1]`` give the order, and other mentions are ignored. If chains contradict one another,
    the longest counts; ties: the last.
    """
    named = identifiers(answer, how)
    if how == "digits" or _ONLY_A_LIST.match(answer):
        return named
    chains = [chain for chain in _chains(answer) if len(chain) > 1]
    listed = [i for chain in chains for i in chain]
    if len(set(listed)) == sum(len(set(chain)) for chain in chains):
        return listed or named
    return max(reversed(chains), key=len)


def letters(answer: str) -> list[int]:
    """Return the letter identifiers in an answer, in order, as numbers from 1: 2, 1 for ``[B] > [A]``."""
    return [ord(letter) - ord("A") + 1 for letter in _LETTER.findall(answer)]


def permutation(ids: Sequence[int], n: int) -> tuple[tuple[int, ...], int, str]:
    """Turn ``ids`` (from 1) into a permutation of ``n`` positions (from 0): drop ids out of range and repeats, append the rest.

    Returns the order, the number of appended positions, and a description of the faults.
    """
    inside = [i - 1 for i in ids if 1 <= i <= n]
    given = list(dict.fromkeys(inside))
    missing = sorted(set(range(n)).difference(given))
    faults = {"out of range": len(ids) - len(inside), "repeated": len(inside) - len(given), "missing": len(missing)}
    return (*given, *missing), len(missing), ", ".join(f"{count} {what}" for what, count in faults.items() if count)


def read_permutation(
    completion: Completion,
    n: int,
    *,
    tags: bool = True,
    how: Identifiers = "brackets",
    untagged: Untagged = "identity",
) -> Judgement:
    """Read the order of ``n`` passages from a completion; the order shown, with a bad status, if there is none.

    ``tags``: the prompt asks for an answer tag. ``untagged`` says how to read a thought that never ended: not at all
    (``identity``), or as the order in which it mentions numbers (``mention_order``, ReasonRank's published code).
    """
    kept = tuple(range(n))
    if bad := unanswered(completion):
        return Judgement(kept, bad, filled=n, detail=completion.error or "")
    parts = parts_of(completion, tags=tags)
    answer, detail = parts.answer, ""
    if answer is None:
        if untagged == "identity":
            return Judgement(kept, Status.TRUNCATED, parts.reasoning, n, detail="the thought was cut")
        answer, how, detail = completion.text, "digits", "ids in order of mention in a cut thought"
    elif tags and not parts.tagged:
        detail = "no answer tag"
    ids = order_of(answer, how)
    order, filled, faults = permutation(ids, n)
    if filled == n:
        return Judgement(kept, Status.EMPTY, parts.reasoning, n, detail="no id of a shown passage in the answer")
    detail = ", ".join(filter(None, (detail, faults)))
    return Judgement(order, Status.REPAIRED if detail else Status.OK, parts.reasoning, filled, detail=detail)


def read_label(completion: Completion, n: int, *, tags: bool = True) -> tuple[int | None, Judgement]:
    """Read the single label among ``n`` passages: its position (from 0) or None, and a judgement with the order shown.

    The published rule accepts only ``[3]`` as the answer (Rank-R1, section 3.1). Here an answer that names one shown passage
    in another form counts as repaired; an answer that names several is unreadable.
    """
    kept = tuple(range(n))
    if bad := unanswered(completion):
        return None, Judgement(kept, bad, filled=n, detail=completion.error or "")
    parts = parts_of(completion, tags=tags)
    if parts.answer is None:
        return None, Judgement(kept, Status.TRUNCATED, parts.reasoning, n, detail="the thought was cut")
    named = {i - 1 for i in identifiers(parts.answer) if 1 <= i <= n}
    if len(named) != 1:
        detail = "several labels in the answer" if named else "no label of a shown passage in the answer"
        return None, Judgement(kept, Status.EMPTY, parts.reasoning, n, detail=detail)
    [position] = named
    exact = parts.answer.strip() == f"[{position + 1}]" and parts.tagged >= tags
    detail = "" if exact else "a label in another form"
    return position, Judgement(kept, Status.OK if exact else Status.REPAIRED, parts.reasoning, detail=detail)


def read_grades(completion: Completion, n: int, *, tags: bool = True) -> Judgement:
    """Read grades from 0 to 10 for ``n`` texts, one per line (``[2] 7``), and order the texts by them.

    The first grade of a text counts. Texts without a grade come last, as filled in.
    """
    kept = tuple(range(n))
    if bad := unanswered(completion):
        return Judgement(kept, bad, filled=n, detail=completion.error or "")
    parts = parts_of(completion, tags=tags)
    if parts.answer is None:
        return Judgement(kept, Status.TRUNCATED, parts.reasoning, n, detail="the thought was cut")
    lines = [(_number(i) - 1, words, float(grade)) for i, words, grade in _GRADE.findall(parts.answer)]
    inside = [line for line in lines if 0 <= line[0] < n and line[2] <= TOP_GRADE]
    grades = {position: grade for position, _, grade in reversed(inside)}
    if not grades:
        return Judgement(kept, Status.EMPTY, parts.reasoning, n, detail="no grade of a shown text in the answer")
    order = (*sorted(sorted(grades), key=lambda i: -grades[i]), *(i for i in kept if i not in grades))
    faults = {
        "out of range": len(lines) - len(inside),
        "repeated": len(inside) - len(grades),
        "in another form": sum(bool(words.strip(" \t:=>-")) for _, words, _ in inside),
        "missing": n - len(grades),
    }
    said = [f"{count} {what}" for what, count in faults.items() if count]
    detail = ", ".join(["no answer tag"] * (tags and not parts.tagged) + said)
    return Judgement(
        order,
        Status.REPAIRED if detail else Status.OK,
        parts.reasoning,
        n - len(grades),
        scores=tuple(grades.get(i) for i in order),
        detail=detail,
    )


def unanswered(completion: Completion) -> Status | None:
    """Return the status of a completion that no judge can read; None if there is text to read."""
    if completion.error is not None:
        return Status.ERROR
    if completion.finish_reason == "refusal":
        return Status.REFUSED
    if not completion.text.strip() and not completion.choices:
        return Status.EMPTY
    return None


def _number(digits: str) -> int:
    # A model may repeat a digit thousands of times, which int() rejects; no passage has such a number.
    return int(digits) if len(digits) < 10 else 0


def _named(match: re.Match[str]) -> int:
    return _number(next(filter(None, match.groups())))


def _chains(answer: str) -> list[list[int]]:
    """Return the identifiers of an answer as chains, each joined by arrows."""
    chains, end = list[list[int]](), 0
    for match in _IDENTIFIER.finditer(answer):
        if not chains or not _ARROW.fullmatch(answer, end, match.start()):
            chains.append([])
        chains[-1].append(_named(match))
        end = match.end()
    return chains


def _unnumbered(listed: str) -> str:
    """Remove the line numbers of a list whose lines are numbered from 1."""
    lines = [line for line in listed.splitlines() if line.strip()]
    marks = [_NUMBERED.match(line) for line in lines]
    if len(lines) < 2 or [mark and _number(mark[1]) for mark in marks] != list(range(1, len(lines) + 1)):
        return listed
    return "\n".join(line[mark.end() :] for line, mark in zip(lines, marks, strict=True) if mark)


def _untag(text: str) -> str:
    return _TAG.sub("", text).strip()
