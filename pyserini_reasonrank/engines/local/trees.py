"""Log-probabilities of what may follow a prompt, many prompts packed into one row, each prompt read once.

A prompt and its continuations are a tree: every branch sees the prompt and itself, and stands at the positions it would
have if it were the only one. What all prompts of a row begin with is their root and read once. Rows are not padded, and
on a CPU whose linear layers are steady (see ``_packed``) a prompt's numbers are the same bits whichever others are in the
row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from pyserini_reasonrank.engines.chat import Tokens, prefixes
from pyserini_reasonrank.engines.local.attention import Blocks, Text
from pyserini_reasonrank.engines.local.packing import causal, register, using

NAME = "trees"


@dataclass(frozen=True)
class Tree:
    """Token ids of a prompt, and of the alternatives that may follow it."""

    prompt: list[int]
    spelled: Sequence[Tokens]

    @cached_property
    def branches(self) -> list[Tokens]:
        """What is read after the prompt: nothing comes after an alternative's last token, so that is not."""
        return prefixes(self.spelled)

    @cached_property
    def size(self) -> int:
        """Tokens to be read."""
        return len(self.prompt) + sum(map(len, self.branches))

    @cached_property
    def places(self) -> list[tuple[int, int]]:
        """For each token of each alternative in turn, where in the tree it is foretold, and the token."""
        last = len(self.prompt) - 1
        before: dict[Tokens, int] = {(): last}
        for branch in self.branches:
            before |= {branch[: i + 1]: last + i + 1 for i in range(len(branch))}
            last += len(branch)
        return [(before[tokens[:i]], tokens[i]) for tokens in self.spelled for i in range(len(tokens))]


type Row = Sequence[Tree]
type Map = Callable[[Callable[[Row], list[Tensor]], Sequence[Row]], Iterable[list[Tensor]]]


def log_probabilities(model: Any, trees: Row) -> list[Tensor]:
    """For each tree the log-probability of each of its alternatives, float32. Gradients flow.

    ``model``: a causal language model of transformers. An attention of its own (eager, with sinks or capped logits) is
    kept, and reads each alternative by itself.
    """
    return row_by_row(model, [trees], map)[0]


def row_by_row(model: Any, rows: Sequence[Row], over: Map) -> list[list[Tensor]]:
    """The same for several rows, a forward pass each. ``over``: ``map``, or one that takes several at a time."""
    own = model.config._attn_implementation
    if "sdpa" not in own and "flash" not in own:
        return list(over(partial(_each_alone, model), rows))
    with using(model, register(NAME, attend)):
        return list(over(partial(_at_once, model), rows))


def _each_alone(model: Any, trees: Row) -> list[Tensor]:
    return [torch.cat([_read(model, [Tree(t.prompt, [s])], 0, {})[0] for s in t.spelled]) for t in trees]


def _at_once(model: Any, trees: Row) -> list[Tensor]:
    root = shared([tree.prompt for tree in trees])
    texts = list(_texts(trees, root))
    if model.device.type != "cpu":
        return _read(model, trees, root, {"texts": texts})
    unit = getattr(model.get_output_embeddings(), "unit", 1)
    size = -(-read_at_once(trees) // unit) * unit
    return _read(model, trees, root, {"blocks": Blocks(texts, size)}, unit)


def _texts(trees: Row, root: int) -> Iterator[Text]:
    """The root, each prompt with its first branch, and the prompts again with each other branch."""
    above = range(root)
    if root:
        yield Text(above, above)
    start = root
    for tree in trees:
        prompt = len(tree.prompt) - root
        first, *others = map(len, tree.branches or [()])
        own = range(start, start + prompt + first)
        yield Text([*above, *own] if root else own, own)
        at = own.stop
        for branch in others:
            own = range(at, at + branch)
            yield Text([*above, *range(start, start + prompt), *own], own)
            at = own.stop
        start = at


def shared(prompts: Sequence[list[int]]) -> int:
    """How many tokens all prompts begin with; never a prompt's last one, since what follows is foretold there."""
    if len(prompts) == 1:
        return 0
    first, last = min(prompts), max(prompts)  # between which the others lie
    most = min(map(len, prompts)) - 1
    return next((i for i in range(most) if first[i] != last[i]), most)


def read_at_once(trees: Row) -> int:
    """Tokens of a row that holds these trees."""
    root = shared([tree.prompt for tree in trees])
    return root + sum(tree.size - root for tree in trees)


def _read(model: Any, trees: Row, root: int, attention: dict[str, Any], unit: int = 1) -> list[Tensor]:
    """One forward pass over the root and what each tree has below it, filled up to a multiple of ``unit`` tokens."""
    device, ids, at, places = model.device, list(trees[0].prompt[:root]), list(range(root)), list[tuple[int, int]]()
    for tree in trees:
        places += [(len(ids) + place - root, token) for place, token in tree.places]
        ids += tree.prompt[root:]
        at += range(root, len(tree.prompt))
        for branch in tree.branches:
            ids += branch
            at += range(len(tree.prompt), len(tree.prompt) + len(branch))
    missing = [0] * (-len(ids) % unit)
    wanted = sorted({place for place, _ in places})
    row = {place: i for i, place in enumerate(wanted)}
    logits = model(
        input_ids=torch.tensor([ids + missing], device=device),
        position_ids=torch.tensor([at + missing], device=device),
        logits_to_keep=torch.tensor(wanted, device=device),
        use_cache=False,
        **attention,
    ).logits[0]
    logprobs = logits.float().log_softmax(-1)
    each = logprobs[[row[place] for place, _ in places], [token for _, token in places]]
    parts = iter(each.split([len(tokens) for t in trees for tokens in t.spelled]))
    return [torch.stack([next(parts).sum() for _ in t.spelled]) for t in trees]


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
    texts: Sequence[Text] = (),
    blocks: Blocks | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface. Query (1, heads, tokens, size) to output (1, tokens, heads, size).

    ``texts`` of the row, whose own tokens follow one another there, or their ``blocks``.
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
