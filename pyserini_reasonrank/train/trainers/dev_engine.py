"""An engine around the model being trained, so that development topics take the serving path."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pyserini_reasonrank.engines import Engine, EngineOptions
from pyserini_reasonrank.engines.chat import Chat, disjoint
from pyserini_reasonrank.engines.local.alternatives import AlternativeScorer
from pyserini_reasonrank.engines.transformers import StopStrings, cut_at_stop
from pyserini_reasonrank.errors import message_of
from pyserini_reasonrank.models.catalogue import Model
from pyserini_reasonrank.records import Call, Capability, Completion, Prompt, Sampling

GATHER = 0.02  # seconds in which calls join a batch


@dataclass(frozen=True, slots=True)
class _Pending:
    tokens: list[int]
    sampling: Sampling
    found: asyncio.Future[Completion] = field(default_factory=asyncio.Future)


class InTraining(Engine[EngineOptions]):
    """Generates with ``model`` in its current state. Waiting calls are padded and batched, ``batch`` at a time."""

    name = "training"

    def __init__(self, model: Any, chat: Chat, tokenizer: Any, described: Model, step: int, batch: int) -> None:
        super().__init__(described, EngineOptions())
        self.capabilities = frozenset({Capability.PREFILL, Capability.CHOICES, Capability.LIKELIHOOD, Capability.REASK})
        self._model, self._chat, self._tokenizer = model, chat, tokenizer
        self._step, self._batch = step, batch
        self._waiting: list[_Pending] = []
        self._lent = threading.Lock()  # scoring changes the model's attention: not while another thread generates
        self._work: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._scorer = AlternativeScorer(self._model, self._model.config._attn_implementation, lambda: self._lent)

    def identity(self, call: Call) -> str:
        return f"{super().identity(call)}\n{self._step}"

    async def generate(self, prompt: Prompt, sampling: Sampling, call: Call) -> Completion:
        if sampling.choices:
            tokens, spelled = self._chat.alternatives(prompt, sampling.choices)
            logprobs = await asyncio.wrap_future(self._scorer.submit(tokens, spelled))
            return Completion(choices=disjoint(sampling.choices, spelled, logprobs), prompt_tokens=len(tokens))
        question = _Pending(self._chat.tokens(prompt), sampling)
        self._waiting.append(question)
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._drain())
        return await question.found

    async def close(self) -> None:
        await asyncio.to_thread(self._scorer.close)

    async def _drain(self) -> None:
        while self._waiting:
            await asyncio.sleep(GATHER)
            sampling = self._waiting[0].sampling
            batch = [q for q in self._waiting if q.sampling == sampling][: self._batch]
            self._waiting = [q for q in self._waiting if q not in batch]
            try:
                answers = await asyncio.to_thread(self._write, [q.tokens for q in batch], sampling)
            except RuntimeError as error:
                answers = [Completion(finish_reason="error", error=message_of(error))] * len(batch)
            except Exception as error:
                for question in (*batch, *self._waiting):
                    question.found.set_exception(error)
                return
            for question, answer in zip(batch, answers, strict=True):
                if not question.found.done():
                    question.found.set_result(answer)

    def _write(self, prompts: Sequence[list[int]], sampling: Sampling) -> list[Completion]:
        import torch
        from transformers import StoppingCriteriaList

        width, device = max(map(len, prompts)), self._model.device
        pad = self._tokenizer.pad_token_id or 0
        room = (self.max_model_len or width + sampling.max_tokens) - width
        with self._lent, torch.no_grad(), torch.random.fork_rng():
            if sampling.seed is not None:
                torch.manual_seed(sampling.seed)
            written = self._model.generate(
                input_ids=torch.tensor([[pad] * (width - len(p)) + p for p in prompts], device=device),
                attention_mask=torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device),
                max_new_tokens=min(sampling.max_tokens, room),
                pad_token_id=pad,
                stopping_criteria=StoppingCriteriaList(
                    [_stop(self._chat, sampling.stop, width)] if sampling.stop else []
                ),
                **_decoding(sampling),
            )[:, width:].tolist()
        return [self._completion(len(p), ids, sampling) for p, ids in zip(prompts, written, strict=True)]

    def _completion(self, read: int, ids: list[int], sampling: Sampling) -> Completion:
        ends = self._model.generation_config.eos_token_id
        last = next((i for i, token in enumerate(ids) if token in (ends if isinstance(ends, list) else [ends])), None)
        own = ids if last is None else ids[: last + 1]
        text = self._chat.decode(own)
        text, stopped = cut_at_stop(text, sampling.stop)
        return Completion(
            text=text,
            finish_reason="stop" if stopped or last is not None else "length",
            prompt_tokens=read,
            output_tokens=len(own),
        )


def _stop(chat: Chat, strings: Sequence[str], width: int) -> Any:
    """A stopping criterion for each row: its text ends with one of ``strings``. ``width``: tokens of a padded prompt."""
    import torch
    from transformers import StoppingCriteria

    watch = StopStrings(chat, strings)

    class Stop(StoppingCriteria):  # type: ignore[misc]
        def __call__(self, ids: Any, scores: Any, **kwargs: Any) -> Any:
            return torch.tensor([watch(row) for row in ids[:, width:].tolist()], device=ids.device)

    return Stop()


def _decoding(sampling: Sampling) -> dict[str, Any]:
    if sampling.temperature == 0:
        return {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    noise = {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k}
    return {"do_sample": True, "min_p": sampling.min_p, **noise}
