"""Reproducible fault injection around any engine."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field

from pyserini_reasonrank.engines import Engine, EngineOptions, build_engine
from pyserini_reasonrank.errors import Failure
from pyserini_reasonrank.models.catalogue import Model
from pyserini_reasonrank.records import Call, Completion, Prompt, Sampling

Fault = Literal["error", "empty", "truncated", "refused", "prose", "duplicates", "out_of_range", "dies"]


class FaultyOptions(EngineOptions):
    """Settings of the fault injection."""

    inner: Annotated[dict[str, Any], Field(description="the wrapped engine with its settings: {name: oracle, ...}")] = {
        "name": "oracle"
    }
    faults: Annotated[dict[Fault, float], Field(description="fraction of the calls with each fault")] = {}
    seed: int = 0
    seconds: Annotated[float, Field(ge=0, description="how much longer each call takes")] = 0.0
    dies_after: Annotated[int | None, Field(ge=0, description="the engine raises Failure after this many calls")] = None


class Faulty(Engine[FaultyOptions]):
    """Passes each call to ``inner`` and spoils a fraction of the answers, chosen by a hash of the call."""

    name = "faulty"
    options_class = FaultyOptions

    def __init__(self, model: Model, options: FaultyOptions) -> None:
        super().__init__(model, options)
        passed_on = {"concurrency": options.concurrency, "deterministic": options.deterministic}
        inner = {"name": "oracle", **passed_on, **options.inner}
        self.inner = build_engine(inner.pop("name"), inner, model)
        self.capabilities = self.inner.capabilities
        self._calls = 0

    def require_determinism(self, how: str) -> None:
        self.inner.require_determinism(how)

    async def start(self) -> None:
        await self.inner.start()
        self.model = self.inner.model  # a server may report its model on start
        self.notices = self.inner.notices

    def identity(self, call: Call) -> str:
        o = self.options
        return f"{self.inner.identity(call)}\n{o.faults}\n{o.seed}\n{call.qid}\n{call.number}"

    @property
    def max_model_len(self) -> int | None:
        return self.inner.max_model_len

    async def generate(self, prompt: Prompt, sampling: Sampling, call: Call) -> Completion:
        self._calls += 1
        if self.options.dies_after is not None and self._calls > self.options.dies_after:
            raise Failure(f"the engine died after {self.options.dies_after} calls")
        if self.options.seconds:
            await asyncio.sleep(self.options.seconds)
        completion = await self.inner.generate(prompt, sampling, call)
        fault = self._draw(call)
        return completion if fault is None else spoil(completion, fault, len(call.docids))

    def _draw(self, call: Call) -> Fault | None:
        digest = hashlib.sha256(
            repr((self.options.seed, call.qid, call.number, call.repeat.seed_offset)).encode()
        ).digest()
        point = int.from_bytes(digest[:8]) / 2**64
        for fault, rate in self.options.faults.items():
            if point < rate:
                return fault
            point -= rate
        return None

    async def close(self) -> None:
        await self.inner.close()


def spoil(completion: Completion, fault: Fault, n: int) -> Completion:
    """Return the completion with the fault. Failure for ``dies``."""
    text = completion.text
    match fault:
        case "error":
            return Completion(finish_reason="error", error="Error code: 500 - internal error in 20 of 30 workers")
        case "empty":
            return replace(completion, text="", choices={})
        case "refused":
            return replace(completion, text="I can't help with that.", finish_reason="refusal")
        case "truncated":
            cut = f"<think>Of the {n} passages, [{n}] and [1] say little; in 2020, 3 of them"
            return replace(completion, text=cut, finish_reason="length")
        case "prose":
            return replace(completion, text=f"Here are the top 10 of {n} passages.")
        case "duplicates":
            return replace(completion, text=text.replace("<answer>", "<answer>[1] > [1] > "))
        case "out_of_range":
            return replace(completion, text=text.replace("<answer>", f"<answer>[{n + 1}] > [0] > "))
        case "dies":
            raise Failure("the engine died")
