"""Scoring of alternatives: a thread of its own that reads several prompts at a time."""

from __future__ import annotations

import atexit
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pyserini_reasonrank.engines.chat import TokenIds
from pyserini_reasonrank.engines.local.packed_attention import using
from pyserini_reasonrank.engines.local.prompt_trees import PromptTree, Row, read_at_once, row_by_row
from pyserini_reasonrank.engines.local.threads import Workers
from pyserini_reasonrank.models.describe import ModelConfig

_CPU_TOKENS, _ACCELERATOR_TOKENS = 1_024, 16_384
"""Tokens of a row. They keep the cores of a CPU busy; an accelerator gains from more."""
_PLACES = 2_048  # most predictions in a row: each takes a vector of the vocabulary's size
_LENGTH_DEPENDENT_ROPE = ("dynamic", "longrope")  # positions change with the longest text: one row at a time only


@dataclass(frozen=True, slots=True)
class _Request:
    tree: PromptTree
    found: Future[list[float]] = field(default_factory=Future)


class AlternativeScorer:
    """Computes log-probabilities of alternatives with a loaded transformers model.

    The thread works in rounds of one row of prompts for each worker (see ``threads``). ``pause`` lends it the model for a
    round. ``attention`` names the attention that the model was loaded with.
    """

    def __init__(self, model: Any, attention: str, pause: Callable[[], AbstractContextManager[object]]) -> None:
        self._model = model
        self._attention = attention
        self._pause = pause
        rope_type = ModelConfig.of_loaded(model.config).rope_type
        self._workers = Workers(model.device, one_at_a_time=rope_type in _LENGTH_DEPENDENT_ROPE)
        self._tokens = _CPU_TOKENS if model.device.type == "cpu" else _ACCELERATOR_TOKENS
        self._closing = False
        self._requests: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="alternatives", daemon=True)
        self._thread.start()
        atexit.register(self.close)  # the program aborts if it ends while a thread is inside PyTorch

    def submit(
        self, tokens: list[int], alternatives: tuple[TokenIds, ...], *, logits: bool = False
    ) -> Future[list[float]]:
        """Return a future of the log-probability of each of ``alternatives`` as the continuation of ``tokens``; with
        ``logits``, of the logit of each, which is one token."""
        request = _Request(PromptTree(tokens, alternatives, logits))
        self._requests.put(request)
        return request.found

    def close(self) -> None:
        """End after the current round. Requests that still wait are cancelled."""
        atexit.unregister(self.close)
        self._closing = True
        self._requests.put(None)
        self._thread.join()
        self._workers.close()

    def _work(self) -> None:
        left_over: _Request | None = None
        while (first := left_over or self._requests.get()) is not None:
            if self._closing:
                first.found.cancel()
                left_over = None
                continue
            batch, left_over = self._gather(first)
            batch = [request for request in batch if request.found.set_running_or_notify_cancel()]
            if not batch:
                continue
            try:
                with self._pause():
                    answers = self._score(self._rows([request.tree for request in batch]))
                for request, answer in zip(batch, answers, strict=True):
                    request.found.set_result(answer)
            except Exception as error:  # memory, above all: these calls fail, later ones may succeed
                for request in batch:
                    request.found.set_exception(error)

    def _gather(self, first: _Request) -> tuple[list[_Request], _Request | None]:
        """Return ``first`` with the requests behind it that fit into its round, and the first that does not fit."""
        batch, places, workers = [first], len(first.tree.places), self._workers.count
        while True:
            try:
                other = self._requests.get_nowait()
            except queue.Empty:
                break
            if other is None:
                self._requests.put(None)
                break
            places += len(other.tree.places)
            tokens = read_at_once([request.tree for request in (*batch, other)])
            if places > workers * _PLACES or tokens > workers * self._tokens:
                return batch, other
            batch.append(other)
        return batch, None

    def _rows(self, trees: Sequence[PromptTree]) -> list[Row]:
        """Split ``trees`` into a row for each worker, of about as many tokens; fewer rows if there are fewer trees."""
        rows: list[list[PromptTree]] = [[] for _ in range(self._workers.count)]
        total, before = sum(tree.size for tree in trees), 0
        for tree in trees:
            rows[(2 * before + tree.size) * len(rows) // (2 * total)].append(tree)  # by where its middle lies
            before += tree.size
        return [row for row in rows if row]

    def _score(self, rows: Sequence[Row]) -> list[list[float]]:
        """Return the log-probabilities of all trees of the rows, in their order."""

        def over(read: Callable[[Row], list[Tensor]], rows: Sequence[Row]) -> list[list[Tensor]]:
            return self._workers.map(torch.inference_mode()(read), rows)  # inference mode is set per thread

        with using(self._model, self._attention):
            return [found.tolist() for row in row_by_row(self._model, rows, over) for found in row]
