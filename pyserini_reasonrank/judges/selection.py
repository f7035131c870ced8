"""Pick one of a set: the best (Setwise, Rank-R1) or the worst (IRanker)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from pydantic import Field

from pyserini_reasonrank.judges import Ask, Judge
from pyserini_reasonrank.judges.ladder import climb
from pyserini_reasonrank.parsing import read_label
from pyserini_reasonrank.records import Completion, Judgement, Prompt


class Best(Judge):
    """Shows a set, reads the label of its best. An answer that can't be read chooses the first shown."""

    kind = "best"

    class Options(Judge.Options):
        tags: Annotated[bool, Field(description="the prompt asks for <think> and <answer> tags")] = True

    async def judge(self, ask: Ask, prompt: Prompt, n: int) -> Judgement:
        return await climb(
            ask,
            prompt,
            self.sampling,
            lambda completion: self.read(completion, n),
            can=self.can,
            closing="\n</think>\n<answer>[" if self.options.tags else "\n</think>\n",
            answer_tokens=self.answer_tokens(n),
            reminder=self.reminder,
        )

    def read(self, completion: Completion, n: int) -> Judgement:
        """A judgement whose order begins with the chosen passage."""
        chosen, judgement = read_label(completion, n, tags=self.options.tags)
        return judgement if chosen is None else replace(judgement, order=self.placed(chosen, n))

    @staticmethod
    def placed(chosen: int, n: int) -> tuple[int, ...]:
        return (chosen, *(i for i in range(n) if i != chosen))

    @staticmethod
    def outcome(judgement: Judgement, indices: Sequence[int]) -> int:
        """The chosen index."""
        return indices[judgement.order[0]]

    @staticmethod
    def unmoved(indices: Sequence[int]) -> int:
        return indices[0]

    def ideal(self, gains: Sequence[float]) -> str:
        return self._answer(max(range(len(gains)), key=lambda i: gains[i]))

    def _answer(self, position: int) -> str:
        label = f"[{position + 1}]"
        return f"<think>{label} has it.</think>\n<answer>{label}</answer>" if self.options.tags else label


class Worst(Best):
    """Shows a set, reads the label of its worst. An answer that can't be read drops the last shown."""

    kind = "worst"

    @staticmethod
    def placed(chosen: int, n: int) -> tuple[int, ...]:
        return (*(i for i in range(n) if i != chosen), chosen)

    @staticmethod
    def outcome(judgement: Judgement, indices: Sequence[int]) -> int:
        """The index to drop."""
        return indices[judgement.order[-1]]

    @staticmethod
    def unmoved(indices: Sequence[int]) -> int:
        return indices[-1]

    def ideal(self, gains: Sequence[float]) -> str:
        return self._answer(min(reversed(range(len(gains))), key=lambda i: gains[i]))
