"""RARL's response mutation at work (arXiv 2601.20585): a group of equal rewards gets one rollout that differs.

Which rollout and what it becomes is ``rewards.mutation``'s; here it takes the old one's place before rewards and
log-probabilities are computed, so both are those of the new text, and the ratio is clipped like any other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from pyserini_reasonrank.train.experimental.latro_reward import right_orders
from pyserini_reasonrank.train.experimental.rarl_mutation import Mutation, mutated


@dataclass(frozen=True, slots=True)
class Mutations:
    """``good``: reward from which a group counts as all good. ``until``: share of the steps in which it is done.
    ``end`` is the token that ends a turn."""

    good: float
    until: float
    end: int

    def applied(self, trainer: Any, rows: Sequence[Mapping[str, Any]], found: tuple[Any, ...]) -> tuple[Any, ...]:
        """TRL's generation output ``found`` with at most one completion of each group replaced; counted in the log.

        Groups have to lie whole in this process.
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
            change = mutated(texts[group], totals[group], reference(row), good=self.good, seed=step * len(texts) + start,
                             prefill=row.get("prefill") or "", tags=row.get("tags") is not False, wrong=wrong(row))  # fmt: skip
            if change is None:
                continue
            fitting = fitted(change, trainer.processing_class, trainer.max_completion_length - 1)
            if fitting is None:
                continue
            changed += 1
            place = start + change.place
            texts[place], spelled = fitting
            ids[place] = [*spelled, self.end]
            if logprobs is not None:
                logprobs[place] = [None] * len(ids[place])  # the sampler never gave this text
        trainer._metrics["train"]["groups/mutated"].append(changed * size / len(texts))
        return found

    def _rewards(
        self, trainer: Any, rows: Sequence[Mapping[str, Any]], texts: Sequence[str], ids: Sequence[Sequence[int]]
    ) -> list[float]:
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
    """The new completion and its tokens, at most ``room``: the end of the thought gives way. None if that is not enough."""
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


def reference(row: Mapping[str, Any]) -> str:
    """The right answer to a row, without tags."""
    gains = row["gains"]
    if row["kind"] == "score":
        target, words = _target(row), _words(row)
        return words[target <= 0] if words else f"{target:g}"
    if row["kind"] == "worst":
        return f"[{gains.index(min(gains)) + 1}]"
    [order] = right_orders(gains, 1, seed=0, positions=len(gains))
    return f"[{order[0] + 1}]" if row["kind"] == "best" else " > ".join(f"[{i + 1}]" for i in order)


def wrong(row: Mapping[str, Any]) -> str | None:
    """A wrong answer to a row that asks for one label, or one of two words; None for others."""
    gains, words = row["gains"], _words(row)
    if row["kind"] == "score":
        return words[_target(row) > 0] if words else None
    spoilt = {"best": min, "worst": max}.get(row["kind"])
    return f"[{gains.index(spoilt(gains)) + 1}]" if spoilt else None


def _target(row: Mapping[str, Any]) -> float:
    return float(row["gains"][0] if row.get("grade") is None else row["grade"])


def _words(row: Mapping[str, Any]) -> Sequence[str] | None:
    choices: Sequence[str] | None = row.get("choices")
    return choices if choices and len(choices) == 2 else None
