"""LaTRO's self-reward at work: the policy's own log-probability of the right answer after each thought it wrote.

LaTRO (arXiv 2411.04282), section 3. The divergence from the reference model stays in TRL's loss (``args.beta``) and
the baseline is the group's mean (``args.scale_rewards: none``): RLOO's advantage times (G - 1) / G. What is learnt is the
thought: a completion ends with it, as the answer that follows is not what is rewarded.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import torch

from pyserini_reasonrank.parsing import CLOSE_THINK
from pyserini_reasonrank.train.experimental.latro_reward import answer_logprob, right_orders, self_reward, unstopped
from pyserini_reasonrank.train.experimental.rarl_trainer import reference

ANSWER = f"{CLOSE_THINK}\n<answer>"
ASKED = ("kind", "gains", "grade", "choices")  # the columns that a right answer is made of


class SelfReward:
    """A reward function for TRL. ``trainer`` is set once there is one; ``orders`` equally right answers are tried.

    The mean log-probability, natural, over the tokens of the first ten ids; a thought that never ends gets twice the
    batch's mean.
    """

    __name__ = "self_reward"
    trainer: Any

    def __init__(self, orders: int = 4) -> None:
        self.orders = orders

    def __call__(self, prompts: Sequence[str], completions: Sequence[str], **columns: Any) -> list[float]:
        rewards = []
        for i, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
            row: dict[str, Any] = {name: columns[name][i] for name in ASKED if name in columns}
            head = prompt + completion.partition(CLOSE_THINK)[0] + ANSWER
            logprobs = self._logprobs(head, self._answers(row))
            rewards.append(self_reward([answer_logprob(found) for found in logprobs], 0.0, 0.0, beta=0.0))
        return unstopped(rewards, [CLOSE_THINK in completion for completion in completions])

    def _answers(self, row: dict[str, Any]) -> list[str]:
        if row["kind"] != "permutation":
            return [reference(row)]
        return [" > ".join(f"[{i + 1}]" for i in order) for order in right_orders(row["gains"], self.orders, seed=0)]

    def _logprobs(self, head: str, answers: Sequence[str]) -> list[list[float]]:
        """The log-probability of each token of each answer after ``head``."""
        model = self.trainer.accelerator.unwrap_model(self.trainer.model)
        encode = self.trainer.processing_class
        start = encode(head, add_special_tokens=False)["input_ids"]
        spelled = [encode(answer, add_special_tokens=False)["input_ids"] for answer in answers]
        keep = max(map(len, spelled))
        # on the left, so that the last positions are every answer's
        rows = [[0] * (keep - len(s)) + start + s for s in spelled]
        masks = [[0] * (keep - len(s)) + [1] * (len(start) + len(s)) for s in spelled]
        ids, mask = (torch.tensor(values, device=model.device) for values in (rows, masks))
        training = model.training
        model.eval()
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0),
                           use_cache=False, logits_to_keep=keep + 1).logits[:, :-1]  # fmt: skip
        model.train(training)
        found = logits.float().log_softmax(-1).gather(2, ids[:, -keep:].unsqueeze(2)).squeeze(2)
        return [values[keep - len(s) :].tolist() for values, s in zip(found, spelled, strict=True)]


def thoughts_alone(tokenizer: Any, found: tuple[Any, ...]) -> tuple[Any, ...]:
    """TRL's generation output ``found`` with every completion cut after the token that closes its thought."""
    ids, texts, logprobs = found[1], found[3], found[4]

    def text_of(place: int, tokens: int) -> str:
        text: str = tokenizer.decode(ids[place][:tokens], skip_special_tokens=True)
        return text

    for place, spelled in enumerate(ids):
        lengths = range(len(spelled) + 1)
        kept = bisect_left(lengths, True, key=lambda tokens: CLOSE_THINK in text_of(place, tokens))
        if kept < len(spelled):
            texts[place] = text_of(place, kept)
            ids[place] = spelled[:kept]
            if logprobs is not None:
                logprobs[place] = logprobs[place][:kept]
    return found
