"""Labelled lists: a query, the passages to show for it, and their gains."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from pyserini_reasonrank.records import Candidate, Query


@dataclass(frozen=True, slots=True)
class LabelledList:
    """A query and its passages in the order in which a prompt shows them, with their labels.

    ``gains``, ``first_stage`` (ranks, from 1) and ``teacher`` (scores) have one entry for each passage. ``gold`` is a
    labelled order, docids best first, and ``reasoning`` the thought that led to it; its identifiers number the passages
    in the given order. ``relevant`` gives binary relevance where the labels define it differently from a gain above 0.
    """

    query: Query
    candidates: tuple[Candidate, ...]
    gains: tuple[float, ...]
    first_stage: tuple[int, ...]
    source: str
    gold: tuple[str, ...] | None = None
    reasoning: str = ""
    teacher: tuple[float, ...] | None = None
    relevant: tuple[bool, ...] | None = None

    def shown(self, places: Sequence[int]) -> LabelledList:
        """The passages at ``places``, in that order. The reasoning is kept only if the list stays as it is."""
        docids = {self.candidates[place].docid for place in places}
        return replace(
            self,
            candidates=tuple(self.candidates[place] for place in places),
            gains=tuple(self.gains[place] for place in places),
            first_stage=tuple(self.first_stage[place] for place in places),
            gold=self.gold and tuple(docid for docid in self.gold if docid in docids),
            reasoning=self.reasoning if [*places] == [*range(len(self.candidates))] else "",
            teacher=self.teacher and tuple(self.teacher[place] for place in places),
            relevant=self.relevant and tuple(self.relevant[place] for place in places),
        )


def shuffled(labelled: LabelledList, chance: random.Random) -> LabelledList:
    """The list in a random order."""
    places = list(range(len(labelled.candidates)))
    chance.shuffle(places)
    return labelled.shown(places)


def exclusions(labelled: LabelledList, chance: random.Random) -> Iterator[LabelledList]:
    """IRanker's exclusion cases of a list (arXiv 2506.21638): for each k below its length, k passages and the target.

    The target is the first passage with the highest gain. Each case contains it, at a random place. The other passages
    of a case have no gain.
    """
    target = max(range(len(labelled.gains)), key=lambda i: labelled.gains[i])
    others = [i for i, gain in enumerate(labelled.gains) if gain <= 0]
    for k in range(1, len(others) + 1):
        case = chance.sample(others, k)
        case.insert(chance.randrange(k + 1), target)
        yield labelled.shown(case)
