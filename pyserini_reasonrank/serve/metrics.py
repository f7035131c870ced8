"""The metrics of the server in the format of Prometheus."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from pyserini_reasonrank.records import Tally
from pyserini_reasonrank.serve.protection import App, Receive, Scope, Send

PREFIX = "reasonrank"
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250)


class Metrics:
    """Requests of this server, and the counts of its rerankers, which ``tallies`` returns by name, and of its ``rewriters``."""

    def __init__(
        self,
        tallies: Callable[[], Mapping[str, Tally]],
        active: Callable[[], int],
        rewriters: Callable[[], Mapping[str, Tally]] = dict,
    ) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            f"{PREFIX}_requests", "Requests by path and status", ["path", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            f"{PREFIX}_request_seconds", "Duration of requests", ["path"], buckets=_SECONDS, registry=self.registry
        )
        Gauge(f"{PREFIX}_requests_active", "Requests being ranked", registry=self.registry).set_function(active)
        self.registry.register(_Tallies(tallies, PREFIX, "reranker"))
        self.registry.register(_Tallies(rewriters, f"{PREFIX}_rewriter", "rewriter"))


class _Tallies(Collector):
    """The counts of the rerankers or rewriters, read when they are asked for. ``kind`` is the label with their names."""

    def __init__(self, tallies: Callable[[], Mapping[str, Tally]], prefix: str, kind: str) -> None:
        self._tallies, self._prefix, self._kind = tallies, prefix, kind

    def collect(self) -> Iterable[Metric]:
        prefix, kind = self._prefix, self._kind
        judgements = CounterMetricFamily(f"{prefix}_judgements", "Judgements by status", labels=[kind, "status"])
        calls = CounterMetricFamily(f"{prefix}_calls", "LLM calls", labels=[kind])
        tokens = CounterMetricFamily(f"{prefix}_tokens", "Tokens of LLM calls", labels=[kind, "kind"])
        for name, tally in self._tallies().items():
            for status, count in tally.statuses.items():
                judgements.add_metric([name, str(status)], count)
            calls.add_metric([name], tally.calls)
            tokens.add_metric([name, "prompt"], tally.prompt_tokens)
            tokens.add_metric([name, "output"], tally.output_tokens)
        yield from (judgements, calls, tokens)


class Measured:
    """ASGI middleware that counts requests and their durations by path; ``other`` is any path not in ``paths``."""

    def __init__(self, app: App, metrics: Metrics, paths: Collection[str]) -> None:
        self.app, self.metrics, self.paths = app, metrics, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.monotonic(), "closed"

        async def noting(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        try:
            await self.app(scope, receive, noting)
        finally:
            path = scope["path"] if scope["path"] in self.paths else "other"  # anyone can invent paths
            self.metrics.requests.labels(path, status).inc()
            self.metrics.seconds.labels(path).observe(time.monotonic() - began)
