"""RARL's response mutation (arXiv 2601.20585): a group of rollouts with equal rewards gets one answer that differs.

The mutated completion replaces the old one before rewards and log-probabilities are computed, so both belong to the new
text, and its importance ratio is clipped like any other.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import pvariance
from typing import Any

from pyserini_reasonrank.parsing.identifiers import identifiers
from pyserini_reasonrank.parsing.parts import CLOSE_ANSWER, CLOSE_THINK, OPEN_ANSWER, OPEN_THINK, split
from pyserini_reasonrank.train.rewards.answers import well_formed
from pyserini_reasonrank.train.rewards.reference import right_answer, wrong_answer
from pyserini_reasonrank.train.rewards.rollouts import answer_start

FLAT = 1e-6  # variance of a group's rewards below which they count as equal
SWAPS = 2


@dataclass(frozen=True, slots=True)
class Mutation:
    """The rollout to replace, by its place in the group, and the parts of its new completion.

    The thought can be shortened; ``bare`` is the completion without any thought.
    """

    place: int
    opening: str
    thought: str
    rest: str
    bare: str

    @property
    def text(self) -> str:
        """The new completion without the prefill."""
        return self.opening + self.thought + self.rest if self.thought else self.bare


def mutated(
    texts: Sequence[str],
    rewards: Sequence[float],
    reference: str,
    *,
    good: float,
    seed: int | str,
    prefill: str = "",
    tags: bool = True,
    wrong: str | None = None,
    scale: tuple[int, int] = (0, 10),
) -> Mutation | None:
    """The mutation of a group whose rewards are all equal; None if they differ, or if no mutation is possible.

    ``texts`` are the completions of the group, ``reference`` is the right answer without tags. If the reward is below
    ``good``, the reference replaces the answer of one rollout and the rollout keeps its thought. Otherwise the answer is
    replaced by ``wrong`` or, without it, by a copy with two adjacent swaps; a single number moves by one within
    ``scale``. The new completion continues the row's ``prefill`` and is well-formed even if the old one was not. It has
    tags if the row asks for ``tags``.
    """
    if not rewards or pvariance(rewards) >= FLAT:
        return None
    chance = random.Random(seed)
    place = chance.randrange(len(texts))
    text = answer_start(prefill) + texts[place]
    old = (split(text).answer or "").strip()
    answer = reference if rewards[place] < good else wrong or _perturbed(old, chance, scale)
    if answer == old and (well_formed(text) or not tags):
        return None
    return Mutation(place, *_completion(text, answer, prefill, tags))


def _perturbed(answer: str, chance: random.Random, scale: tuple[int, int]) -> str:
    ids = identifiers(answer)
    if len(ids) > 1:
        # distinct places, so that the swaps never undo each other
        for place in chance.sample(range(len(ids) - 1), min(SWAPS, len(ids) - 1)):
            ids[place], ids[place + 1] = ids[place + 1], ids[place]
        return " > ".join(f"[{i}]" for i in ids)
    least, most = scale

    def off_by_one(number: re.Match[str]) -> str:
        value = int(number.group())
        steps = [step for step in (-1, 1) if least <= value + step <= most]
        return str(value + chance.choice(steps or [0]))

    return re.sub(r"\d+", off_by_one, answer, count=1)


def _completion(text: str, answer: str, prefill: str, tags: bool) -> tuple[str, str, str, str]:
    """The parts of a completion with ``answer`` and the thought of ``text``. ``text`` includes the prefill."""
    if OPEN_ANSWER in prefill:
        return "", "", "", f"{answer}{CLOSE_ANSWER}"
    parts = split(text)
    thought = parts.reasoning
    if tags and not thought and not parts.tagged:  # the whole text counts as a thought
        thought = split(text + CLOSE_THINK).reasoning
    opening = "" if OPEN_THINK in prefill else OPEN_THINK
    if not tags:
        return opening, thought, f"{CLOSE_THINK}\n{answer}", answer
    rest = f"{CLOSE_THINK}\n{OPEN_ANSWER}{answer}{CLOSE_ANSWER}"
    return opening, thought, rest, opening + rest


@dataclass(frozen=True, slots=True)
class ResponseMutation:
    """Mutates completions after generation and before rewards and log-probabilities are computed.

    ``good`` is the reward from which a group counts as good, ``until`` the share of the training steps with mutation,
    and ``end`` the token that ends a turn.
    """

    good: float
    until: float
    end: int

    def __call__(self, trainer: Any, rows: Sequence[Mapping[str, Any]], found: tuple[Any, ...]) -> tuple[Any, ...]:
        """Replace at most one completion of each group in TRL's generation output ``found``, and log the share.

        Each group must be complete in this process.
        """
        step, size = trainer.state.global_step, trainer.num_generations
        if step >= self.until * trainer.state.max_steps:
            return found
        ids, texts, logprobs = found[1], found[3], found[4]
        totals = self._rewards(trainer, rows, texts, ids)
        changed = 0
        for start in range(0, len(texts), size):
            group = slice(start, start + size)
            row = rows[start]
            change = mutated(
                texts[group],
                totals[group],
                right_answer(row),
                good=self.good,
                seed=f"{step} {start}",
                prefill=row.get("prefill") or "",
                tags=row.get("tags") is not False,
                wrong=wrong_answer(row),
            )
            if change is None:
                continue
            fitting = fitted(change, trainer.processing_class, trainer.max_completion_length - 1)
            if fitting is None:
                continue
            changed += 1
            place = start + change.place
            texts[place], tokens = fitting
            ids[place] = [*tokens, self.end]
            if logprobs is not None:
                logprobs[place] = [None] * len(ids[place])  # the sampler did not generate this text
        trainer._metrics["train"]["groups/mutated"].append(changed * size / len(texts))
        return found

    def _rewards(
        self, trainer: Any, rows: Sequence[Mapping[str, Any]], texts: Sequence[str], ids: Sequence[Sequence[int]]
    ) -> list[float]:
        import torch

        columns = {name: [row[name] for row in rows] for name in rows[0] if name not in ("prompt", "completion")}
        prompts = [row["prompt"] for row in rows]
        given = [
            [torch.nan if reward is None else reward for reward in function(
                prompts=prompts, completions=texts, completion_ids=ids, trainer_state=trainer.state, **columns)]
            for function in trainer.reward_funcs
        ]  # fmt: skip
        totals: list[float] = trainer.totals(torch.tensor(given).T).nan_to_num(0.0).tolist()
        return totals


def fitted(change: Mutation, tokenizer: Any, room: int) -> tuple[str, list[int]] | None:
    """The new completion and its tokens, at most ``room`` of them. The thought is cut at its end; None if that is not enough."""
    while True:
        ids: list[int] = tokenizer(change.text, add_special_tokens=False)["input_ids"]
        if len(ids) <= room:
            return change.text, ids
        if not change.thought:
            return None
        encoded = tokenizer(change.thought, add_special_tokens=False, return_offsets_mapping=True)
        spans = encoded["offset_mapping"]
        kept = len(spans) - (len(ids) - room)
        change = replace(change, thought=change.thought[: spans[kept][0]] if kept > 0 else "")
