"""A run with the texts of the Pyserini index that it was retrieved from: candidates of another collection."""

from __future__ import annotations

import asyncio
from pathlib import Path

from pyserini_reasonrank.cli.rerank import TEXTS
from pyserini_reasonrank.interrupts import temporary_folder
from pyserini_reasonrank.ir.runs import Hit
from pyserini_reasonrank.run.candidates import child, follow

OTHER = "negative:"
"""The start of the docids, so that those of two collections differ."""


def hits_with_texts(run: Path, topics: Path, index: str, depth: int) -> tuple[dict[str, list[Hit]], dict[str, str]]:
    """The first ``depth`` hits of each query of ``run``, and their texts by docid. The docids begin with ``OTHER``.

    ``index`` is a Lucene index that stores texts: a folder or the name of a prebuilt one. UsageError if it can't be used.
    """
    return asyncio.run(_read(run, topics, index, depth))


async def _read(run: Path, topics: Path, index: str, depth: int) -> tuple[dict[str, list[Hit]], dict[str, str]]:
    hits: dict[str, list[Hit]] = {}
    texts: dict[str, str] = {}
    with temporary_folder() as folder:
        candidates = Path(folder, "candidates.jsonl")
        flags = {"--run": run, "--topics": topics, "--texts": index, "--depth": depth, "--candidates": candidates}
        words = [str(word) for pair in flags.items() for word in pair]
        async with child(TEXTS, *words, folder=folder) as process:
            async for request in follow(candidates, process, depth):
                found = request.candidates[:depth]
                hits[request.query.qid] = [Hit(f"{OTHER}{c.docid}", c.score) for c in found]
                texts |= {f"{OTHER}{c.docid}": c.text for c in found}
    return hits, texts
