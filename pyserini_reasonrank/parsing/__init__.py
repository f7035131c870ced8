"""The parser of completions: from text to reasoning, answer, identifiers and status. Serving and rewards both use it.

A completion is an optional ``<think>...</think>`` and the answer, in ``<answer>...</answer>`` if the prompt asks for tags
(ReasonRank, arXiv 2508.07050, Fig. 12), otherwise bare (RankGPT). An answer is a list of identifiers, ``[2] > [1]``; a single
one, ``[2]``; or an identifier and a grade per line, ``[2] 7``, or all of them in a JSON object, ``{"[2]": 7}``.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace
from itertools import takewhile
from typing import Literal

from pyserini_reasonrank.parsing.answer_lists import cut_last, labels_of, order_of, permutation
from pyserini_reasonrank.parsing.grade_values import TOP_GRADE, graded
from pyserini_reasonrank.parsing.identifiers import Identifiers, identifiers, only_a_list, uniform
from pyserini_reasonrank.parsing.parts import OPEN_ANSWER, Parts, parts_of
from pyserini_reasonrank.parsing.structured import grades_in
from pyserini_reasonrank.records import Completion, Judgement, Status

_NEGATED = re.compile(r"\b(?:not|except|unlike|neither|nor|than)\b[^.\[\]]{0,20}\[\s?\d", re.IGNORECASE)
_QUOTED_TAG = re.compile(r"[‹<]/?answer[›>]", re.IGNORECASE)
_LABEL = re.compile(r"^[\s*#]*(?:final )?(?:answer|ranking|order)[\s*]*:[\s*]*", re.IGNORECASE)
_FEWEST_AT_THE_END = 3  # passages of which an incomplete list at the end of the reasoning may be the answer
_AT_THE_END = "the answer is at the end of the reasoning"
_MISPLACED = (
    "the answer after the reasoning is empty; a server's reasoning parser may have taken the answer for reasoning"
)

Untagged = Literal["identity", "mention_order"]
GradesForm = Literal["lines", "json"]


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
    parts = _or_end_of_reasoning(parts_of(completion, tags=tags))
    answer, detail = parts.answer, ""
    if answer is None:
        if untagged == "identity":
            return Judgement(kept, Status.TRUNCATED, parts.reasoning, n, detail="the thought was cut")
        answer, how = completion.text.rpartition(OPEN_ANSWER)[2], "digits"
        detail = "ids in order of mention in a cut thought"
    elif tags and not parts.tagged:
        detail = "no answer tag"
    ids = order_of(answer, n, how)
    if how == "brackets" and _limited(completion, answer):
        ids = cut_last(ids, answer, n)
    order, filled, faults = permutation(ids, n)
    if parts.note == _AT_THE_END and filled and (2 * filled > n or n < _FEWEST_AT_THE_END):
        return Judgement(kept, Status.EMPTY, parts.reasoning, n, detail=_MISPLACED)
    if filled == n:
        detail = _unreadable(parts, "no readable order of the shown passages in the answer" if ids or identifiers(answer, how)
                             else "no id of a shown passage in the answer")  # fmt: skip
        return Judgement(kept, Status.EMPTY, parts.reasoning, n, detail=detail)
    detail = ", ".join(filter(None, (parts.note, detail, faults)))
    return Judgement(order, Status.REPAIRED if detail else Status.OK, parts.reasoning, filled, detail=detail)


def read_label(completion: Completion, n: int, *, tags: bool = True) -> tuple[int | None, Judgement]:
    """Read the single label among ``n`` passages: its position (from 0) or None, and a judgement with the order shown.

    The published rule accepts only ``[3]`` as the answer (Rank-R1, section 3.1). Here an answer that names one shown passage
    in another form counts as repaired; an answer that names several is unreadable.
    """
    kept = tuple(range(n))
    if bad := unanswered(completion):
        return None, Judgement(kept, bad, filled=n, detail=completion.error or "")
    parts = _or_end_of_reasoning(parts_of(completion, tags=tags))
    if parts.answer is None:
        return None, Judgement(kept, Status.TRUNCATED, parts.reasoning, n, detail="the thought was cut")
    labels = labels_in(completion, parts.answer, n)
    named = {i - 1 for i in labels if 1 <= i <= n}
    negated = _NEGATED.search(parts.answer) is not None
    if len(named) != 1 or negated:
        detail = "several labels in the answer" if named else "no label of a shown passage in the answer"
        detail = _unreadable(parts, "a label after a negation" if negated else detail)
        return None, Judgement(kept, Status.EMPTY, parts.reasoning, n, detail=detail)
    [position] = named
    exact = parts.answer.strip() == f"[{position + 1}]" and parts.tagged >= tags
    detail = parts.note or ("" if exact else "a label in another form")
    return position, Judgement(kept, Status.REPAIRED if detail else Status.OK, parts.reasoning, detail=detail)


def labels_in(completion: Completion, answer: str, n: int) -> list[int]:
    """Return the identifiers (from 1) in the answer part of a completion, without one that the token limit cut."""
    labels = labels_of(answer)
    return cut_last(labels, answer, n) if _limited(completion, answer) else labels


def read_grades(completion: Completion, n: int, *, tags: bool = True, form: GradesForm = "lines") -> Judgement:
    """Read grades from 0 to 10 for ``n`` texts, one per line (``[2] 7``), and order the texts by them.

    ``form`` is what the prompt asks for. Grades in JSON are read for both; where JSON is expected, other grades count as
    repaired. The first grade of a text counts. Texts without a grade come last, as filled in. One grade outside the scale,
    or one that is unclear, makes the whole answer unreadable: the other grades may be on another scale too. So do fractions
    that are all below 1. "70/100" and "70%" are converted.
    """
    kept = tuple(range(n))
    if bad := unanswered(completion):
        return Judgement(kept, bad, filled=n, detail=completion.error or "")
    parts = _or_end_of_reasoning(parts_of(completion, tags=tags))
    if parts.answer is None:
        return Judgement(kept, Status.TRUNCATED, parts.reasoning, n, detail="the thought was cut")
    found, unclear = graded(parts.answer, cut=_limited(completion, parts.answer))
    inside = [grade for grade in found if 0 <= grade.position < n]
    grades = {grade.position: grade.grade for grade in reversed(inside)}
    fault = _fault_of(grades.values(), unclear)
    if not fault and parts.note == _AT_THE_END and len(grades) < n:
        fault = _MISPLACED
    if fault:
        return Judgement(kept, Status.EMPTY, parts.reasoning, n, detail=_unreadable(parts, fault))
    order = (*sorted(sorted(grades), key=lambda i: -grades[i]), *(i for i in kept if i not in grades))
    faults = {
        "out of range": len(found) - len(inside),
        "repeated": len(inside) - len(grades),
        "in another form": sum(grade.other_form for grade in inside),
        "missing": n - len(grades),
    }
    said = [f"{count} {what}" for what, count in faults.items() if count]
    said = ["not JSON"] * (form == "json" and grades_in(parts.answer) is None) + said
    said = [parts.note] * bool(parts.note) + ["no answer tag"] * (tags and not parts.tagged) + said
    detail = ", ".join(said)
    return Judgement(
        order,
        Status.REPAIRED if detail else Status.OK,
        parts.reasoning,
        n - len(grades),
        scores=tuple(grades.get(i) for i in order),
        detail=detail,
    )


def _or_end_of_reasoning(parts: Parts) -> Parts:
    """Return the parts with the lists that end the reasoning as the answer if there is no other answer.

    A reasoning parser of a server that misses the end of the thought takes the answer for reasoning.
    """
    if parts.answer is None or parts.answer.strip() or not parts.reasoning:
        return parts
    lines = [line for line in _QUOTED_TAG.sub("", parts.reasoning).splitlines() if line.strip()]
    listed = list(takewhile(_holds_a_list, (_LABEL.sub("", line) for line in reversed(lines))))
    if "[" not in "".join(listed):
        return parts
    return replace(parts, answer="\n".join(reversed(listed)), tagged=True, note=_AT_THE_END)


def _holds_a_list(line: str) -> bool:
    return only_a_list(uniform(line)) and any(character.isdecimal() for character in line)


def unanswered(completion: Completion) -> Status | None:
    """Return the status of a completion that no judge can read; None if there is text to read."""
    if completion.error is not None:
        return Status.ERROR
    if completion.finish_reason == "refusal":
        return Status.REFUSED
    if not completion.text.strip() and not completion.choices:
        return Status.EMPTY
    return None


def _limited(completion: Completion, answer: str) -> bool:
    """Whether the token limit ended the answer, so that its last number may be cut."""
    return completion.finish_reason == "length" and completion.text.endswith(answer)


def _unreadable(parts: Parts, otherwise: str) -> str:
    """Return why an answer can't be read."""
    return _MISPLACED if parts.reasoning and not (parts.answer or "").strip() else otherwise


def _fault_of(grades: Collection[float], unclear: int) -> str:
    """Return why no grade of an answer can be used; "" if all are on the scale and clear."""
    outside = sum(not 0 <= grade <= TOP_GRADE for grade in grades)
    if outside or unclear:
        return f"{outside} grades outside 0 to {TOP_GRADE}, {unclear} unclear: no grade of the answer is used"
    if grades and max(grades) <= 1 and any(0 < grade < 1 for grade in grades):
        return f"all grades are at most 1: another scale than 0 to {TOP_GRADE}"
    return "" if grades else "no grade of a shown text in the answer"
