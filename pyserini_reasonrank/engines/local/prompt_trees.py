"""Log-probabilities of what may follow a prompt: many prompts packed into one row, each prompt read once.

A prompt and its continuations form a tree: each branch sees the prompt and itself, at the positions it would have alone.
The tokens that all prompts of a row begin with are the root and are read once. Rows are not padded. On a CPU whose linear
layers are batch-invariant (see ``batch_invariant``), a prompt's numbers have the same bits whatever else is in the row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from pyserini_reasonrank.engines.chat import TokenIds, prefixes
from pyserini_reasonrank.engines.local.packed_attention import PackedBlocks, PackedText, causal, register, using

NAME = "trees"
"""The name of :func:`attend` in transformers."""
_ATTENTIONS = {"full_attention", "sliding_attention"}


@dataclass(frozen=True)
class PromptTree:
    """Token ids of a prompt, and of the alternatives that may follow it. ``logits``: these are read before the softmax."""

    prompt: list[int]
    alternatives: Sequence[TokenIds]
    logits: bool = False

    @cached_property
    def branches(self) -> list[TokenIds]:
        """What is read after the prompt. An alternative's last token is not read, since nothing follows it."""
        return prefixes(self.alternatives)

    @cached_property
    def size(self) -> int:
        """Tokens to read."""
        return len(self.prompt) + sum(map(len, self.branches))

    @cached_property
    def places(self) -> list[tuple[int, int]]:
        """For each token of each alternative in turn: the place in the tree whose output predicts it, and the token."""
        last = len(self.prompt) - 1
        before: dict[TokenIds, int] = {(): last}
        for branch in self.branches:
            before |= {branch[: i + 1]: last + i + 1 for i in range(len(branch))}
            last += len(branch)
        return [(before[tokens[:i]], tokens[i]) for tokens in self.alternatives for i in range(len(tokens))]


type Row = Sequence[PromptTree]
type Map = Callable[[Callable[[Row], list[Tensor]], Sequence[Row]], Iterable[list[Tensor]]]


def log_probabilities(model: Any, trees: Row) -> list[Tensor]:
    """Return for each tree the log-probability (or logit) of each of its alternatives, float32. Gradients flow.

    ``model`` is a causal language model of transformers. If it has an attention of its own (eager, with sinks or capped
    logits), that is kept, and each alternative is read separately.
    """
    return row_by_row(model, [trees], map)[0]


def row_by_row(model: Any, rows: Sequence[Row], over: Map) -> list[list[Tensor]]:
    """Return the same for several rows, a forward pass each. ``over`` is ``map`` or a parallel equivalent."""
    own = model.config._attn_implementation
    if ("sdpa" not in own and "flash" not in own) or other_layers(model.config):
        return list(over(partial(_each_alone, model), rows))
    with using(model, register(NAME, attend)):
        return list(over(partial(_at_once, model), rows))


def other_layers(config: Any) -> list[str]:
    """Return the types of layers of a transformers config that can't keep the texts of a row apart, such as linear attention,
    whose state passes from one text to the next."""
    return sorted({*(getattr(config.get_text_config(), "layer_types", None) or ())} - _ATTENTIONS)


def _each_alone(model: Any, trees: Row) -> list[Tensor]:
    return [
        torch.cat([_read(model, [PromptTree(t.prompt, [s], t.logits)], 0, {})[0] for s in t.alternatives])
        for t in trees
    ]


def _at_once(model: Any, trees: Row) -> list[Tensor]:
    root = shared([tree.prompt for tree in trees])
    texts = list(_texts(trees, root))
    if model.device.type != "cpu":
        return _read(model, trees, root, {"texts": texts})
    unit = getattr(model.get_output_embeddings(), "unit", 1)
    size = -(-read_at_once(trees) // unit) * unit
    return _read(model, trees, root, {"blocks": PackedBlocks(texts, size)}, unit)


def _texts(trees: Row, root: int) -> Iterator[PackedText]:
    """The root, each prompt with its first branch, and the prompts again with each other branch."""
    above = range(root)
    if root:
        yield PackedText(above, above)
    start = root
    for tree in trees:
        prompt = len(tree.prompt) - root
        first, *others = map(len, tree.branches or [()])
        own = range(start, start + prompt + first)
        yield PackedText([*above, *own] if root else own, own)
        at = own.stop
        for branch in others:
            own = range(at, at + branch)
            yield PackedText([*above, *range(start, start + prompt), *own], own)
            at = own.stop
        start = at


def shared(prompts: Sequence[list[int]]) -> int:
    """Return how many tokens all prompts begin with; never a prompt's last token, whose output predicts what follows."""
    if len(prompts) == 1:
        return 0
    first, last = min(prompts), max(prompts)  # the other prompts sort between them
    most = min(map(len, prompts)) - 1
    return next((i for i in range(most) if first[i] != last[i]), most)


def read_at_once(trees: Row) -> int:
    """Return the tokens of a row with these trees."""
    root = shared([tree.prompt for tree in trees])
    return root + sum(tree.size - root for tree in trees)


def _read(model: Any, trees: Row, root: int, attention: dict[str, Any], unit: int = 1) -> list[Tensor]:
    """One forward pass over the root and what each tree has below it, padded to a multiple of ``unit`` tokens."""
    device, ids, at, places = model.device, list(trees[0].prompt[:root]), list(range(root)), list[tuple[int, int]]()
    for tree in trees:
        places += [(len(ids) + place - root, token) for place, token in tree.places]
        ids += tree.prompt[root:]
        at += range(root, len(tree.prompt))
        for branch in tree.branches:
            ids += branch
            at += range(len(tree.prompt), len(tree.prompt) + len(branch))
    padding = [0] * (-len(ids) % unit)
    wanted = sorted({place for place, _ in places})
    row = {place: i for i, place in enumerate(wanted)}
    logits = model(
        input_ids=torch.tensor([ids + padding], device=device),
        position_ids=torch.tensor([at + padding], device=device),
        logits_to_keep=torch.tensor(wanted, device=device),
        use_cache=False,
        **attention,
    ).logits[0]
    found = [row[place] for place, _ in places], [token for _, token in places]
    each = logits.float().log_softmax(-1)[found]
    if any(tree.logits for tree in trees):
        unscaled = torch.tensor([tree.logits for tree in trees for _ in tree.places], device=device)
        each = torch.where(unscaled, logits[found].float(), each)
    parts = iter(each.split([len(tokens) for t in trees for tokens in t.alternatives]))
    return [torch.stack([next(parts).sum() for _ in t.alternatives]) for t in trees]


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
    texts: Sequence[PackedText] = (),
    blocks: PackedBlocks | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention of a row of trees, as transformers' attention interface calls it.

    ``query`` has shape (1, heads, tokens, head size), the output (1, tokens, heads, head size). Either ``blocks`` is given
    or the ``texts`` of the row, whose queries follow one another there.
    """
    if blocks is not None:
        return blocks.attend(query, key, value, scaling, sliding_window), None
    found = []
    for text in texts:
        own = slice(text.queries[0], text.queries[-1] + 1)
        seen = torch.tensor(text.keys, device=key.device)
        keys, values = (x.index_select(2, seen) for x in (key, value))
        found.append(causal(query[:, :, own], keys, values, scaling, sliding_window))
    return torch.cat(found, 2).transpose(1, 2).contiguous(), None
