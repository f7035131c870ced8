"""Score a model on held-out rows: the likelihood of the right answers, or the mean reward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import batched
from math import isfinite
from typing import Any

import torch

from pyserini_reasonrank.train.data.rows import Audit, Row
from pyserini_reasonrank.train.settings import PolicySettings
from pyserini_reasonrank.train.trainers import examples
from pyserini_reasonrank.train.trainers.policy import Policy, load

BATCH = 8


def likelihood(model: str, rows: Sequence[Row]) -> float:
    """The mean natural log-probability of the demonstrations' tokens."""
    policy = _loaded(model)
    total, count = 0.0, 0
    for example in examples.demonstrations(rows, policy, policy.context, Audit()):
        columns = examples.labelled(example)
        ids = torch.tensor([columns["input_ids"]], device=policy.model.device)
        labels = torch.tensor([columns["labels"]], device=policy.model.device)
        with torch.inference_mode():
            total -= policy.model(input_ids=ids, labels=labels).loss.item() * len(example.completion)
        count += len(example.completion)
    return total / count


def mean_reward(
    model: str, rows: Sequence[Row], rewards: Sequence[Callable[..., Any]], weights: Sequence[float], max_tokens: int
) -> float:
    """The mean over ``rows`` of the weighted rewards of the greedy answers. A missing reward counts as 0."""
    policy = _loaded(model)
    total = 0.0
    for batch in batched(rows, BATCH):
        texts = _answers(policy, batch, max_tokens)
        records = [row.as_json() for row in batch]
        names = {name for record in records for name in record} - {"prompt", "completion"}
        columns = {name: [record.get(name) for record in records] for name in names}
        for reward, weight in zip(rewards, weights, strict=True):
            found = reward(texts, texts, **columns)
            total += weight * sum(value for value in found if value is not None and isfinite(value))
    return total / len(rows)


def _loaded(model: str) -> Policy:
    policy = load(PolicySettings(model=model))
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    policy.model.to(accelerator.type if accelerator else "cpu").eval()
    return policy


def _answers(policy: Policy, rows: Sequence[Row], max_tokens: int) -> list[str]:
    prompts = [policy.chat.tokens(examples.prompt_of(row)) for row in rows]
    width, pad = max(map(len, prompts)), policy.tokenizer.pad_token_id or 0
    ids = torch.tensor([[pad] * (width - len(p)) + p for p in prompts], device=policy.model.device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=policy.model.device)
    with torch.inference_mode():
        written = policy.model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=max_tokens, do_sample=False, pad_token_id=pad,
            temperature=None, top_p=None, top_k=None,
        )  # fmt: skip
    return [policy.chat.decode(row) for row in written[:, width:].tolist()]
