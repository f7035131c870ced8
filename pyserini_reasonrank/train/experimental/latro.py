"""LaTRO's self-reward (arXiv 2411.04282, section 3): the policy's own log-probability of the right answer after a thought.

The divergence from the reference model stays in TRL's loss (``args.beta``), and the baseline is the mean of the group
(``args.scale_rewards: none``): RLOO's advantage times (G - 1) / G. Only the thought is trained, so a completion ends with
it; the answer after it is not rewarded.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

import torch

from pyserini_reasonrank.parsing.parts import CLOSE_THINK
from pyserini_reasonrank.train.rewards.reference import POSITIONS, right_answer, right_orders

ANSWER = f"{CLOSE_THINK}\n<answer>"
COLUMNS = ("kind", "gains", "grade", "choices")  # those that determine a right answer
NO_STOP = 2.0


class SelfReward:
    """A reward function for TRL: the mean natural log-probability of the right answer's tokens, at most 0.

    Of up to ``orders`` equally right permutations the most likely one counts, by the tokens of its first ten identifiers.
    With ``published`` it is the sum over the tokens of the whole answer, as in the paper (section 3). ``policy`` returns the
    model being trained; ``tokenizer`` is its tokenizer.
    """

    __name__ = "self_reward"

    def __init__(self, policy: Callable[[], Any], tokenizer: Any, orders: int = 4, *, published: bool = False) -> None:
        self._policy, self._tokenizer, self._orders, self._published = policy, tokenizer, orders, published

    def __call__(self, prompts: Sequence[str], completions: Sequence[str], **columns: Any) -> list[float]:
        rewards = []
        for i, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
            row: dict[str, Any] = {name: columns[name][i] for name in COLUMNS if name in columns}
            head = prompt + completion.partition(CLOSE_THINK)[0] + ANSWER
            rewards.append(best_likelihood(self._logprobs(head, self._answers(row)), published=self._published))
        return penalised(rewards, [CLOSE_THINK in completion for completion in completions])

    def _answers(self, row: Mapping[str, Any]) -> list[str]:
        if row["kind"] != "permutation":
            return [right_answer(row)]
        positions = len(row["gains"]) if self._published else POSITIONS
        orders = right_orders(row["gains"], self._orders, seed=0, positions=positions)
        return [" > ".join(f"[{i + 1}]" for i in order) for order in orders]

    def _logprobs(self, head: str, answers: Sequence[str]) -> list[list[float]]:
        """The log-probability of each token of each answer after ``head``."""
        model, encode = self._policy(), self._tokenizer
        start = encode(head, add_special_tokens=False)["input_ids"]
        spelled = [encode(answer, add_special_tokens=False)["input_ids"] for answer in answers]
        keep = max(map(len, spelled))
        # padded on the left, so that the last positions belong to the answers
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


def best_likelihood(answers: Sequence[Sequence[float]], *, published: bool = False) -> float:
    """The highest mean log-probability among equally right answers, each given by its tokens' log-probabilities.

    The paper sums the log-probabilities (``published``); the mean makes answers of different lengths comparable.
    """
    return max(map(sum if published else fmean, answers))


def penalised(rewards: Sequence[float], stopped: Sequence[bool], factor: float = NO_STOP) -> list[float]:
    """The rewards, with ``factor`` times their mean for each thought that did not end.

    As published. This is a penalty because log-probabilities are negative.
    """
    mean = fmean(rewards)
    return [reward if stop else factor * mean for reward, stop in zip(rewards, stopped, strict=True)]


def cut_after_thought(trainer: Any, rows: Sequence[Mapping[str, Any]], found: tuple[Any, ...]) -> tuple[Any, ...]:
    """Cut each completion in TRL's generation output ``found`` after the token that closes its thought."""
    tokenizer, ids, texts, logprobs = trainer.processing_class, found[1], found[3], found[4]

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
