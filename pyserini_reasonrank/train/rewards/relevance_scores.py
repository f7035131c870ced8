"""Rewards of a pointwise relevance score: ERank's, derived from the ranking that the scores produce, and TFRank's."""

from __future__ import annotations

from collections.abc import Sequence

from pyserini_reasonrank.parsing.parts import split
from pyserini_reasonrank.train.rewards.answers import graded as graded_answer
from pyserini_reasonrank.train.rewards.reference import is_relevant, two_words, word_for
from pyserini_reasonrank.train.rewards.rollouts import Rollout, Scored, teacher_scores

UNREADABLE, ABOVE = -1.0, -0.5


def score_of(rollout: Rollout, top: float = 10.0) -> float | None:
    """The score in an answer; None if the answer has no score on the scale from 0 to ``top``."""
    found = graded_answer(rollout.text)
    value = None if found is None else found.value
    return value if value is not None and value <= top else None


def target(rollout: Rollout, top: float = 10.0) -> float:
    """The score that a passage should get: the teacher's, else the row's grade, else ``top`` if it has a gain and 0 if not.

    UsageError for a teacher's score that is not on the scale.
    """
    if teacher := teacher_scores(rollout, top):
        return teacher[0]
    if rollout.grade is not None:
        return rollout.grade
    return top if rollout.gains[0] > 0 else 0.0


def listwise_derived(
    scores: Sequence[float | None],
    positive: Sequence[bool],
    teacher: Sequence[float],
    *,
    top: float = 10.0,
    published: bool = False,
) -> list[float]:
    """The rewards of all rollouts of all candidates of one query, pooled: each in [-1, 1].

    ERank, arXiv 2509.00520, section 3.3; the paper does not give its constants, these are ours. The reward of a positive
    is 1 / (1 + the number of negative rollouts strictly above it), so positives do not compete; with ``published`` it is
    1 / rank among all rollouts, equal scores sharing the best rank, as the paper has it. The reward of a negative
    above some positive is -0.5, that of any other negative 0.5 (1 - ((s - t) / top)^2) with the teacher's score t, at
    least 0. A score that can't be read (None) has the reward -1.
    """
    pool = [s for s in scores if s is not None]
    negatives = [s for s, p in zip(scores, positive, strict=True) if s is not None and not p]
    lowest = min((s for s, p in zip(scores, positive, strict=True) if s is not None and p), default=None)
    rewards = []
    for score, good, target in zip(scores, positive, teacher, strict=True):
        if score is None:
            rewards.append(UNREADABLE)
        elif good:
            rewards.append(1 / (1 + sum(other > score for other in (pool if published else negatives))))
        elif lowest is not None and score > lowest:
            rewards.append(ABOVE)
        else:
            rewards.append(0.5 * (1 - min(((score - target) / top) ** 2, 1.0)))
    return rewards


def graded(rollout: Rollout, *, top: float = 10.0) -> Scored:
    """The mean of label correctness and score closeness, in [0, 1]; closeness is 1 - |difference| / ``top``.

    Follows TFRank's published reward. Answers are ``yes(3)``, ``yes`` or ``3``; a bare number means yes from the middle of
    the scale. If label and number contradict each other, closeness is 0. The target is the row's ``grade``, else its
    gain. TFRank's own scale ends at 4.

    A row whose ``choices`` are two words has no score: its reward is 1 for the right word alone, else 0.
    """
    if words := two_words(rollout.choices):
        return _word_reward(rollout, words)
    target = rollout.gains[0] if rollout.grade is None else rollout.grade
    found = graded_answer(rollout.text)
    if found is None or (found.value is not None and found.value > top):
        return Scored(0.0, {"format": 0.0})
    implied = None if found.value is None else found.value >= top / 2
    label = implied if found.label is None else found.label
    right = label == (target >= top / 2)
    close = 0.0 if found.value is None or label != implied else max(0.0, 1 - abs(found.value - target) / top)
    return Scored((right + close) / 2, {"format": 1.0, "label": float(right), "closeness": close})


def _word_reward(rollout: Rollout, words: Sequence[str]) -> Scored:
    answer = (split(rollout.text).answer or "").strip()
    right = float(answer == word_for(words, is_relevant(rollout.gains[0], rollout.grade)))
    return Scored(right, {"format": float(answer in words), "label": right})
