"""Log-probabilities of alternatives on a thread of their own, several prompts at a time."""

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

from pyserini_reasonrank.engines.chat import Tokens
from pyserini_reasonrank.engines.local.packing import using
from pyserini_reasonrank.engines.local.threads import Lanes
from pyserini_reasonrank.engines.local.trees import Row, Tree, read_at_once, row_by_row
from pyserini_reasonrank.models.describe import ModelConfig

_CPU_TOKENS, _TOKENS = 1_024, 16_384
"""Of a row. A CPU's cores are busy with the fewer; an accelerator gains from more."""
_PLACES = 2_048  # of a row, where tokens are foretold: each takes a row of the vocabulary's size
_MOVING = ("dynamic", "longrope")  # rotary positions that change with the longest text, so not for two at a time


@dataclass(frozen=True, slots=True)
class _Question:
    tree: Tree
    found: Future[list[float]] = field(default_factory=Future)


class Scorer:
    """Scores with a loaded transformers model. ``pause`` gives it the model for the time of a round.

    A round is a row of prompts for every lane (see ``_lanes``).
    """

    def __init__(self, model: Any, attention: str, pause: Callable[[], AbstractContextManager[None]]) -> None:
        self._model = model
        self._attention = attention
        self._pause = pause
        self._lanes = Lanes(model.device, alone=ModelConfig.of_loaded(model.config).rope_type in _MOVING)
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
        """End after the round in hand. Those waiting are cancelled."""
        atexit.unregister(self.close)
        self._closing = True
        self._questions.put(None)
        self._thread.join()
        self._lanes.close()

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
                    answers = self._score(self._rows([q.tree for q in batch]))
                for question, answer in zip(batch, answers, strict=True):
                    question.found.set_result(answer)
            except Exception as error:  # memory, above all: these calls fail, later ones may not
                for question in batch:
                    question.found.set_exception(error)

    def _gather(self, first: _Question) -> tuple[list[_Question], _Question | None]:
        """``first`` and those waiting behind it that fit into its round, and the first that does not."""
        batch, places, width = [first], len(first.tree.places), self._lanes.width
        while True:
            try:
                other = self._questions.get_nowait()
            except queue.Empty:
                break
            if other is None:
                self._questions.put(None)
                break
            places += len(other.tree.places)
            tokens = read_at_once([q.tree for q in (*batch, other)])
            if places > width * _PLACES or tokens > width * self._tokens:
                return batch, other
            batch.append(other)
        return batch, None

    def _rows(self, trees: Sequence[Tree]) -> list[Row]:
        """A row for each lane, of about as many tokens; fewer where there are fewer trees."""
        rows: list[list[Tree]] = [[] for _ in range(self._lanes.width)]
        total, before = sum(tree.size for tree in trees), 0
        for tree in trees:
            rows[(2 * before + tree.size) * len(rows) // (2 * total)].append(tree)  # where its middle lies
            before += tree.size
        return [row for row in rows if row]

    def _score(self, rows: Sequence[Row]) -> list[list[float]]:
        """The answers of all trees of the rows, in their order."""

        def over(read: Callable[[Row], list[Tensor]], rows: Sequence[Row]) -> list[list[Tensor]]:
            return self._lanes.map(torch.inference_mode()(read), rows)  # which is a thread's own

        with using(self._model, self._attention):
            return [found.tolist() for row in row_by_row(self._model, rows, over) for found in row]
