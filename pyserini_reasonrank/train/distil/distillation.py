"""Listwise distillation: train a small model's query likelihood to order passages as labels and a teacher do."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice

from pyserini_reasonrank.train.data.decontaminate import THRESHOLD, evaluation_topics, near_duplicates
from pyserini_reasonrank.train.distil.blocks import Block, blocks
from pyserini_reasonrank.train.distil.optimisation import Config, Source, Training


def run(config: Config) -> None:
    """Train, or resume from the checkpoint in ``output``, and write the adapter to ``output``."""
    chosen = gather(config)
    steps = math.ceil(len(chosen) / config.batch)
    print(f"{len(chosen)} blocks, {sum(len(b.queries) for b in chosen)} queries, {steps} steps", flush=True)
    config.output.mkdir(parents=True, exist_ok=True)
    Training(config, chosen, held_blocks(config)).run()
    print(f"adapter in {config.output}")


def gather(config: Config) -> list[Block]:
    """The training blocks of all sources, in training order."""
    chosen = _clean(config, [b for source in config.sources.values() for b in _blocks(config, source, source.blocks)])
    return random.Random(config.seed).sample(chosen, len(chosen))


def held_blocks(config: Config) -> list[Block]:
    """The blocks of held-out queries, which are never trained on."""
    return _clean(config, [b for s in config.sources.values() for b in _blocks(config, s, config.dev, held=True)])


def _blocks(config: Config, source: Source, number: int, *, held: bool = False) -> Iterator[Block]:
    rng = random.Random(config.seed)
    return islice(blocks(source.kind, config.data / source.path, config.passages, rng, held=held), number)


def _clean(config: Config, chosen: Sequence[Block]) -> list[Block]:
    """The blocks without an evaluation query (equal or nearly equal). Prints how many queries are left out."""
    queries = list(dict.fromkeys(query for block in chosen for query in block.queries))
    paths = [config.data / path for path in config.evaluation]
    found = near_duplicates(queries, evaluation_topics(paths), THRESHOLD)
    for topics, count in Counter(match.topics for match in found.values()).items():
        print(f"{count} of {len(queries):,} queries equal or nearly equal a topic of {topics}: left out", flush=True)
    return [block for block in chosen if not found.keys() & set(block.queries)]
