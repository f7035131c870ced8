"""Pyserini's search with rewritten topics, in a process of its own: for the passages of a round, and for a whole run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pyserini_reasonrank import interrupts
from pyserini_reasonrank.ir.topics import write_topics
from pyserini_reasonrank.records import Query
from pyserini_reasonrank.run.candidates import HostFailed, child, follow
from pyserini_reasonrank.run.rewriting.pipeline import Passages

FIRST_STAGE = "pyserini_reasonrank.host.first_stage"
REWRITTEN = ".rewritten.tsv"
"""The suffix of the rewritten topics, which a search writes beside its run."""


def with_topics(argv: Sequence[str], topics: Path) -> list[str]:
    """The flags of a search with a topics file in place of theirs: of a flag given twice, the last counts."""
    return [*argv, "--topics", str(topics), "--topics-format", "default"]


@dataclass(frozen=True, slots=True)
class HostSearch:
    """A search of Pyserini's module ``module`` with the user's flags ``argv``.

    ``texts`` are the flags of the search process that decide what passages contain: ``--corpus``, ``--exclude``.
    """

    module: str
    argv: Sequence[str]
    depth: int
    texts: Sequence[str] = ()

    async def passages(self, queries: Sequence[Query]) -> Passages:
        """The top ``depth`` passages for the texts of ``queries``. HostFailed if the search fails."""
        with interrupts.temporary_folder() as folder:
            topics, candidates = Path(folder, "topics.tsv"), Path(folder, "candidates.jsonl")
            write_topics(topics, queries)
            depth = str(self.depth)
            files = ["--run", str(Path(folder, "run.txt")), "--candidates", str(candidates)]
            wanted = ["--module", self.module, *files, "--depth", depth, *self.texts]
            flags = [*with_topics(self.argv, topics), "--hits", depth]
            async with child(FIRST_STAGE, *wanted, "--", *flags, folder=folder) as search:
                return {r.query.qid: r.candidates async for r in follow(candidates, search, self.depth)}

    async def write(self, topics: Path, run: Path) -> None:
        """Search with a topics file, and write the run in the format that ``argv`` names. HostFailed if the search fails."""
        with interrupts.temporary_folder() as folder:
            wanted = ["--module", self.module, "--run", str(run), "--search-only"]
            async with child(FIRST_STAGE, *wanted, "--", *with_topics(self.argv, topics), folder=folder) as search:
                if status := await search.wait():
                    raise HostFailed(status)
