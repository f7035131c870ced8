"""Log-probabilities of alternatives on a thread of their own, several prompts at a time."""

from __future__ import annotations

import atexit
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch

from pyserini_reasonrank.engines._chat import Tokens
from pyserini_reasonrank.engines._packed import using
from pyserini_reasonrank.engines._trees import Tree, log_probabilities, read_at_once

_CPU_TOKENS, _TOKENS = 512, 16_384
"""Read at once. A CPU's cores are busy with the fewer; an accelerator gains from more."""
_PLACES = 2_048  # where tokens are foretold, at once: each takes a row of the vocabulary's size


@dataclass(frozen=True, slots=True)
class _Question:
    tree: Tree
    found: Future[list[float]] = field(default_factory=Future)


class Scorer:
    """Scores with a loaded transformers model. ``pause`` gives it the model for the time of a batch."""

    def __init__(self, model: Any, attention: str, pause: Callable[[], AbstractContextManager[None]]) -> None:
        self._model = model
        self._attention = attention
        self._pause = pause
        self._tokens = _CPU_TOKENS if model.device.type == "cpu" else _TOKENS
        self._closing = False
        self._questions: queue.SimpleQueue[_Question | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="alternatives", daemon=True)
        self._thread.start()
        atexit.register(self.close)  # a thread inside PyTorch would turn the program's end into an abort

    def submit(self, tokens: list[int], spelled: tuple[Tokens, ...]) -> Future[list[float]]:
        """Log-probability of each of ``spelled`` as the continuation of ``tokens``."""
        question = _Question(Tree(tokens, spelled))
        self._questions.put(question)
        return question.found

    def close(self) -> None:
        """End after the batch in hand. Those waiting are cancelled."""
        atexit.unregister(self.close)
        self._closing = True
        self._questions.put(None)
        self._thread.join()

    def _work(self) -> None:
        held: _Question | None = None
        while (first := held or self._questions.get()) is not None:
            if self._closing:
                first.found.cancel()
                held = None
                continue
            batch, held = self._gather(first)
            batch = [q for q in batch if q.found.set_running_or_notify_cancel()]
            if not batch:
                continue
            try:
                with self._pause():
                    answers = self._score([q.tree for q in batch])
                for question, answer in zip(batch, answers, strict=True):
                    question.found.set_result(answer)
            except Exception as error:  # memory, above all: these calls fail, later ones may not
                for question in batch:
                    question.found.set_exception(error)

    def _gather(self, first: _Question) -> tuple[list[_Question], _Question | None]:
        """``first`` and those waiting behind it that fit into its batch, and the first that does not."""
        batch, places = [first], len(first.tree.places)
        while True:
            try:
                other = self._questions.get_nowait()
            except queue.Empty:
                break
            if other is None:
                self._questions.put(None)
                break
            places += len(other.tree.places)
            if places > _PLACES or read_at_once([q.tree for q in (*batch, other)]) > self._tokens:
                return batch, other
            batch.append(other)
        return batch, None

    def _score(self, trees: list[Tree]) -> list[list[float]]:
        with torch.inference_mode(), using(self._model, self._attention):
            return [found.tolist() for found in log_probabilities(self._model, trees)]
