"""Which prompts share a generation batch: each is repeated for its rollouts; rows of a query can be kept together."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence

from torch.utils.data import Sampler


class PromptSampler(Sampler[int]):  # type: ignore[misc]
    """Yields row indices in generation batches of ``prompts`` rows.

    Each index occurs ``generations`` times in succession and each batch ``repeats`` times (TRL takes a slice of it at
    each optimisation step; see its RepeatSampler). With ``per_query``, a batch has that many rows of each of its queries.
    Queries with fewer rows are left out; of queries with more rows, each epoch draws others, always with a positive. The
    order depends only on seed and epoch, so a resumed run sees the same batches as an uninterrupted one.
    """

    def __init__(
        self,
        qids: Sequence[str],
        positive: Sequence[bool],
        *,
        prompts: int,
        generations: int,
        repeats: int,
        per_query: int | None,
        shuffle: bool,
        seed: int,
    ) -> None:
        self.prompts, self.generations, self.repeats = prompts, generations, repeats
        self.per_query, self.shuffle, self.seed, self.epoch = per_query, shuffle, seed, 0
        self.positive = positive
        queries: dict[str, list[int]] = defaultdict(list)
        for index, qid in enumerate(qids):
            queries[qid if per_query else str(index)].append(index)
        self.units = [rows for rows in queries.values() if len(rows) >= (per_query or 1)]
        self.left_out = len(queries) - len(self.units)
        self.batches = len(self.units) * (per_query or 1) // prompts

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.batches * self.prompts * self.generations * self.repeats

    def __iter__(self) -> Iterator[int]:
        chance = random.Random(f"{self.seed} {self.epoch}")
        units = [self._drawn(rows, chance) for rows in self.units]
        if self.shuffle:
            chance.shuffle(units)
        order = [index for rows in units for index in rows]
        for start in range(0, self.batches * self.prompts, self.prompts):
            batch = order[start : start + self.prompts]
            for _ in range(self.repeats):
                for index in batch:
                    yield from [index] * self.generations

    def _drawn(self, rows: list[int], chance: random.Random) -> list[int]:
        if self.per_query is None or len(rows) == self.per_query:
            return rows
        drawn = chance.sample(rows, len(rows))
        first = next((index for index in drawn if self.positive[index]), drawn[0])
        return [first, *(index for index in drawn if index != first)][: self.per_query]
