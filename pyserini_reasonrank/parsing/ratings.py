"""The score of one passage that a model writes at the end of its analysis, between ``<score>`` tags (Retro*)."""

from __future__ import annotations

import re
from itertools import pairwise

from pyserini_reasonrank.parsing import unanswered
from pyserini_reasonrank.parsing.grade_values import numbers_in, on_scale, the_grade
from pyserini_reasonrank.parsing.identifiers import number_of
from pyserini_reasonrank.parsing.parts import split
from pyserini_reasonrank.records import Completion, Judgement, Status

OPEN_SCORE, CLOSE_SCORE = "<score>", "</score>"

_SCORE_TAG = re.compile(r"<(/?)score>", re.IGNORECASE)
_WHOLE_NUMBER = re.compile(r"[0-9]{1,9}")
_AROUND = " \t\r\n[]()*_`\"'."
_LONGEST = 200  # characters between the tags in which a number is searched
_CUT = "the score was cut"


def read_rating(completion: Completion, top: int, *, tags: bool = True) -> Judgement:
    """Read the score of one passage, a whole number from 0 to ``top``. ``tags``: the prompt asks for a score tag.

    The last complete tag after the thought counts, else one that was never closed, else the number at the end of the answer.
    A number in another form counts as repaired; a score outside the scale, a range, and a fraction below 1 (another scale)
    are unreadable.
    """
    if bad := unanswered(completion):
        return _without(bad, "", completion.error or "")
    parts = split(completion.text)
    cut, note = completion.finish_reason == "length", parts.note
    if (text := parts.answer) is None:
        if not completion.text.rstrip().lower().endswith(CLOSE_SCORE):
            return _without(Status.TRUNCATED, parts.reasoning, "the thought was cut")
        text, note = completion.text, "the thought was not closed"
    texts, before, closed = _scores_in(text)
    if parts.answer is None:
        reasoning = split(before, cut=True).reasoning
    else:
        reasoning = "\n".join(filter(None, (parts.reasoning, before.strip())))
    if not texts and cut:
        return _without(Status.TRUNCATED, reasoning, "the answer was cut before its score")
    found = [_value(one, top, cut=cut and not closed) for one in texts or [text.removeprefix(before)]]
    score, fault = found[-1]
    if score is None:
        return _without(Status.TRUNCATED if fault == _CUT else Status.EMPTY, reasoning, fault)
    faults = {
        note: bool(note),
        "no score tag": tags and not texts,
        "several scores": len({value for value, _ in found}) > 1,
        fault: bool(fault),
    }
    detail = ", ".join(said for said, there in faults.items() if there)
    return Judgement((0,), Status.REPAIRED if detail else Status.OK, reasoning, score=score, detail=detail)


def _scores_in(text: str) -> tuple[list[str], str, bool]:
    """Return what is between score tags, the text before the last of them, and whether they are closed.

    An open tag counts only if none is closed. Without a tag, the text before the last line.
    """
    tags = list(_SCORE_TAG.finditer(text))
    closed = [(a, b) for a, b in pairwise(tags) if not a[1] and b[1]]
    if closed:
        return [text[a.end() : b.start()] for a, b in closed], text[: closed[-1][0].start()], True
    if tags and not tags[-1][1]:
        return [text[tags[-1].end() :]], text[: tags[-1].start()], False
    above = text.rstrip().rpartition("\n")
    return [], above[0] + above[1], False


def _value(text: str, top: int, *, cut: bool) -> tuple[float | None, str]:
    """Return the score in a text and what is odd about it; None, and why, without one. ``cut``: its last number is cut."""
    inner = text.strip()
    if cut and text[-1:].isdecimal():
        return None, _CUT
    if _WHOLE_NUMBER.fullmatch(inner):
        score, fault = float(number_of(inner)), ""
    else:
        short = inner.strip(_AROUND)[:_LONGEST]
        value = the_grade(short, numbers_in(short))
        if value is None:
            return None, _CUT if cut else "no clear score in the answer"
        score, fault = on_scale(value, top), "a score in another form"
    if not 0 <= score <= top:
        return None, f"the score is outside 0 to {top}"
    if 0 < score < 1:
        return None, f"the score is below 1: another scale than 0 to {top}"
    return score, fault


def _without(status: Status, reasoning: str, detail: str) -> Judgement:
    return Judgement((0,), status, reasoning, filled=1, detail=detail)
