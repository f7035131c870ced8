"""The end of a command: a run's summary, or one sentence and an exit status."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

from pyserini_reasonrank.errors import Failure, UsageError
from pyserini_reasonrank.ir.metadata import RunRecord
from pyserini_reasonrank.records import Tally


def guarded(command: Callable[[], int]) -> int:
    """Run a command; an error the user can act on becomes one sentence on stderr and its exit status."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    try:
        return command()
    except (UsageError, Failure) as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("error: interrupted; the same command goes on from the journal", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 1


def summary(outcome: RunRecord) -> str:
    """What was done, how every call ended, and where the files are."""
    t = outcome.tally
    lines = [f"warning: {warning}" for warning in outcome.warnings]
    lines += [
        f"topics    {outcome.answered} of {outcome.topics} reranked, {outcome.topics - outcome.answered} without candidates",
        f"calls     {t.judgements} questions: {t}; {t.calls} asked, {t.from_journal} from the journal",
        *_by_part(outcome),
        f"tokens    {t.prompt_tokens:,} read, {t.output_tokens:,} written",
        f"time      {outcome.seconds['load']:.1f} s to load, {outcome.seconds['rerank']:.1f} s to rerank",
        f"run       {outcome.output}",
        f"first     {outcome.first_run}",
        f"trace     {outcome.journal}",
        f"metadata  {outcome.metadata}",
    ]
    return "\n".join(lines)


def _by_part(outcome: RunRecord) -> list[str]:
    """Of a combination, how often each reranker ranked, and what it was asked for a query."""
    if len(outcome.tallies) == 1:
        return []
    width = max(8, *(len(name) + 1 for name in outcome.tallies))
    return [f"  {name:<{width}}{_share(tally, outcome)}" for name, tally in outcome.tallies.items()]


def _share(tally: Tally, outcome: RunRecord) -> str:
    ranked = "" if tally.judgements and not tally.rankings else f"{tally.rankings} rankings, "  # a critic ranks nothing
    return f"{ranked}{tally.judgements / max(outcome.answered, 1):.1f} questions a query: {tally}"
