"""From TRL's batch to single rollouts, and from single rewards back to the batch, with the parts for TRL's log.

TRL calls a reward function with ``prompts``, ``completions`` and every column of the data set: lists with one entry for
each completion. None means "no reward": that completion is left out of its group.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.parsing.parts import CLOSE_THINK, OPEN_THINK

Rewards = list[float | None]
Turns = str | Sequence[Mapping[str, Any]]
SAME = 1e-9  # rewards of a group closer than this count as equal


@dataclass(frozen=True, slots=True)
class Rollout:
    """One completion with its prefill, and the columns of its row (see ``rows.Row``)."""

    text: str
    gains: tuple[float, ...]
    docids: tuple[str, ...] = ()
    tags: bool = True
    kind: str = "permutation"
    qid: str = ""
    gold: tuple[int, ...] | None = None
    grade: float | None = None
    choices: tuple[str, ...] | None = None
    teacher: tuple[float, ...] | None = None

    @property
    def n(self) -> int:
        return len(self.gains)


@dataclass(frozen=True, slots=True)
class Scored:
    """A reward and its parts for the log."""

    reward: float
    parts: Mapping[str, float] = field(default_factory=dict)


def rollouts(completions: Sequence[Turns], columns: Mapping[str, Any]) -> list[Rollout]:
    """The rollouts of a batch. UsageError if the data set lacks the columns that every reward needs."""
    if missing := {"docids", "gains"}.difference(columns):
        raise UsageError(
            f"the training data lack the column {' and '.join(sorted(missing))}: write them with `train data`"
        )
    empty: list[Any] = [None] * len(completions)

    def column(name: str) -> Sequence[Any]:
        values: Sequence[Any] = columns.get(name, empty)
        return values

    made = []
    for completion, docids, gains, prefill, tags, kind, qid, gold, grade, choices, teacher in zip(
        completions,
        *map(column, ("docids", "gains", "prefill", "tags", "kind", "qid", "gold", "grade", "choices", "teacher")),
        strict=True,
    ):
        places = {docid: place for place, docid in enumerate(docids)}
        made.append(
            Rollout(
                text=answer_start(prefill or "") + completion_text(completion),
                gains=tuple(gains),
                docids=tuple(docids),
                tags=tags is not False,
                kind=kind or "permutation",
                qid=qid or "",
                gold=tuple(places[docid] for docid in gold) if gold else None,
                grade=grade,
                choices=tuple(choices) if choices else None,
                teacher=tuple(teacher) if teacher else None,
            )
        )
    return made


def teacher_scores(rollout: Rollout, top: float) -> tuple[float, ...] | None:
    """The teacher's scores, or None. UsageError for a score that is not on the scale from 0 to ``top``."""
    strays = [score for score in rollout.teacher or () if score < 0 or score > top]
    if strays:
        raise UsageError(
            f"the teacher's score {strays[0]:g} in the rows of query {rollout.qid} is not on the scale from 0 to {top:g} "
            f"that answers use: write the rows again with `train data --teacher_scale '[LOWEST, HIGHEST]'`, or set the "
            f"reward's top"
        )
    return rollout.teacher


def answer_start(prefill: str) -> str:
    """The part of a prefill that belongs to the answer. Words before an opened thought do not count for the format."""
    return prefill[prefill.rfind(OPEN_THINK) :] if OPEN_THINK in prefill else prefill


def completion_text(completion: Turns) -> str:
    """The text of a completion. Reasoning that a chat template's parser separated is put back into its tags."""
    if isinstance(completion, str):
        return completion
    turn = completion[0]
    thought = turn.get("reasoning_content")
    return (f"{OPEN_THINK}{thought}{CLOSE_THINK}\n" if thought else "") + (turn.get("content") or "")


def prompt_text(prompt: Turns, prefill: str) -> str:
    """The text of a prompt. A prompt as text ends with its prefill already; the prefill follows the turns of any other."""
    return prompt if isinstance(prompt, str) else "\n".join([*(turn["content"] for turn in prompt), prefill])


def each(
    name: str, completions: Sequence[Turns], columns: Mapping[str, Any], score: Callable[[Rollout], Scored]
) -> Rewards:
    """Reward each completion independently with ``score``."""
    batch = rollouts(completions, columns)
    return settle(name, batch, [score(rollout) for rollout in batch], columns)


def settle(name: str, batch: Sequence[Rollout], scored: Sequence[Scored], columns: Mapping[str, Any]) -> Rewards:
    """The rewards for TRL, NaN and infinity as None.

    TRL's log gets the mean of each part, and the shares of groups with equal rewards and of completions without a reward.
    """
    rewards: Rewards = [s.reward if math.isfinite(s.reward) else None for s in scored]
    lost = sum(reward is None for reward in rewards)
    if record := columns.get("log_metric"):
        parts: dict[str, list[float]] = defaultdict(list)
        for s in scored:
            for part, value in s.parts.items():
                parts[part].append(value)
        for part, values in parts.items():
            record(f"{name}/{part}", fmean(values))
        flat, groups = flat_groups(((r.qid, r.docids) for r in batch), rewards)
        record(f"{name}/flat_groups", flat / groups if groups else 0.0)
        record(f"{name}/no_reward", lost / len(batch) if batch else 0.0)
    return rewards


def flat_groups(groups: Iterable[Hashable], rewards: Rewards) -> tuple[int, int]:
    """The number of groups whose rewards are all equal (no learning signal), and the number of groups.

    A group is the rollouts of one prompt. Groups with a single rollout in this batch are not counted.
    """
    members: dict[Hashable, list[float | None]] = defaultdict(list)
    for group, reward in zip(groups, rewards, strict=True):
        members[group].append(reward)
    judged = [[r for r in found if r is not None] for found in members.values() if len(found) > 1]
    return sum(not found or max(found) - min(found) < SAME for found in judged), len(judged)
