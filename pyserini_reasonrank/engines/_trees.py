"""Log-probabilities of what may follow a prompt, many prompts packed into one row, each prompt read once.

A prompt and its continuations are a tree: every branch sees the prompt and itself, and stands at the positions it would
have if it were the only one. Rows are not padded, and on a CPU whose linear layers are steady (see ``_packed``) a
prompt's numbers are the same bits whichever others are in the row. For that, what several prompts begin with is read for each
of them: read once, its attention would sum over other keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from pyserini_reasonrank.engines._chat import Tokens, prefixes
from pyserini_reasonrank.engines._packed import causal, no_mask

NAME = "trees"


@dataclass(frozen=True, slots=True)
class Tree:
    """Token ids of a prompt, and of the alternatives that may follow it."""

    prompt: Sequence[int]
    spelled: Sequence[Tokens]

    @property
    def branches(self) -> list[Tokens]:
        """What is read after the prompt: nothing comes after an alternative's last token, so that is not."""
        return prefixes(self.spelled)

    @property
    def size(self) -> int:
        """Tokens to be read."""
        return len(self.prompt) + sum(map(len, self.branches))

    @property
    def places(self) -> list[tuple[int, int]]:
        """For each token of each alternative in turn, where in the tree it is foretold, and the token."""
        last = len(self.prompt) - 1
        before: dict[Tokens, int] = {(): last}
        for branch in self.branches:
            before |= {branch[: i + 1]: last + i + 1 for i in range(len(branch))}
            last += len(branch)
        return [(before[tokens[:i]], tokens[i]) for tokens in self.spelled for i in range(len(tokens))]


def log_probabilities(model: Any, trees: Sequence[Tree]) -> list[Tensor]:
    """For each tree the log-probability of each of its alternatives, float32. Gradients flow.

    ``model``: a causal language model of transformers. An attention of its own (eager, with sinks or capped logits) is
    kept, and reads each alternative by itself.
    """
    if "sdpa" not in model.config._attn_implementation and "flash" not in model.config._attn_implementation:
        return [torch.cat([_read(model, [Tree(t.prompt, [s])], {})[0] for s in t.spelled]) for t in trees]
    with _attention(model):
        layout = [(len(t.prompt), [len(b) for b in t.branches]) for t in trees]
        return _read(model, trees, {"trees": layout})


def _read(model: Any, trees: Sequence[Tree], attention: dict[str, Any]) -> list[Tensor]:
    device = model.device
    ids = [token for t in trees for token in (*t.prompt, *(token for b in t.branches for token in b))]
    at = [
        i
        for t in trees
        for i in (*range(len(t.prompt)), *(len(t.prompt) + i for b in t.branches for i in range(len(b))))
    ]
    starts = accumulate((t.size for t in trees), initial=0)
    places = [(start + place, token) for start, t in zip(starts, trees, strict=False) for place, token in t.places]
    wanted = sorted({place for place, _ in places})
    row = {place: i for i, place in enumerate(wanted)}
    logits = model(
        input_ids=torch.tensor([ids], device=device),
        position_ids=torch.tensor([at], device=device),
        logits_to_keep=torch.tensor(wanted, device=device),
        use_cache=False,
        **attention,
    ).logits[0]
    logprobs = logits.float().log_softmax(-1)
    each = logprobs[[row[place] for place, _ in places], [token for _, token in places]]
    parts = iter(each.split([len(tokens) for t in trees for tokens in t.spelled]))
    return [torch.stack([next(parts).sum() for _ in t.spelled]) for t in trees]


@contextmanager
def _attention(model: Any) -> Iterator[None]:
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, no_mask)
    own = model.config._attn_implementation
    model.config._attn_implementation = NAME
    try:
        yield
    finally:
        model.config._attn_implementation = own


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    *,
    trees: Sequence[tuple[int, Sequence[int]]],
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface. Query (1, heads, tokens, size) to output (1, tokens, heads, size).

    ``trees``: tokens of each prompt and of its branches, as they lie in the row.
    """
    found, start = [], 0
    for prompt, branches in trees:
        first = prompt + sum(branches[:1])  # the prompt and its first branch are one text
        whole = slice(start, start + first)
        found.append(causal(query[:, :, whole], key[:, :, whole], value[:, :, whole], scaling, sliding_window))
        at = start + first
        for branch in branches[1:]:
            own = slice(at, at + branch)
            keys, values = (torch.cat([x[:, :, start : start + prompt], x[:, :, own]], 2) for x in (key, value))
            found.append(causal(query[:, :, own], keys, values, scaling, sliding_window))
            at += branch
        start = at
    return torch.cat(found, 2).transpose(1, 2).contiguous(), None
