"""Right and wrong answers to a training row, without tags, from its labels."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

POSITIONS = 10  # ranks of a permutation that count; the tail is noise


def right_orders(gains: Sequence[float], count: int, seed: int, positions: int = POSITIONS) -> list[tuple[int, ...]]:
    """Up to ``count`` different orders by falling gain, as positions from 0, cut after ``positions`` ranks.

    Ties are shuffled: orders that differ only within a tie are equally right.
    """
    chance = random.Random(seed)
    found: dict[tuple[int, ...], None] = {}
    for _ in range(count):
        order = sorted(range(len(gains)), key=lambda i: (-gains[i], chance.random()))
        found[tuple(order[:positions])] = None
    return list(found)


def right_answer(row: Mapping[str, Any]) -> str:
    """The right answer to a row with the columns ``kind``, ``gains``, ``grade`` and ``choices``."""
    gains = row["gains"]
    if row["kind"] == "score":
        words = two_words(row.get("choices"))
        return word_for(words, is_relevant(gains[0], row.get("grade"))) if words else f"{_target(row):g}"
    if row["kind"] == "worst":
        return _label(row, gains.index(min(gains)))
    [order] = right_orders(gains, 1, seed=0, positions=len(gains))
    return f"[{order[0] + 1}]" if row["kind"] == "best" else " > ".join(f"[{i + 1}]" for i in order)


def wrong_answer(row: Mapping[str, Any]) -> str | None:
    """A wrong answer to a row that asks for one label or for one of two words; None for other rows."""
    gains = row["gains"]
    if row["kind"] == "score":
        words = two_words(row.get("choices"))
        return word_for(words, not is_relevant(gains[0], row.get("grade"))) if words else None
    wrong = {"best": min, "worst": max}.get(row["kind"])
    return _label(row, gains.index(wrong(gains))) if wrong else None


def two_words(choices: Sequence[str] | None) -> Sequence[str] | None:
    """The ``choices`` of a binary question, the word for "relevant" first; None for a graded scale."""
    return choices if choices and len(choices) == 2 else None


def word_for(words: Sequence[str], relevant: bool) -> str:
    """The word of :func:`two_words` that says whether a passage is relevant."""
    return words[0] if relevant else words[1]


def is_relevant(gain: float, grade: float | None) -> bool:
    """Whether the passage of a row is relevant: by the row's ``grade`` if it has one, else by its ``gain``."""
    return (gain if grade is None else grade) > 0


def _label(row: Mapping[str, Any], place: int) -> str:
    """The label of a passage: its name in ``choices``, or its number."""
    return str(row["choices"][place]) if row.get("choices") else f"[{place + 1}]"


def _target(row: Mapping[str, Any]) -> float:
    return float(row["gains"][0] if row.get("grade") is None else row["grade"])
