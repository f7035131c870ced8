"""Which passages a training prompt shows: positives, negatives drawn by rank bands, and IRanker's shrinking sets."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pyserini_reasonrank.ir.runs import Hit
from pyserini_reasonrank.train.data.builder import Listed


class Band(BaseModel):
    """A stretch of the first stage's ranks, from 1, and its share of the negatives."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    first: Annotated[int, Field(ge=1, description="its best rank, from 1")]
    last: Annotated[int, Field(ge=1, description="its last rank")]
    share: Annotated[float, Field(gt=0, description="of the negatives, relative to other bands")] = 1.0

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.last < self.first:
            raise ValueError(f"a band ends at rank {self.last}, before it begins at {self.first}")
        return self


class Draw(BaseModel):
    """How the passages of a query are drawn."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: Annotated[int, Field(ge=2, description="passages in a list, at most")] = 20
    positives: Annotated[int, Field(ge=1, description="of them positives, at most")] = 10
    bands: Annotated[
        tuple[Band, ...], Field(min_length=1, description="ranks {first, last, share} that negatives come from")
    ] = (Band(first=1, last=100),)
    missed: Annotated[bool, Field(description="take positives that the first stage missed too")] = True


@dataclass(frozen=True, slots=True)
class Drawn:
    """Docids of a list, in first-stage order, with gains and first-stage ranks."""

    docids: tuple[str, ...]
    gains: tuple[float, ...]
    first_stage: tuple[int, ...]


def draw(hits: Sequence[Hit], grades: Mapping[str, int], how: Draw, chance: random.Random) -> Drawn | None:
    """A list for one query; None where it has no positive to show, or no negative.

    Positives are drawn from those with a grade above 0, highest grades first; what is not judged counts as negative.
    Bands share the other places by their weights, and what one is short of comes from the best ranks left. A positive
    that was not retrieved ranks behind all that were.
    """
    ranks = {hit.docid: rank for rank, hit in enumerate(hits, 1)}
    wanted = [docid for docid, grade in grades.items() if grade > 0 and (how.missed or docid in ranks)]
    positives = sorted(wanted, key=lambda docid: (-grades[docid], chance.random()))[: min(how.positives, how.size - 1)]
    pool = [hit.docid for hit in hits if grades.get(hit.docid, 0) <= 0]
    negatives = _by_bands(pool, ranks, how.bands, how.size - len(positives), chance)
    if not positives or not negatives:
        return None
    chosen = sorted([*positives, *negatives], key=lambda docid: (ranks.get(docid, len(hits) + 1), docid))
    return Drawn(
        tuple(chosen),
        tuple(float(max(grades.get(docid, 0), 0)) for docid in chosen),
        tuple(ranks.get(docid, len(hits) + 1) for docid in chosen),
    )


def redrawn(listed: Listed, how: Draw, chance: random.Random) -> Listed | None:
    """A list out of a longer one, whose places stand in for ranks; None as for ``draw``."""
    hits = [Hit(candidate.docid, candidate.score) for candidate in listed.candidates]
    grades = {hit.docid: int(gain) for hit, gain in zip(hits, listed.gains, strict=True)}
    found = draw(hits, grades, how, chance)
    return None if found is None else listed.shown([rank - 1 for rank in found.first_stage])


def _by_bands(
    pool: Sequence[str], ranks: Mapping[str, int], bands: Sequence[Band], count: int, chance: random.Random
) -> list[str]:
    total, drawn, due = sum(band.share for band in bands), list[str](), 0.0
    for band in bands:
        due += count * band.share / total
        inside = [docid for docid in pool if band.first <= ranks[docid] <= band.last and docid not in drawn]
        drawn += chance.sample(inside, min(round(due) - len(drawn), len(inside)))
    rest = [docid for docid in pool if docid not in drawn]  # in rank order
    return drawn + rest[: count - len(drawn)]


def exclusions(listed: Listed, chance: random.Random) -> Iterator[Listed]:
    """IRanker's cases of one list (arXiv 2506.21638): for every k below its length, k passages and the target.

    The target, the first passage of the highest gain, is in all of them, at a random place; the others that gain
    something are in none.
    """
    target = max(range(len(listed.gains)), key=lambda i: listed.gains[i])
    others = [i for i, gain in enumerate(listed.gains) if gain <= 0]
    for k in range(1, len(others) + 1):
        case = chance.sample(others, k)
        case.insert(chance.randrange(k + 1), target)
        yield listed.shown(case)


def shuffled(listed: Listed, chance: random.Random) -> Listed:
    """The list in a random order."""
    places = list(range(len(listed.candidates)))
    chance.shuffle(places)
    return listed.shown(places)
