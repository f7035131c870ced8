"""The prefix cache of vLLM's servers by the counters of ``GET /metrics``, for servers that report nothing in ``usage``.

The counters are vLLM's ``vllm:prefix_cache_queries`` and ``vllm:prefix_cache_hits``, both in prompt tokens. They count the
requests of all clients.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from pyserini_reasonrank.records import PrefixCache

PATH = "/metrics"
_SAMPLE = re.compile(r"^vllm:prefix_cache_(queries|hits)(?:_total)?(?:\{.*\})? (\S+)", re.MULTILINE)


def read_counters(text: str) -> PrefixCache | None:
    """The counters in an answer in Prometheus' text format, summed over the engines of the server; None if it has none."""
    found = {"queries": 0.0, "hits": 0.0}
    samples = _SAMPLE.findall(text)
    try:
        for name, value in samples:
            found[name] += float(value)
        return PrefixCache(int(found["queries"]), int(found["hits"])) if samples else None
    except (ValueError, OverflowError):  # no number, or an infinite one
        return None


def counted_since(readings: Iterable[tuple[PrefixCache | None, PrefixCache | None]]) -> PrefixCache | None:
    """The sum over servers of what was counted between two readings of each; None if no server has both.

    A server whose counters went back was started again and is left out.
    """
    both = [(before, after) for before, after in readings if before and after]
    grown = [(b, a) for b, a in both if a.queries >= b.queries and a.hits >= b.hits]
    if not grown:
        return None
    return PrefixCache(sum(a.queries - b.queries for b, a in grown), sum(a.hits - b.hits for b, a in grown))
