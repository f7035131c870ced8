"""log P(query | passage) for every query and passage of a block, each passage read once for all the queries.

A row is a passage's prompt, then the queries one after the other. A query's tokens see the prompt and themselves,
and stand at the positions they would have if theirs were the only query, so the numbers are those of serving.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pyserini_reasonrank.engines._chat import Chat
from pyserini_reasonrank.judges.likelihood import asked_and_said
from pyserini_reasonrank.prompts.budget import Fitter
from pyserini_reasonrank.records import Candidate, Query, Request
from pyserini_reasonrank.train.blocks import Block

Spelled = tuple[list[int], list[tuple[int, ...]]]
"""A passage's prompt and, for each query, its tokens after that prompt."""


def spell(block: Block, fitter: Fitter, chat: Chat) -> list[Spelled]:
    """The token ids of every passage of the block, fitted and rendered as the judge's prompts are."""
    candidates = tuple(Candidate(str(j), 0.0, text) for j, text in enumerate(block.passages))
    rows: list[Spelled] = [([], []) for _ in candidates]
    for query in block.queries:
        prepared = fitter.prepare(Request(Query("", query), candidates))
        for j, (head, said) in enumerate(rows):
            prompt, words = asked_and_said(fitter.render(prepared, [j]))
            tokens, [spelled] = chat.alternatives(prompt, [words])
            head[:] = tokens
            said.append(spelled)
    return rows


def log_likelihoods(causal: Any, rows: Sequence[Spelled]) -> list[Tensor]:
    """For each row the log-probability of its queries. ``causal``: a causal language model of transformers."""
    ids, positions, mask = _packed(rows)
    states = causal.model(input_ids=ids, position_ids=positions, attention_mask=mask, use_cache=False).last_hidden_state
    return [_of_row(causal, states[row], head, queries) for row, (head, queries) in enumerate(rows)]


def _of_row(causal: Any, states: Tensor, head: list[int], queries: Sequence[tuple[int, ...]]) -> Tensor:
    start, sums = len(head), []
    for said in queries:
        before = [len(head) - 1, *range(start, start + len(said) - 1)]  # where each token of the query is foretold
        logprobs = causal.lm_head(states[before]).float().log_softmax(-1)
        sums.append(logprobs[range(len(said)), list(said)].sum())
        start += len(said) - 1
    return torch.stack(sums)


def _packed(rows: Sequence[Spelled]) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids, positions and the mask (rows, 1, to, from) of who sees whom; rows are padded on the right."""
    width = max(len(head) + sum(len(said) - 1 for said in queries) for head, queries in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    positions = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.eye(width, dtype=torch.bool).repeat(len(rows), 1, 1, 1)
    for row, (head, queries) in enumerate(rows):
        start = len(head)
        ids[row, :start] = torch.tensor(head)
        positions[row, :start] = torch.arange(start)
        mask[row, 0, :start, :start] = torch.ones(start, start, dtype=torch.bool).tril()
        for said in queries:
            end = start + len(said) - 1  # nothing comes after the last token, so it need not be read
            ids[row, start:end] = torch.tensor(said[:-1], dtype=torch.long)
            positions[row, start:end] = torch.arange(len(head), len(head) + end - start)
            mask[row, 0, start:end, : len(head)] = True
            mask[row, 0, start:end, start:end] = torch.ones(end - start, end - start, dtype=torch.bool).tril()
            start = end
    return ids, positions, mask
