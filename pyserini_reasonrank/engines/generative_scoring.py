"""Probabilities of two answers by vLLM's ``/generative_scoring``: one request for all passages of a query.

The answers may be any tokens, also ones that are not among the likeliest. The server writes the prompts (``/tokenize``), so
that they are those of its chat completions. It returns the share of the first answer among the two.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from math import log
from types import NoneType
from typing import Any

from pyserini_reasonrank.records import Completion, Prompt, Sampling

TOKENIZE, SCORE = "/tokenize", "/generative_scoring"
_OF_THE_TEMPLATE = ("chat_template", "chat_template_kwargs", "add_special_tokens")
_LEAST = 1e-300  # keeps the logarithm of a vanishing probability finite
_MOST_PROMPTS = 256  # of a request

Post = Callable[[str, str, Mapping[str, Any]], Awaitable[Any]]
"""Sends a body to a path of the server that has a query, and returns the JSON of the response: ``await post(qid, path, body)``."""


class Unavailable(Exception):
    """The server has no such endpoint, or does not take these answers: the caller reads them in another way."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A prompt that waits for others of its query, the tokens of the two choices, and its answer."""

    tokens: list[int]
    labels: tuple[int, ...]
    share: asyncio.Future[float]


class GenerativeScoring:
    """Scores prompts on servers of one model. ``always`` are the parameters of its chat completions.

    The prompts of a query that are asked at once share a request.
    """

    def __init__(self, model: str, always: Mapping[str, Any], post: Post) -> None:
        self._model, self._post = model, post
        self._template = {name: value for name, value in always.items() if name in _OF_THE_TEMPLATE}
        self._labels: dict[tuple[int, tuple[str, ...]], asyncio.Future[tuple[int, ...]]] = {}
        self._coming: Counter[tuple[str, tuple[str, ...]]] = Counter()
        self._waiting: dict[tuple[str, tuple[str, ...]], list[_Waiting]] = {}
        self._sending: set[asyncio.Task[None]] = set()

    @staticmethod
    def takes(sampling: Sampling) -> bool:
        """Whether the choices can be scored: two of them, without parameters that change the model's probabilities."""
        return len(sampling.choices) == 2 and not sampling.extra

    async def score(self, qid: str, prompt: Prompt, choices: tuple[str, ...]) -> Completion:
        """Return the log-shares of two choices as continuations of ``prompt``.

        Unavailable if a choice is not one token in its place, or the prompt does not fit the server's context. Raises the
        errors of ``post``, and TypeError, KeyError or ValueError for a response of another form.
        """
        began = time.monotonic()
        query = (qid, choices)
        share: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._coming[query] += 1
        try:
            tokens, room = await self._tokens(qid, prompt)
            if len(tokens) >= room:
                raise Unavailable(f"the prompt has {len(tokens)} tokens, the server takes {room}")
            labels = await self._label_tokens(qid, prompt, tokens, choices)
            self._waiting.setdefault(query, []).append(_Waiting(tokens, labels, share))
        finally:
            self._coming[query] -= 1
            self._send_if_complete(query)
        first = await share
        shares = {choices[0]: first, choices[1]: 1 - first}
        logs = {choice: log(max(share, _LEAST)) for choice, share in shares.items()}
        return Completion(prompt_tokens=len(tokens), output_tokens=1, seconds=time.monotonic() - began, choices=logs)

    async def _tokens(self, qid: str, prompt: Prompt) -> tuple[list[int], int]:
        """The token ids of a prompt, and the server's limit on a prompt and its answer."""
        messages = [{"role": m.role, "content": m.content} for m in prompt.messages]
        begun = bool(prompt.prefill)
        if begun:
            messages.append({"role": "assistant", "content": prompt.prefill})
        body = {"model": self._model, "messages": messages, "add_generation_prompt": not begun, **self._template}
        found = await self._post(qid, TOKENIZE, body | ({"continue_final_message": True} if begun else {}))
        return [int(token) for token in found["tokens"]], int(found["max_model_len"])

    async def _label_tokens(
        self, qid: str, prompt: Prompt, tokens: Sequence[int], choices: tuple[str, ...]
    ) -> tuple[int, ...]:
        """The token of each choice after ``prompt``, requested once for all prompts that end in the same token."""
        key = (tokens[-1], choices)
        known = self._labels.get(key)
        if known is None or _failed(known):
            known = self._labels[key] = asyncio.ensure_future(self._read_labels(qid, prompt, tokens, choices))
        return await asyncio.shield(known)

    async def _read_labels(
        self, qid: str, prompt: Prompt, tokens: Sequence[int], choices: tuple[str, ...]
    ) -> tuple[int, ...]:
        labels = []
        for choice in choices:
            whole, _ = await self._tokens(qid, Prompt(prompt.messages, prompt.prefill + choice))
            if whole[:-1] != list(tokens):
                raise Unavailable(f"{choice!r} is not one token after the prompt")
            labels.append(whole[-1])
        return tuple(labels)

    def _send_if_complete(self, query: tuple[str, tuple[str, ...]]) -> None:
        """Score the prompts of a query that wait, unless another one is about to join them and there is room for it."""
        waiting = self._waiting.get(query, [])
        if self._coming[query] and len(waiting) < _MOST_PROMPTS:
            return
        if not self._coming[query]:
            del self._coming[query]
        self._waiting.pop(query, None)
        for labels in {one.labels for one in waiting}:
            task = asyncio.create_task(self._score(query[0], [one for one in waiting if one.labels == labels]))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _score(self, qid: str, prompts: Sequence[_Waiting]) -> None:
        """Send one request, and give each prompt its share or the error."""
        shared = shared_length([one.tokens[:-1] for one in prompts])
        body = {
            "model": self._model,
            "query": prompts[0].tokens[:shared],
            "items": [one.tokens[shared:] for one in prompts],
            "label_token_ids": list(prompts[0].labels),
            "apply_softmax": True,
        }
        try:
            data = (await self._post(qid, SCORE, body))["data"]
            shares = {int(row["index"]): float(row["score"]) for row in data}
            found = [shares[i] for i in range(len(prompts))]
            if not all(0 <= share <= 1 for share in found):
                raise ValueError("a share is not between 0 and 1")
        except asyncio.CancelledError:
            for one in prompts:
                one.share.cancel()
            raise
        except Exception as error:
            for one in prompts:
                if not one.share.done():
                    one.share.set_exception(error)
            return
        for one, share in zip(prompts, found, strict=True):
            if not one.share.done():
                one.share.set_result(share)

    async def close(self) -> None:
        """Cancel the requests in flight."""
        sending = list(self._sending)
        for task in sending:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)


def shared_length(texts: Sequence[Sequence[Any]]) -> int:
    """The length of the beginning that all texts share, in tokens or characters."""
    columns = enumerate(zip(*texts, strict=False))
    return next((i for i, (first, *others) in columns if any(one != first for one in others)), min(map(len, texts)))


def _failed(known: asyncio.Future[tuple[int, ...]]) -> bool:
    """Whether tokens are to be requested again: the request failed, and not because of the tokens."""
    return known.done() and (known.cancelled() or not isinstance(known.exception(), Unavailable | NoneType))
