"""Judges that order the passages shown."""

from __future__ import annotations

from collections.abc import Sequence

from pyserini_reasonrank.ir.voting import borda
from pyserini_reasonrank.judges import Judge
from pyserini_reasonrank.records import Judgement


class Ordering(Judge):
    """The outcome is the order of the candidates, best first."""

    @staticmethod
    def outcome(judgement: Judgement, indices: Sequence[int]) -> list[int]:
        """Return the indices, best first."""
        return [indices[position] for position in judgement.order]

    @staticmethod
    def agreed(outcomes: Sequence[Sequence[int]], indices: Sequence[int]) -> list[int]:
        """Return the order by Borda count."""
        return borda(outcomes, indices)

    def unmoved(self, indices: Sequence[int]) -> list[int]:
        return list(indices)
