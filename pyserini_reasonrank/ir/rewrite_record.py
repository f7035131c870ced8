"""The record of the rewritten queries of a search: settings, counts, and the queries that stayed as they were."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyserini_reasonrank.ir.environment import environment
from pyserini_reasonrank.ir.masking import masked_command
from pyserini_reasonrank.ir.metadata import FINGERPRINT, PartRecord, sha256
from pyserini_reasonrank.records import Status, Tally


@dataclass(frozen=True, slots=True, kw_only=True)
class RewriteRecord:
    """A finished rewriting. ``settings`` has the rewriter's own ones; ``topics`` is the number of queries.

    ``kept`` are the qids whose query was never rewritten, since no answer could be read; ``cut`` counts the queries that were
    too long for the search. ``output`` is the topics file with the texts to search. ``seconds`` has wall times by name.
    """

    rewriter: str
    part: PartRecord
    settings: Mapping[str, Any]
    topics: int
    kept: Sequence[str]
    cut: int
    output: Path
    journal: Path
    seconds: Mapping[str, float] = field(default_factory=dict)
    warnings: Sequence[str] = ()

    @property
    def tally(self) -> Tally:
        """The counts of questions, calls and tokens."""
        return self.part.tally

    @property
    def rewritten(self) -> int:
        """The number of queries that were rewritten."""
        return self.topics - len(self.kept)

    def fields(self) -> dict[str, Any]:
        """The record as nested mappings, for the metadata of a run."""
        return {
            "name": self.rewriter,
            "method": "pyserini_reasonrank",
            "rewrites": "topics",
            "topics file": str(self.output),
            "sha256": sha256(self.output),
            **self.settings,
            **self.part.fields(),
            "topics rewritten": f"{self.rewritten} of {self.topics}",
            "topics with their original query": list(self.kept),
            "topics cut": self.cut,
            "statuses of calls": {status.value: self.tally.statuses.get(status, 0) for status in Status},
            "llm": {**self._spent(), "calls answered from the journal": self.tally.from_journal},
            "runtime in seconds": {name: round(seconds, 3) for name, seconds in self.seconds.items()},
        }

    def _spent(self) -> dict[str, int]:
        return {name: count for name, count in self.part.spent().items() if name != "rankings"}

    def counts(self) -> list[str]:
        """The lines of a summary on the queries, the calls and their cost."""
        t = self.tally
        return [
            f"rewrites  {self.rewritten} of {self.topics} topics, {len(self.kept)} with their original query, {self.cut} cut",
            f"  calls   {t.judgements:,} judgements ({t}) from {t.calls:,} LLM calls and {t.from_journal:,} journal entries",
            f"  tokens  {t.prompt_tokens:,} read, {t.output_tokens:,} written",
            f"  time    {self.seconds['load']:.1f} s to load, {self.seconds['rewrite']:.1f} s to rewrite",
        ]

    def files(self) -> list[str]:
        """The lines of a summary on the files."""
        return [f"rewritten {self.output}", f"  trace   {self.journal}"]


def metadata_of(
    record: RewriteRecord, command: Sequence[str], topics: str, fingerprint: str, run: Path | None = None
) -> dict[str, Any]:
    """The metadata of rewritten topics, or of the ``run`` that was searched with them and not reranked.

    ``topics`` is the value of ``--topics``, ``fingerprint`` a hash of the settings.
    """
    searched = [] if run is None else [{"name": "search", "run": str(run), "sha256": sha256(run)}]
    return {
        "platform": environment(),
        "implementation": {
            "executable": {"cmd": shlex.join(masked_command(command))},
            "source": {"lang": ["python"]},
        },
        "method": {
            "automatic": True,
            FINGERPRINT: fingerprint,
            "query rewriting": record.fields(),
            **({"retrieval": searched} if searched else {}),
        },
        "data": {"test collection": {"topics": topics}},
        "outcome": {"warnings": list(record.warnings)},
    }
