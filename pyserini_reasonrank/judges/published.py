"""The parsers of the releases, rule by rule, for runs that reproduce published figures.

They accept less than our own parsers in some answers (Rank-R1's label must stand alone) and more in others (ReasonRank ranks by
every number in an answer that has no tags). ``parser`` of a judge selects one; ``--rerank.as published`` does so for a
checkpoint with a release.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from math import isfinite
from statistics import fmean
from typing import Literal

from pyserini_reasonrank.judges.matching import LCS_SHARE, lcs, tf_idf
from pyserini_reasonrank.parsing import unanswered
from pyserini_reasonrank.parsing.answer_lists import permutation
from pyserini_reasonrank.parsing.parts import CLOSE_ANSWER, CLOSE_THINK, OPEN_ANSWER, OPEN_THINK, split
from pyserini_reasonrank.records import Completion, Judgement, Status

LabelParser = Literal["careful", "rank-r1", "setwise-sft"]
PermutationParser = Literal["careful", "reasonrank"]
ScoreParser = Literal["careful", "rank1"]
WorstParser = Literal["careful", "iranker"]
GradesParser = Literal["careful", "grouprank"]
RatingParser = Literal["careful", "retro-star"]

UNREAD_SCORE = 0.5
"""The score that Rank1's release gives to a passage without a readable answer."""
TAIL = 40
"""Characters at the end of an untagged answer in which IRanker's release searches a label."""
_SENTENCE_ENDS = ".!?"

_ANSWER = rf"{OPEN_ANSWER}(.*?){CLOSE_ANSWER}"
_FIRST_ANSWER = re.compile(_ANSWER, re.DOTALL)
_ANSWER_AFTER_THOUGHT = re.compile(rf"{OPEN_THINK}.*?{CLOSE_THINK}\s*{_ANSWER}", re.DOTALL)
_STRIPPED_ANSWER = re.compile(rf"{OPEN_ANSWER}\s*(.*?)\s*{CLOSE_ANSWER}", re.DOTALL)
_STRICT_ANSWER = re.compile(rf"{OPEN_ANSWER}\n(.*?)\n{CLOSE_ANSWER}", re.DOTALL)
_WORD = re.compile(r"\b\w\w+\b")
_FENCE, _JSON_FENCE = "```", "```json"
_BRACKET_TOO_MANY = re.compile(r"(\[\d+\])\]")
_MOST_DIGITS = 9
_RETRO_STAR_SCORE = re.compile(r"<score>\s*(\d+)\s*</score>")
_LABEL = {"rank-r1": _ANSWER_AFTER_THOUGHT, "setwise-sft": _FIRST_ANSWER}


def read_reasonrank(completion: Completion, n: int) -> Judgement:
    """Read the order of ``n`` passages as ReasonRank's release does.

    The answer is the first answer block directly after a closed thought, in any case of letters; without one, the text after
    the last ``<answer>``; without that, the whole completion. Every run of digits in it is an identifier. A digit
    that is not decimal (a superscript) makes the answer unreadable. An unreadable answer keeps the order shown.
    """
    kept = tuple(range(n))
    if bad := unanswered(completion):
        return Judgement(kept, bad, filled=n, detail=completion.error or "")
    thought = split(completion.text, cut=True).reasoning
    answer, detail = _reasonrank_answer(completion.text)
    try:
        named = [int(run) for run in digit_runs(answer)]
    except ValueError:
        return Judgement(kept, Status.EMPTY, thought, n, detail="a digit in the answer is not decimal")
    order, filled, faults = permutation(named, n)
    if filled == n:
        return Judgement(kept, Status.EMPTY, thought, n, detail="no id of a shown passage in the answer")
    detail = ", ".join(filter(None, (detail, faults)))
    return Judgement(order, Status.REPAIRED if detail else Status.OK, thought, filled, detail=detail)


def answer_after_thought(text: str) -> str | None:
    """Return the first answer block directly after a closed thought, tags in lower case; None if there is none."""
    block = _first(_ANSWER_AFTER_THOUGHT, text)
    return block[1] if block else None


def digit_runs(text: str) -> list[str]:
    """Return the runs of characters that Python counts as digits, which ReasonRank's release takes for identifiers."""
    return "".join(c if c.isdigit() else " " for c in text).split()


