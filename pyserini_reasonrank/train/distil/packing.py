"""A block as the trees that a scorer reads: each passage's prompt once, and all the queries that may follow it."""

from __future__ import annotations

from pyserini_reasonrank.engines.chat import Chat, TokenIds
from pyserini_reasonrank.engines.local.prompt_trees import PromptTree
from pyserini_reasonrank.judges.likelihood import asked_and_said
from pyserini_reasonrank.prompts.fitting import Fitter
from pyserini_reasonrank.records import Candidate, Query, Request
from pyserini_reasonrank.train.distil.blocks import Block


def pack(block: Block, fitter: Fitter, chat: Chat) -> list[PromptTree]:
    """The tree of every passage of the block, fitted and rendered as the judge's prompts are."""
    candidates = tuple(Candidate(str(j), 0.0, text) for j, text in enumerate(block.passages))
    prompts: list[list[int]] = [[] for _ in candidates]
    queries: list[list[TokenIds]] = [[] for _ in candidates]
    for query in block.queries:
        prepared = fitter.prepare(Request(Query("", query), candidates))
        for j in range(len(candidates)):
            prompt, words = asked_and_said(fitter.render(prepared, [j]))
            prompts[j], [spelled] = chat.alternatives(prompt, [words])
            queries[j].append(spelled)
    return [PromptTree(prompt, tuple(said)) for prompt, said in zip(prompts, queries, strict=True)]
