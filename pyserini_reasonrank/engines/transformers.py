"""Hugging Face transformers in this process: continuous batching for texts, forward passes for alternatives."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import queue
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import fields
from typing import Annotated, Any

from pydantic import Field

from pyserini_reasonrank import engines
from pyserini_reasonrank.engines import Capability, Engine
from pyserini_reasonrank.errors import Failure, UsageError
from pyserini_reasonrank.models import Model
from pyserini_reasonrank.records import Call, Completion, Prompt, Sampling
from pyserini_reasonrank.suggest import nearest

_CPU_CACHE_BYTES = 750_000_000
_CPU_BATCHING = {"page_size": 32, "max_batch_tokens": 512, "max_requests_per_batch": 64}


class Options(engines.Options):
    """Settings of the transformers engine."""

    device: Annotated[str, Field(description="cpu, cuda, cuda:1, mps; auto takes an accelerator where there is one")] = "auto"
    args: Annotated[dict[str, Any], Field(description="passed to from_pretrained: dtype, device_map, ...")] = {}
    batching: Annotated[dict[str, Any], Field(description="passed to ContinuousBatchingConfig: num_blocks, ...")] = {}


class Transformers(Engine[Options]):
    """One model, float32 on a CPU and in its own type on an accelerator.

    On a CPU a request's text and probabilities don't depend on the other requests in flight; see ``_packed``.
    """

    name = "transformers"
    needs_weights = True
    options_class = Options

    def __init__(self, model: Model, options: Options) -> None:
        super().__init__(model, options)
        self.capabilities = frozenset({Capability.PREFILL, Capability.CHOICES, Capability.REASK})
        self._context = model.context
        self._numbers = itertools.count()
        self._encoding = ThreadPoolExecutor(1, "encoding")  # a fast tokenizer is not to be entered twice at a time
        self._pending: dict[str, Future[Any]] = {}
        self._gone: str | None = None
        self._manager: Any = None

    async def start(self) -> None:
        await asyncio.to_thread(self._load)

    @property
    def max_model_len(self) -> int | None:
        return self._context

    async def generate(self, prompt: Prompt, sampling: Sampling, call: Call) -> Completion:
        if sampling.extra:
            raise UsageError(f"the transformers engine has no sampling parameter {next(iter(sampling.extra))!r}: use vllm for it")
        began = time.monotonic()
        loop = asyncio.get_running_loop()
        if sampling.choices:
            return await self._choose(prompt, sampling, began)
        tokens = await loop.run_in_executor(self._encoding, self._chat.tokens, prompt)
        room = min(sampling.max_tokens, self._limit - len(tokens))
        if room < 1:
            return self._too_long(len(tokens))
        output = await self._decode(tokens, room, sampling, call)
        if output.error is not None:
            return Completion("", "error", len(tokens), seconds=time.monotonic() - began, error=output.error)
        text = await loop.run_in_executor(self._encoding, self._chat.decode, output.generated_tokens)
        text, stopped = _cut(text, sampling.stop)
        ended = stopped or (output.generated_tokens and output.generated_tokens[-1] in self._eos)
        count = len(output.generated_tokens)
        return Completion(text, "stop" if ended else "length", len(tokens), count, time.monotonic() - began)

    async def _decode(self, tokens: list[int], room: int, sampling: Sampling, call: Call) -> Any:
        """transformers' GenerationOutput for one request."""
        if self._gone is not None:
            raise Failure(self._gone)
        name = str(next(self._numbers))
        found: Future[Any] = Future()
        watch = self._stopper(name, sampling.stop) if sampling.stop else None
        self._watches[name] = watch
        self._pending[name] = found
        try:
            self._manager.add_request(
                tokens, name, room, streaming=watch is not None, eos_token_id=self._eos, **_noise(sampling, call)
            )
            return await asyncio.wrap_future(found)
        except asyncio.CancelledError:
            self._manager.cancel_request(name)
            raise
        finally:
            self._pending.pop(name, None)
