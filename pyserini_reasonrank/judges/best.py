"""Choose the best of a set (Setwise, Rank-R1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from pydantic import Field

from pyserini_reasonrank.ir.voting import majority
from pyserini_reasonrank.judges import published
from pyserini_reasonrank.judges.written import Written, identifier
from pyserini_reasonrank.parsing import read_label
from pyserini_reasonrank.records import Completion, Judgement


class Best(Written):
    """Shows a set and reads the label of its best passage. An unreadable answer chooses the first passage shown."""

    kind = "best"

    class Options(Written.Options):
        parser: Annotated[
            published.LabelParser,
            Field(description="rank-r1, setwise-sft: accept only [3] alone in the answer, as these releases do"),
        ] = "careful"

    def read(self, completion: Completion, n: int) -> Judgement:
        """Return a judgement whose order begins with the chosen passage."""
        o = self.options
        if o.parser == "careful":
            chosen, judgement = read_label(completion, n, tags=o.tags)
        else:
            chosen, judgement = published.read_label(completion, n, o.parser)
        if chosen is None:
            return judgement
        return replace(judgement, order=(chosen, *(i for i in range(n) if i != chosen)))

    def pattern(self, n: int) -> str:
        return identifier(n)

    @staticmethod
    def outcome(judgement: Judgement, indices: Sequence[int]) -> int:
        """Return the index of the chosen candidate."""
        return indices[judgement.order[0]]

    @staticmethod
    def agreed(outcomes: Sequence[int], indices: Sequence[int]) -> int:
        """Return the majority's choice, as Rank-R1 votes over permutations of its input."""
        return majority(outcomes, indices)

    def unmoved(self, indices: Sequence[int]) -> int:
        return indices[0]

    def ideal(self, gains: Sequence[float]) -> str:
        return self._label(max(range(len(gains)), key=lambda i: gains[i]))

    def _label(self, position: int) -> str:
        label = f"[{position + 1}]"
        return self.written(f"{label} has it.", label)