def read_label(
    completion: Completion, n: int, parser: Literal["rank-r1", "setwise-sft"]
) -> tuple[int | None, Judgement]:
    """Read the label among ``n`` passages as the releases of Rank-R1 and Setwise-SFT do: its position (from 0) or None, and
    a judgement with the order shown.

    Only ``[3]`` alone is accepted: in the first answer block (for Rank-R1, the first directly after a closed thought), or
    as the whole completion if there is no such block.
    """
    kept = tuple(range(n))
    if bad := unanswered(completion):
        return None, Judgement(kept, bad, filled=n, detail=completion.error or "")
    block = _first(_LABEL[parser], completion.text.lower())
    answer = (block[1] if block else completion.text).strip()
    judgement = Judgement(kept, Status.OK, split(completion.text, cut=block is None).reasoning)
    labels = {f"[{i + 1}]": i for i in range(n)}
    if answer in labels:
        return labels[answer], judgement
    return None, replace(
        judgement, status=Status.EMPTY, filled=n, detail="the answer is not one label of a shown passage"
    )


def ended_thought(text: str) -> str:
    """Return ``text``, which ends with a thought that was cut and a closing tag, as Rank1's release ends it: after the last
    sentence of the thought, with the tag on a line of its own.
    """
    thought = text.removesuffix(CLOSE_THINK).rstrip()
    end = max(map(thought.rfind, _SENTENCE_ENDS))
    return f"{thought if end < 0 else thought[: end + 1]}\n{CLOSE_THINK}"


def read_iranker(completion: Completion, labels: Sequence[str]) -> tuple[int | None, Judgement]:
    """Read which of ``labels`` an answer drops as IRanker's release does: its position, and a judgement with the order shown.

    The answer is the last of several answer blocks, or the only one, else the last 40 characters. It is an exact label; else
    the first label within it, around it, or with nine tenths of its letters; else the label with the likest words, the first
    of ties. Some label is always found.
    """
    n = len(labels)
    kept = tuple(range(n))
    if bad := unanswered(completion):
        return None, Judgement(kept, bad, filled=n, detail=completion.error or "")
    text = completion.text.removeprefix(OPEN_THINK).strip()
    judgement = Judgement(kept, Status.OK, split(text, cut=CLOSE_THINK not in text).reasoning)
    tagged = iranker_answer(text)
    answer = text[-TAIL:] if tagged is None else tagged
    if answer in labels:
        return labels.index(answer), judgement
    position = _likest_label(answer, labels)
    detail = "no answer tag" if tagged is None else "the answer is not exactly a label"
    return position, replace(judgement, status=Status.REPAIRED, detail=detail)


def iranker_answer(text: str) -> str | None:
    """Return the last of several answer blocks, or the only one, as IRanker's release takes it; None if there is none."""
    blocks: list[str] = _STRIPPED_ANSWER.findall(text, 0, _end_of_answers(text))
    strict = _STRICT_ANSWER.search(text) if len(blocks) == 1 else None
    return strict[1] if strict else blocks[-1].strip() if blocks else None


def read_grouprank(completion: Completion, n: int) -> Judgement:
    """Read the grades of ``n`` passages as GroupRank's release does.

    The grades are the last block fenced as JSON in the first answer block (without one, in the completion), or the last pair
    of braces. A bracket too many in a name and a missing last brace are mended. A passage that is not named has no grade.
    If the grades can't be read, or one of them is not of a passage shown, all passages have the grade 0, with a bad status.
    """
    kept = tuple(range(n))
    if completion.error is not None:
        return Judgement(kept, Status.ERROR, filled=n, detail=completion.error)
    block = _first(_FIRST_ANSWER, completion.text)
    before = completion.text[: block.start()] if block else completion.text
    thought = split(before, cut=True).reasoning
    try:
        graded = _grouprank_grades(block[1].strip() if block else completion.text, n)
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        status = unanswered(completion) or Status.EMPTY
        detail = "no readable JSON with grades of the passages shown"
        return Judgement(kept, status, thought, n, scores=(0.0,) * n, detail=detail)
    if not graded:
        return Judgement(kept, Status.EMPTY, thought, n, detail="no grade in the answer")
    grades = {position: fmean(found) for position, found in graded.items()}
    order = (*sorted(sorted(grades), key=lambda i: -grades[i]), *(i for i in kept if i not in grades))
    faults = {
        "no answer tag": block is None,
        f"{sum(map(len, graded.values())) - len(graded)} repeated": any(len(found) > 1 for found in graded.values()),
        f"{n - len(grades)} missing": len(grades) < n,
    }
    detail = ", ".join(fault for fault, there in faults.items() if there)
    scores = tuple(grades.get(i) for i in order)
    status = Status.REPAIRED if detail else Status.OK
    return Judgement(order, status, thought, n - len(grades), scores=scores, detail=detail)


