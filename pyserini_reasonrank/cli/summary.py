"""The summary that a rerank command prints at its end."""

from __future__ import annotations

import sys

from pyserini_reasonrank.errors import listed
from pyserini_reasonrank.ir.metadata import RunRecord
from pyserini_reasonrank.records import Tally
from pyserini_reasonrank.run.outputs import STDOUT

NAMED = 5
"""The number of topics that a line names; it counts the others."""


def summary(outcome: RunRecord) -> str:
    """What was reranked, how the calls ended, what they cost, and where the files are."""
    return "\n".join([
        *_counts(outcome),
        f"run       {outcome.output}",
        f"first     {outcome.first_run}",
        *(outcome.rewriting.files() if outcome.rewriting else []),
        f"trace     {outcome.journal}",
        f"metadata  {outcome.metadata}",
    ])  # fmt: skip


def _counts(outcome: RunRecord) -> list[str]:
    t = outcome.tally
    return [
        *(f"warning: {warning}" for warning in outcome.warnings),
        *(outcome.rewriting.counts() if outcome.rewriting else []),
        f"topics    {outcome.answered} of {outcome.topics} reranked, {outcome.topics - outcome.answered} without candidates",
        *_excluded(outcome),
        *_kept(outcome),
        f"calls     {t.judgements:,} judgements ({t}) from {t.calls:,} LLM calls and {t.from_journal:,} journal entries",
        *_by_part(outcome),
        f"tokens    {t.prompt_tokens:,} read{_cached(outcome)}, {t.output_tokens:,} written",
        f"time      {outcome.seconds['load']:.1f} s to load, {outcome.seconds['rerank']:.1f} s to rerank",
    ]


def _excluded(outcome: RunRecord) -> list[str]:
    """How many documents an exclusion list removed, if there is one."""
    if outcome.excluded is None:
        return []
    return [f"excluded  {outcome.excluded:,} document{'s' * (outcome.excluded != 1)} removed from the candidates"]


def _kept(outcome: RunRecord) -> list[str]:
    """How many candidates were kept, and the topics without one, if the run keeps relevant ones only."""
    if outcome.threshold is None:
        return []
    total, empty = sum(outcome.candidates.values()), outcome.without_relevant
    kept = total - sum(outcome.dropped.values())
    line = f"kept      {kept:,} of {total:,} candidates (threshold {outcome.threshold:g}); nothing relevant for"
    named = f": {listed(empty, NAMED)}" if empty else ""
    return [f"{line} {len(empty):,} topic{'s' * (len(empty) != 1)}{named}"]


def _cached(outcome: RunRecord) -> str:
    """The prompt tokens that the engine did not have to read, if it reports them, or a share of them by its counters."""
    cache, cached = outcome.prefix_cache, outcome.tally.cached_tokens
    if cache and cache.queries and not cached:
        return f" ({cache.hits / cache.queries:.0%} from the prefix cache, by the servers' /metrics)"
    return f" ({cached:,} of them from the prefix cache)" if cached else ""


def show(outcome: RunRecord, output: str) -> None:
    """Print the summary to stdout; with ``--output -``, where stdout has the run and no file remains, to stderr."""
    if output == STDOUT:
        print("\n".join(_counts(outcome)), file=sys.stderr)
    else:
        print(summary(outcome))


def _by_part(outcome: RunRecord) -> list[str]:
    """For a combination: how often each reranker ranked, and how many judgements it made for a query."""
    if len(outcome.tallies) == 1:
        return []
    width = max(8, *(len(name) + 1 for name in outcome.tallies))
    return [f"  {name:<{width}}{_share(tally, outcome)}" for name, tally in outcome.tallies.items()]


def _share(tally: Tally, outcome: RunRecord) -> str:
    ranked = "" if tally.judgements and not tally.rankings else f"{tally.rankings} rankings, "  # a critic ranks nothing
    return f"{ranked}{tally.judgements / max(outcome.answered, 1):.1f} judgements per query ({tally})"
