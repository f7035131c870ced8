"""Stores of finished calls: what a ranker needs of one, and those that keep calls in memory or trace single requests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from pyserini_reasonrank.records import Call, Completion, Judgement, Ranking, Sampling


class CallStore(Protocol):
    """A store of finished calls: the journal, or memory."""

    def find(self, key: str) -> Completion | None:
        """The completion of the finished call with this key, or None."""

    async def add(self, key: str, call: Call, sampling: Sampling, completion: Completion) -> None:
        """Store a finished call."""

    def asked(self, key: str, call: Call, completion: Completion) -> None:
        """Record that the finished call with this key answered a question."""

    def judged(self, call: Call, judgement: Judgement) -> None:
        """Record a judgement."""

    def ranked(self, ranking: Ranking) -> None:
        """Record the final order of a query."""


class MemoryStore:
    """A store in memory of the last ``most`` calls: none of these is repeated in the same process. Nothing is on disk."""

    def __init__(self, most: int = 10_000) -> None:
        self._most = most
        self._completions: dict[str, Completion] = {}

    def find(self, key: str) -> Completion | None:
        return self._completions.get(key)

    async def add(self, key: str, call: Call, sampling: Sampling, completion: Completion) -> None:
        self._completions[key] = completion
        if len(self._completions) > self._most:
            del self._completions[next(iter(self._completions))]

    def asked(self, key: str, call: Call, completion: Completion) -> None: ...

    def judged(self, call: Call, judgement: Judgement) -> None: ...

    def ranked(self, ranking: Ranking) -> None: ...


@dataclass
class Trace:
    """The judgements about one request, in the order in which they ended, and the tokens of its calls, also of earlier ones."""

    judgements: list[tuple[Call, Judgement]] = field(default_factory=list)
    prompt_tokens: int = 0
    output_tokens: int = 0


class TracingStore:
    """A store around ``store`` that also traces requests while they are ranked."""

    def __init__(self, store: CallStore) -> None:
        self.store = store
        self._traces: dict[int, Trace] = {}

    def open(self, request: int) -> Trace:
        """Begin to trace the request with this number. Open requests may have the same qid, but not the same number."""
        self._traces[request] = trace = Trace()
        return trace

    def close(self, request: int) -> None:
        """End the trace of a request."""
        self._traces.pop(request, None)

    def find(self, key: str) -> Completion | None:
        return self.store.find(key)

    async def add(self, key: str, call: Call, sampling: Sampling, completion: Completion) -> None:
        self._count(call, completion)
        await self.store.add(key, call, sampling, completion)

    def asked(self, key: str, call: Call, completion: Completion) -> None:
        self._count(call, completion)
        self.store.asked(key, call, completion)

    def judged(self, call: Call, judgement: Judgement) -> None:
        if (trace := self._traces.get(call.request)) is not None:
            trace.judgements.append((call, judgement))
        self.store.judged(call, judgement)

    def ranked(self, ranking: Ranking) -> None:
        self.store.ranked(ranking)

    def _count(self, call: Call, completion: Completion) -> None:
        if (trace := self._traces.get(call.request)) is not None:
            trace.prompt_tokens += completion.prompt_tokens
            trace.output_tokens += completion.output_tokens
