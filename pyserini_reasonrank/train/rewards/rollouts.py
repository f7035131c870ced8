"""From TRL's batch to single rollouts and back: columns in, one reward each out, with what has to be counted.

TRL calls a reward with ``prompts``, ``completions`` and every column of the data set, each a list with one entry a
completion, and takes None for "no reward": that completion then has no say in its group.
"""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.parsing import CLOSE_THINK, OPEN_THINK

log = logging.getLogger(__name__)

Rewards = list[float | None]
Turns = str | Sequence[Mapping[str, Any]]
SAME = 1e-9  # rewards of a group closer than this teach nothing


@dataclass(frozen=True, slots=True)
class Rollout:
    """One completion, prefill included, and the row it answers (see ``rows.Row``)."""

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
    """A reward, and the parts that it is made of, for the log."""

    reward: float
    parts: Mapping[str, float] = field(default_factory=dict)


def rollouts(completions: Sequence[Turns], columns: Mapping[str, Any]) -> list[Rollout]:
    """The batch, one by one. UsageError if the data set lacks the columns that every reward needs."""
    if missing := {"docids", "gains"}.difference(columns):
        raise UsageError(
            f"the training data have no column {' or '.join(sorted(missing))}; write them with `train data`"
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
                text=begun(prefill or "") + spoken(completion),
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


def taught(rollout: Rollout, top: float) -> tuple[float, ...] | None:
    """The teacher's scores, if there are any. UsageError for one that is not on the scale from 0 to ``top``."""
    strays = [score for score in rollout.teacher or () if score < 0 or score > top]
    if strays:
        raise UsageError(
            f"the teacher's score {strays[0]:g} in the rows of query {rollout.qid} is not on the scale from 0 to {top:g} "
            f"that answers are on: write the rows again, with `train data --teacher_scale '[LEAST, MOST]'`, or set the "
            f"reward's top"
        )
    return rollout.teacher


def begun(prefill: str) -> str:
    """What a prefill has the model say. Words that lead in to a thought are not part of the answer's form."""
    return prefill[prefill.rfind(OPEN_THINK) :] if OPEN_THINK in prefill else prefill


def spoken(completion: Turns) -> str:
    """The words of a completion. A thought that a chat template's parser has set apart goes back in its tags."""
    if isinstance(completion, str):
        return completion
    turn = completion[0]
    thought = turn.get("reasoning_content")
    return (f"{OPEN_THINK}{thought}{CLOSE_THINK}\n" if thought else "") + (turn.get("content") or "")


def each(
    name: str, completions: Sequence[Turns], columns: Mapping[str, Any], score: Callable[[Rollout], Scored]
) -> Rewards:
    """The reward of every completion on its own."""
    batch = rollouts(completions, columns)
    return settle(name, batch, [score(rollout) for rollout in batch], columns)


def settle(name: str, batch: Sequence[Rollout], scored: Sequence[Scored], columns: Mapping[str, Any]) -> Rewards:
    """The rewards as TRL wants them, a NaN as None; parts, groups without contrast and NaN go to its log."""
    rewards: Rewards = [s.reward if math.isfinite(s.reward) else None for s in scored]
    if lost := sum(reward is None for reward in rewards):
        qids = sorted({r.qid for r, reward in zip(batch, rewards, strict=True) if reward is None})
        log.warning("%s: %d of %d completions have no finite reward (queries %s)", name, lost, len(batch), qids[:5])
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
    """How many groups have no two different rewards, so that nothing can be learnt from them, and of how many.

    A group is the rollouts of one prompt; one with a single rollout in this batch is not judged.
    """
    members: dict[Hashable, list[float | None]] = defaultdict(list)
    for group, reward in zip(groups, rewards, strict=True):
        members[group].append(reward)
    judged = [[r for r in found if r is not None] for found in members.values() if len(found) > 1]
    return sum(not found or max(found) - min(found) < SAME for found in judged), len(judged)
