"""Rewards of one score: ERank's, derived from the list the scores make up, and TFRank's graded label."""

from __future__ import annotations

from collections.abc import Sequence

from pyserini_reasonrank.parsing import split
from pyserini_reasonrank.train.rewards.answers import graded as graded_answer
from pyserini_reasonrank.train.rewards.rollouts import Rollout, Scored, taught

UNREADABLE, ABOVE = -1.0, -0.5


def score_of(rollout: Rollout, top: float = 10.0) -> float | None:
    """The score an answer gives, if it is one on the scale from 0 to ``top``."""
    found = graded_answer(rollout.text)
    value = None if found is None else found.value
    return value if value is not None and value <= top else None


def target(rollout: Rollout, top: float = 10.0) -> float:
    """The score a passage should get: the teacher's, the row's grade, or the end of the scale that its gain is on.

    UsageError for a teacher's score that is not on the scale.
    """
    if teacher := taught(rollout, top):
        return teacher[0]
    if rollout.grade is not None:
        return rollout.grade
    return top if rollout.gains[0] > 0 else 0.0


def listwise_derived(
    scores: Sequence[float | None], positive: Sequence[bool], teacher: Sequence[float], *, top: float = 10.0
) -> list[float]:
    """The rewards of all rollouts of all candidates of one query, pooled: each in [-1, 1].

    ERank, arXiv 2509.00520, section 3.3; its constants are not published, these are ours. A positive gains
    1 / (1 + the number of negative rollouts strictly above it): positives do not push one another down. A negative
    above some positive is worth -0.5, any other 0.5 (1 - ((s - t) / top)^2) with the teacher's score t, and 0 if that
    is less. A score that can't be read (None) is worth -1.
    """
    negatives = [s for s, p in zip(scores, positive, strict=True) if s is not None and not p]
    lowest = min((s for s, p in zip(scores, positive, strict=True) if s is not None and p), default=None)
    rewards = []
    for score, good, target in zip(scores, positive, teacher, strict=True):
        if score is None:
            rewards.append(UNREADABLE)
        elif good:
            rewards.append(1 / (1 + sum(other > score for other in negatives)))
        elif lowest is not None and score > lowest:
            rewards.append(ABOVE)
        else:
            rewards.append(0.5 * (1 - min(((score - target) / top) ** 2, 1.0)))
    return rewards


def graded(rollout: Rollout, *, top: float = 10.0) -> Scored:
    """(the label is right + closeness of the score) / 2, in [0, 1]; closeness is 1 - |difference| / ``top``.

    After the published reward of TFRank. Answers are ``yes(3)``, ``yes`` or ``3``; the
    label of a bare number is yes from the middle of the scale on. A label that its own number contradicts leaves no
    closeness. The target is the row's ``grade``, or else its gain. TFRank's own scale ends at 4.

    A row whose ``choices`` are two words can get no score: its reward is 1 for the right word alone, else 0.
    """
    if rollout.choices and len(rollout.choices) == 2:
        return _worded(rollout, rollout.choices)
    target = rollout.gains[0] if rollout.grade is None else rollout.grade
    found = graded_answer(rollout.text)
    if found is None or (found.value is not None and found.value > top):
        return Scored(0.0, {"format": 0.0})
    implied = None if found.value is None else found.value >= top / 2
    label = implied if found.label is None else found.label
    right = label == (target >= top / 2)
    close = 0.0 if found.value is None or label != implied else max(0.0, 1 - abs(found.value - target) / top)
    return Scored((right + close) / 2, {"format": 1.0, "label": float(right), "closeness": close})


def _worded(rollout: Rollout, words: Sequence[str]) -> Scored:
    said = (split(rollout.text).answer or "").strip()
    relevant = rollout.gains[0] > 0 if rollout.grade is None else rollout.grade > 0
    right = float(said == words[not relevant])
    return Scored(right, {"format": float(said in words), "label": right})
