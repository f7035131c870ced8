"""Order this window: the listwise judge of RankGPT, ReasonRank and DRanker."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated

from pydantic import Field

from pyserini_reasonrank.judges import Ask, Judge
from pyserini_reasonrank.judges.ladder import climb
from pyserini_reasonrank.parsing import Identifiers, Untagged, read_permutation
from pyserini_reasonrank.records import Judgement, Prompt


class Permutation(Judge):
    """Shows n passages, reads all their identifiers, best first."""

    kind = "permutation"

    class Options(Judge.Options):
        tags: Annotated[bool, Field(description="the prompt asks for <think> and <answer> tags")] = True
        identifiers: Annotated[
            Identifiers,
            Field(
                description="brackets: [2] or beside >, strays ignored; digits: every number, as published code does"
            ),
        ] = "brackets"
        untagged: Annotated[
            Untagged,
            Field(
                description="a thought that never ended: identity keeps the order, mention_order is ReasonRank's code"
            ),
        ] = "identity"

    async def judge(self, ask: Ask, prompt: Prompt, n: int) -> Judgement:
        o = self.options
        read = partial(read_permutation, n=n, tags=o.tags, how=o.identifiers, untagged=o.untagged)
        return await climb(
            ask,
            prompt,
            self.sampling,
            read,
            can=self.can,
            closing="\n</think>\n<answer>[" if o.tags else "\n</think>\n",
            answer_tokens=self.answer_tokens(n),
            reminder=self.reminder,
        )

    @staticmethod
    def outcome(judgement: Judgement, indices: Sequence[int]) -> list[int]:
        """The indices, best first."""
        return [indices[position] for position in judgement.order]

    @staticmethod
    def unmoved(indices: Sequence[int]) -> list[int]:
        return list(indices)

    def ideal(self, gains: Sequence[float]) -> str:
        """Passages by falling gain, ties in the order shown, in the form the prompt asks for."""
        order = sorted(range(len(gains)), key=lambda i: -gains[i])
        answer = " > ".join(f"[{i + 1}]" for i in order)
        thought = f"The gains are {', '.join(f'{gains[i]:g}' for i in order)}."
        return f"<think>{thought}</think>\n<answer>{answer}</answer>" if self.options.tags else answer

    def answer_tokens(self, n: int) -> int:
        return 8 * n + 16  # "[100] > " takes up to seven tokens
