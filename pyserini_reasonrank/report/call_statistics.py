"""Statistics of all calls of a run, by query and as distributions, without their texts."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyserini_reasonrank.journal_reader import JudgementRecord, judgement_records
from pyserini_reasonrank.records import Status

BINS = 24
"""The most bars of a histogram."""


@dataclass(slots=True)
class QueryCalls:
    """Counts of the judgements about one query. ``comparable`` of them decided an order, of which ``copied`` kept it."""

    statuses: Counter[str] = field(default_factory=Counter)
    calls: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    comparable: int = 0
    copied: int = 0
    docids: set[str] = field(default_factory=set)

    @property
    def bad(self) -> int:
        """Judgements that the model's answer did not decide."""
        return sum(count for status, count in self.statuses.items() if Status(status).bad)

    def as_json(self) -> dict[str, Any]:
        """The counts, for the page."""
        return {
            "statuses": dict(self.statuses), "judgements": sum(self.statuses.values()), "bad": self.bad,
            "calls": self.calls, "prompt": self.prompt_tokens, "output": self.output_tokens,
            "seconds": round(self.seconds, 3), "comparable": self.comparable, "copied": self.copied,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class CallStatistics:
    """The counts of each query, and the distributions of tokens and seconds over judgements."""

    by_query: dict[str, QueryCalls]
    distributions: dict[str, dict[str, Any]]

    def as_json(self) -> dict[str, Any]:
        """Totals and distributions, for the page."""
        total = QueryCalls()
        for each in self.by_query.values():
            total.statuses += each.statuses
            total.calls += each.calls
            total.prompt_tokens += each.prompt_tokens
            total.output_tokens += each.output_tokens
            total.seconds += each.seconds
            total.comparable += each.comparable
            total.copied += each.copied
        return total.as_json() | {"distributions": self.distributions}


def call_statistics(journal: Path, run: str) -> CallStatistics:
    """Read the statistics of a run from its journal, which is streamed."""
    return statistics_of(judgement_records(journal, run))


def statistics_of(records: Iterable[JudgementRecord]) -> CallStatistics:
    """Count judgements."""
    by_query: dict[str, QueryCalls] = {}
    values = {"prompt": array("d"), "output": array("d"), "seconds": array("d")}
    for each in records:
        query = by_query.setdefault(each.qid, QueryCalls())
        query.statuses[each.status.value] += 1
        query.calls += each.calls
        query.prompt_tokens += each.prompt_tokens
        query.output_tokens += each.output_tokens
        query.seconds += each.seconds
        query.docids.update(each.docids)
        if len(each.docids) > 1 and not each.status.bad:
            query.comparable += 1
            query.copied += is_copy(each.order)
        for name, value in (
            ("prompt", each.prompt_tokens), ("output", each.output_tokens), ("seconds", each.seconds)
        ):  # fmt: skip
            values[name].append(value)
    return CallStatistics(by_query, {name: distribution(found) for name, found in values.items()})


def is_copy(order: Sequence[int]) -> bool:
    """Whether ``order`` leaves the documents as they were shown."""
    return all(place == position for place, position in enumerate(order))


def distribution(values: Sequence[float]) -> dict[str, Any]:
    """Count, mean, quantiles and histogram of ``values``: ``{"count", "mean", "p50", "p90", "p99", "max", "low", "width",
    "bins"}``. The bins have equal widths of 1, 2 or 5 times a power of ten."""
    if not len(values):
        return {"count": 0}
    ordered = sorted(values)
    low, width = _bins(ordered[0], ordered[-1])
    counts = [0] * (int((ordered[-1] - low) / width) + 1)
    for value in ordered:
        counts[int((value - low) / width)] += 1

    def quantile(share: float) -> float:
        return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]

    return {
        "count": len(ordered), "mean": math.fsum(ordered) / len(ordered),
        "p50": quantile(0.5), "p90": quantile(0.9), "p99": quantile(0.99), "max": ordered[-1],
        "low": low, "width": width, "bins": counts,
    }  # fmt: skip


def _bins(low: float, high: float) -> tuple[float, float]:
    """The lower end of the first bin, and the width of a bin."""
    if high - low <= 1e-9 * max(1.0, high):
        return low, 1.0
    least = (high - low) / BINS
    power: float = 10.0 ** math.floor(math.log10(least))
    width = next(step * power for step in (1, 2, 5, 10) if step * power >= least)
    return math.floor(low / width) * width, width
