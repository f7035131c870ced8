"""Which passages a training list shows: positives, and negatives drawn from bands of first-stage ranks."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pyserini_reasonrank.ir.runs import Hit
from pyserini_reasonrank.train.data.lists import LabelledList


class Band(BaseModel):
    """A range of first-stage ranks and its share of the negatives."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    first: Annotated[int, Field(ge=1, description="best rank of the band, from 1")]
    last: Annotated[int, Field(ge=1, description="last rank of the band")]
    share: Annotated[float, Field(gt=0, description="weight of the band among the bands")] = 1.0

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.last < self.first:
            raise ValueError(f"a band ends at rank {self.last}, before it begins at {self.first}")
        return self


class Draw(BaseModel):
    """How the passages of a list are drawn."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: Annotated[int, Field(ge=2, description="maximum number of passages in a list")] = 20
    least: Annotated[
        int | None,
        Field(
            ge=2, description="smallest list: a list draws its size n from this to size, with weight n - 1; null: size"
        ),
    ] = None
    positives: Annotated[int, Field(ge=1, description="maximum number of positives in a list")] = 10
    bands: Annotated[
        tuple[Band, ...], Field(min_length=1, description="rank bands {first, last, share} to draw negatives from")
    ] = (Band(first=1, last=100),)
    missed: Annotated[bool, Field(description="include positives that the first stage did not retrieve")] = True

    @model_validator(mode="after")
    def _smaller(self) -> Self:
        if self.least is not None and self.least > self.size:
            raise ValueError(f"the smallest list has {self.least} passages, more than size {self.size}")
        return self


@dataclass(frozen=True, slots=True)
class Drawn:
    """The docids of a list in first-stage order, with their gains and first-stage ranks."""

    docids: tuple[str, ...]
    gains: tuple[float, ...]
    first_stage: tuple[int, ...]


def draw(hits: Sequence[Hit], grades: Mapping[str, int], how: Draw, chance: random.Random) -> Drawn | None:
    """Draw a list for one query. None if the query has no positive or no negative to show.

    Positives have a grade above 0; the highest grades are taken first. Unjudged passages count as negatives. The bands
    share the remaining places by their weights; if a band is too small, the best remaining ranks fill its places.
    Positives that were not retrieved rank below all hits.
    """
    size = how.size
    if how.least is not None:
        sizes = range(how.least, how.size + 1)
        [size] = chance.choices(sizes, weights=[n - 1 for n in sizes])
    ranks = {hit.docid: rank for rank, hit in enumerate(hits, 1)}
    wanted = [docid for docid, grade in grades.items() if grade > 0 and (how.missed or docid in ranks)]
    positives = sorted(wanted, key=lambda docid: (-grades[docid], chance.random()))[: min(how.positives, size - 1)]
    pool = [hit.docid for hit in hits if grades.get(hit.docid, 0) <= 0]
    negatives = _by_bands(pool, ranks, how.bands, size - len(positives), chance)
    if not positives or not negatives:
        return None
    chosen = sorted([*positives, *negatives], key=lambda docid: (ranks.get(docid, len(hits) + 1), docid))
    return Drawn(
        tuple(chosen),
        tuple(float(max(grades.get(docid, 0), 0)) for docid in chosen),
        tuple(ranks.get(docid, len(hits) + 1) for docid in chosen),
    )


def redrawn(labelled: LabelledList, how: Draw, chance: random.Random) -> LabelledList | None:
    """Draw a shorter list from a longer one; its places serve as ranks. None as for ``draw``."""
    hits = [Hit(candidate.docid, candidate.score) for candidate in labelled.candidates]
    grades = {hit.docid: int(gain) for hit, gain in zip(hits, labelled.gains, strict=True)}
    found = draw(hits, grades, how, chance)
    return None if found is None else labelled.shown([rank - 1 for rank in found.first_stage])


def _by_bands(
    pool: Sequence[str], ranks: Mapping[str, int], bands: Sequence[Band], count: int, chance: random.Random
) -> list[str]:
    total, drawn, quota = sum(band.share for band in bands), list[str](), 0.0
    for band in bands:
        quota += count * band.share / total
        inside = [docid for docid in pool if band.first <= ranks[docid] <= band.last and docid not in drawn]
        drawn += chance.sample(inside, min(round(quota) - len(drawn), len(inside)))
    rest = [docid for docid in pool if docid not in drawn]  # in rank order
    return drawn + rest[: count - len(drawn)]