def read_retro_star(completion: Completion) -> Judgement:
    """Read the score of one passage as Retro*'s release does: the first whole number alone in a score tag, else 0.

    The 0 has a bad status.
    """
    if completion.error is not None:
        return Judgement((0,), Status.ERROR, filled=1, detail=completion.error)
    found = _RETRO_STAR_SCORE.search(completion.text)
    reasoning = completion.text[: found.start()].strip() if found else ""
    if found is None or len(found[1]) > _MOST_DIGITS:
        status = unanswered(completion) or Status.EMPTY
        return Judgement((0,), status, reasoning, 1, score=0.0, detail="no whole number alone in a score tag")
    return Judgement((0,), Status.OK, reasoning, score=float(int(found[1])))


def _grouprank_grades(answer: str, n: int) -> dict[int, list[float]]:
    """Return the grades of each position that an answer names. Raises ValueError, or another of Python's errors, if it is
    not in the form that GroupRank's release reads."""
    text = _BRACKET_TOO_MANY.sub(r"\1", _grouprank_json(answer).strip())
    text += "}" * (text.count("{") > text.count("}"))
    graded: dict[int, list[float]] = {}
    for name, value in dict(json.loads(" ".join(text.split()))).items():
        number = int(name.strip().strip("[]"))
        grade = value / 1
        if not -n < number <= n or not isfinite(grade):
            raise ValueError
        position = (number - 1) % n  # 0 and less count from the last passage, as in Python
        graded.setdefault(position, []).append(float(grade))
    return graded


def _grouprank_json(answer: str) -> str:
    """Return the last block fenced as JSON, or the last pair of braces. ValueError without one."""
    found, start = "", answer.find(_JSON_FENCE)
    while start >= 0:
        begin = start + len(_JSON_FENCE)
        begin += len(answer[begin:]) - len(answer[begin:].lstrip())
        end = answer.find(_FENCE, begin + 1)
        if end < 0:
            break
        found, start = answer[begin:end], answer.find(_JSON_FENCE, end + len(_FENCE))
    if found:
        return found
    start = answer.find("{")
    while start >= 0 and (end := answer.find("}", start)) >= 0:
        found, start = answer[start : end + 1], answer.find("{", end)
    if not found:
        raise ValueError
    return found


def _likest_label(answer: str, labels: Sequence[str]) -> int:
    number_end = answer.find(". ")
    name = (answer[number_end + 2 :] if answer[:number_end].isdigit() else answer).strip()
    for position, label in enumerate(labels):
        if answer and (label in name or name in label or lcs(name, label) > LCS_SHARE * len(label)):
            return position
    words = [" ".join(_WORD.findall(text.lower())) for text in (*labels, answer)]
    *bags, asked = tf_idf(words)
    cosines = [sum(weight * asked.get(word, 0.0) for word, weight in bag.items()) for bag in bags]
    return cosines.index(max(cosines))


def _first(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """The match that ``pattern.search`` finds, in time linear in ``text``.

    A match from a later opening tag is also one from the first, and each ends with an answer's closing tag.
    """
    opening = OPEN_THINK if pattern is _ANSWER_AFTER_THOUGHT else OPEN_ANSWER
    start = text.find(opening)
    return None if start < 0 else pattern.match(text, start, _end_of_answers(text))


def _end_of_answers(text: str) -> int:
    """The end of the last closing tag of an answer; 0 if there is none."""
    place = text.rfind(CLOSE_ANSWER)
    return 0 if place < 0 else place + len(CLOSE_ANSWER)


def _reasonrank_answer(text: str) -> tuple[str, str]:
    """Return the part of a completion that holds the order, and why it is not the expected one."""
    if block := _first(_ANSWER_AFTER_THOUGHT, text.lower()):
        return block[1], ""
    _, opened, rest = text.rpartition(OPEN_ANSWER)
    if opened:
        return rest, "no answer block directly after a thought"
    return text, "no answer tag: ids in order of mention"
