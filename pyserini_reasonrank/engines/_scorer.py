"""Log-probabilities of alternatives by forward passes, several prompts at a time where the device gains from it."""

from __future__ import annotations

import atexit
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from pyserini_reasonrank.engines._chat import Tokens, prefixes

_BATCH_TOKENS = (
    16_384  # padding included; on a CPU a prompt fills the cores by itself, and alone it is the same bits always
)


@dataclass(frozen=True, slots=True)
class _Question:
    tokens: list[int]
    spelled: tuple[Tokens, ...]
    found: Future[list[float]] = field(default_factory=Future)


class Scorer:
    """Scores on a thread of its own. ``pause`` gives it the model for the time of a batch."""

    def __init__(self, model: Any, attention: str, pause: Callable[[], AbstractContextManager[None]]) -> None:
        self._model = model
        self._attention = attention
        self._pause = pause
        self._batch_tokens = 0 if model.device.type == "cpu" else _BATCH_TOKENS
        self._closing = False
        self._questions: queue.SimpleQueue[_Question | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="alternatives", daemon=True)
        self._thread.start()
        atexit.register(self.close)  # a thread inside PyTorch would turn the program's end into an abort

    def submit(self, tokens: list[int], spelled: tuple[Tokens, ...]) -> Future[list[float]]:
        """Log-probability of each of ``spelled`` as the continuation of ``tokens``."""
        question = _Question(tokens, spelled)
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
                    answers = self._score([q.tokens for q in batch], batch[0].spelled)
                for question, answer in zip(batch, answers, strict=True):
                    question.found.set_result(answer)
            except Exception as error:  # memory, above all: these calls fail, later ones may not
                for question in batch:
                    question.found.set_exception(error)

    def _gather(self, first: _Question) -> tuple[list[_Question], _Question | None]:
        """``first`` and those waiting behind it that fit into its batch, and the first that does not."""
        batch, longest = [first], len(first.tokens)
        while longest * (len(batch) + 1) <= self._batch_tokens:
            try:
                other = self._questions.get_nowait()
            except queue.Empty:
                break
            if other is None:
                self._questions.put(None)
                break
            longest = max(longest, len(other.tokens))
            if other.spelled != first.spelled or longest * (len(batch) + 1) > self._batch_tokens:
                return batch, other
            batch.append(other)
        return batch, None

    def _score(self, prompts: list[list[int]], spelled: Sequence[Tokens]) -> list[list[float]]:
        import torch

        model, packed = self._model, self._model.config._attn_implementation
        model.config._attn_implementation = self._attention
        try:
            with torch.inference_mode():
                width = max(map(len, prompts))
                ids = torch.tensor([[0] * (width - len(p)) + p for p in prompts], device=model.device)
                mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=model.device)
                later = prefixes(spelled)
                first = model(
                    input_ids=ids,
                    attention_mask=None if len(prompts) == 1 else mask,
                    position_ids=(mask.cumsum(1) - 1).clamp(min=0),
                    use_cache=bool(later),
                    logits_to_keep=1,
                )
                after: dict[Tokens, Any] = {(): first.logits[:, -1].float().log_softmax(-1)}
                for head in later:
                    more = torch.tensor([head] * len(prompts), device=model.device)
                    mask_now = torch.cat([mask, torch.ones_like(more)], 1)
                    found = model(
                        input_ids=more,
                        attention_mask=mask_now,
                        position_ids=mask_now.cumsum(1)[:, width:] - 1,
                        past_key_values=first.past_key_values,
                        use_cache=True,
                    )
                    first.past_key_values.crop(-len(head))
                    logprobs = found.logits.float().log_softmax(-1)
                    after |= {head[: i + 1]: logprobs[:, i] for i in range(len(head))}
                scores = [sum(after[s[:i]][:, s[i]].double() for i in range(len(s))).tolist() for s in spelled]
        finally:
            model.config._attn_implementation = packed
        return [list(of_prompt) for of_prompt in zip(*scores, strict=True)]
