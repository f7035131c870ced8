"""transformers' continuous batching for the lifetime of an engine: any thread submits requests, futures return token ids."""

from __future__ import annotations

import atexit
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from pyserini_reasonrank.errors import Failure, message_of
from pyserini_reasonrank.models.describe import ModelConfig

_CPU = {"page_size": 32, "max_batch_tokens": 512, "max_requests_per_batch": 64}
_CPU_CACHE_BYTES = 400_000_000
_CPU_CACHE_TOKENS = 32_768
_ACCELERATOR = {"max_memory_percent": 0.8}  # sampling and the forward passes of the scorer use the rest

Stopped = Callable[[Sequence[int]], bool]


class Decoder:
    """Continues token ids with a loaded transformers model, each request greedily or sampled.

    ``room`` is the tokens whose keys and values fit in memory, which limits a request. Failure if there is no memory for
    any. On a CPU, where ``room`` is known in advance, memory is allocated only when :meth:`start` is called: an engine that
    only scores alternatives does not need it.
    """

    def __init__(self, model: Any, batching: Mapping[str, Any], eos: Sequence[int]) -> None:
        from transformers import ContinuousBatchingConfig, GenerationConfig

        from pyserini_reasonrank.engines.local import packed_attention
        from pyserini_reasonrank.engines.local.batch_invariant import make_batch_invariant
        from pyserini_reasonrank.engines.local.sampler import SeededSampler

        self._eos = list(eos)
        cpu = model.device.type == "cpu"
        settings = {**(_cpu_settings(model) if cpu else _ACCELERATOR), **batching}
        if model.config._attn_implementation == "sdpa" and not (_has_flash() and not cpu):
            model.config._attn_implementation = packed_attention.register(
                packed_attention.NAME, packed_attention.attend
            )
            settings |= {"use_cuda_graph": False, "use_async_batching": False}
        if cpu:
            make_batch_invariant(model)
        self._manager = model.init_continuous_batching(
            generation_config=GenerationConfig(do_sample=False, eos_token_id=self._eos),
            continuous_batching_config=ContinuousBatchingConfig(**settings),
        )
        self._manager.logit_processor = SeededSampler()
        self._pending: dict[str, tuple[Future[list[int]], Stopped | None]] = {}
        self._numbers = itertools.count()
        self._ready, self._in_use = threading.Event(), threading.Lock()
        self._pump: threading.Thread | None = None
        if not cpu or None in (settings.get("num_blocks"), settings.get("page_size")):
            self.start()
        settled = self._manager.continuous_batching_config
        self.room: int = settled.num_blocks * settled.page_size

    def start(self) -> None:
        """Allocate memory and wait for requests. Does nothing if already started."""
        if self._ready.is_set():
            return
        with self._in_use:
            if self._pump is not None:
                return
            # transformers' own thread inherits the daemon flag: an interrupted program must not wait for it
            self._pump = threading.Thread(target=self._deliver, name="completions", daemon=True)
            self._pump.start()
            self._ready.wait()
            atexit.register(self.close)  # the program aborts if it ends while a thread is inside PyTorch
        if not self._manager.is_running():
            raise self._death("it did not start")

    def submit(
        self, tokens: list[int], limit: int, noise: Mapping[str, Any], stopped: Stopped | None
    ) -> tuple[str, Future[list[int]]]:
        """Continue ``tokens`` by at most ``limit`` tokens; return the request's name and a future of the new token ids.

        ``noise`` holds the arguments of the sampler, {} for greedy decoding. ``stopped`` is called with the new token ids
        after each token and returns whether to end. The future raises RuntimeError if the request failed and Failure if
        the model is gone.
        """
        name, found = str(next(self._numbers)), Future[list[int]]()
        found.set_running_or_notify_cancel()  # it can't be cancelled while the thread sets its result
        self._pending[name] = (found, stopped)
        accepted = self._manager.add_request(
            tokens, name, limit, streaming=stopped is not None, eos_token_id=self._eos, **noise
        )
        if accepted is None:
            self._pending.pop(name, None)
            raise self._death("it accepts no more requests")
        return name, found

    def cancel(self, name: str) -> None:
        """Drop the request called ``name``; its future never completes."""
        self._pending.pop(name, None)
        self._manager.cancel_request(name)

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Lend the model to the calling thread while requests wait. Failure if the model is gone."""
        with self._in_use:
            if self._pump is None:
                yield
                return
            if not self._manager.is_running():
                raise self._death("it stopped")
            with self._manager.pause():
                yield

    def close(self) -> None:
        """End the threads and free the memory."""
        if self._pump is None:
            return
        atexit.unregister(self.close)
        self._manager.stop(block=True, timeout=10, hard_stop=True)
        self._manager.destroy()
        self._pump.join()

    def _deliver(self) -> None:
        self._manager.start()
        while self._manager.batch_processor is None and self._manager.is_running():
            time.sleep(0.01)
        self._ready.set()
        while self._manager.is_running():
            output = self._manager.get_result(timeout=0.5)
            if output is not None:
                self._settle(output)
        for found, _ in list(self._pending.values()):
            found.set_exception(self._death("it stopped"))

    def _settle(self, output: Any) -> None:
        found, stopped = self._pending.get(output.request_id, (None, None))
        if found is None:
            return  # cancelled
        if output.error is not None:
            gone = self._manager.background_thread_status.can_accept_new_requests() is not None
            found.set_exception(self._death(output.error) if gone else RuntimeError(output.error))
        elif output.is_finished():
            found.set_result(output.generated_tokens)
        elif stopped is not None and stopped(output.generated_tokens):
            found.set_result(output.generated_tokens)
            self._manager.cancel_request(output.request_id)
        else:
            return
        self._pending.pop(output.request_id, None)

    def _death(self, reason: str) -> Failure:
        error = self._manager.background_thread_status.fatal_error or RuntimeError(reason)
        return Failure(f"the model died ({message_of(error)}): run the same command again to continue from here")


def _cpu_settings(model: Any) -> dict[str, Any]:
    """Memory settings on a CPU: 0.4 GB of keys and values, and at least one request of the model's context, up to 32k tokens."""
    config = ModelConfig.of_loaded(model.config)
    if config.shape is None:
        return dict(_CPU)
    token_bytes = config.shape.cached_values * model.dtype.itemsize
    tokens = max(_CPU_CACHE_BYTES // token_bytes, min(config.positions or _CPU_CACHE_TOKENS, _CPU_CACHE_TOKENS))
    return {**_CPU, "num_blocks": tokens // _CPU["page_size"] + 1}


def _has_flash() -> bool:
    from transformers.utils.import_utils import is_flash_attn_2_available, is_flash_attn_3_available

    return bool(
        is_flash_attn_3_available(kernels_fallback_ok=True) or is_flash_attn_2_available(kernels_fallback_ok=True)
    )
