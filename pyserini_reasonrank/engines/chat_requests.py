"""The requests of the ``openai`` engine: one of several servers answers, whose refusal of a parameter is learned from."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

from pyserini_reasonrank.engines.http_client import HttpClient, RequestFailed
from pyserini_reasonrank.engines.parameters import Parameters
from pyserini_reasonrank.engines.replies import one_line, read_reply
from pyserini_reasonrank.engines.server_rotation import ServerFailed, ServerRotation
from pyserini_reasonrank.records import Completion, Prompt

_REFUSALS = (400, 422)
_NOT_FOUND = 404


class ChatRequests:
    """Sends requests for ``model`` to the servers of a rotation. ``notice`` is called with what a refusal taught."""

    def __init__(
        self, model: str, rotation: ServerRotation[HttpClient], parameters: Parameters, notice: Callable[[str], None]
    ) -> None:
        self._model, self._rotation, self._parameters, self._notice = model, rotation, parameters, notice

    async def chat(self, prompt: Prompt, body: Mapping[str, Any], qid: str) -> Completion:
        """Return the answer to a chat completion, from the server that has the query ``qid``. A failure is an answer too."""
        messages = [{"role": m.role, "content": m.content} for m in prompt.messages]
        if prompt.prefill:
            messages.append({"role": "assistant", "content": prompt.prefill})
            body = {**body, "add_generation_prompt": False, "continue_final_message": True}
        began = time.monotonic()
        try:
            answer = await self._rotation.ask(qid, partial(_attempt, partial(self._send, messages, body)))
        except RequestFailed as error:
            what = one_line(str(error))
            if error.status == _NOT_FOUND:
                what = f"POST {error.url}: {what}"
            return Completion(finish_reason="error", error=what, seconds=time.monotonic() - began)
        return read_reply(answer, time.monotonic() - began)

    async def post(self, qid: str, path: str, body: Mapping[str, Any]) -> Any:
        """Return the JSON of the answer of the server that has the query, to a path beside /v1. Raises RequestFailed."""

        async def send(client: HttpClient, max_retries: int | None) -> bytes:
            return await client.post(f"{client.base_url.removesuffix('/v1')}{path}", body, max_retries=max_retries)

        return json.loads(await self._rotation.ask(qid, partial(_attempt, send)))

    async def _send(
        self,
        messages: Sequence[Mapping[str, str]],
        body: Mapping[str, Any],
        client: HttpClient,
        max_retries: int | None,
    ) -> bytes:
        """Return the answer to a request. A parameter that the server refuses is renamed or left out, here and later."""
        while True:
            named = self._parameters.named(body)
            try:
                return await client.post(
                    "/chat/completions", {"model": self._model, "messages": messages, **named}, max_retries=max_retries
                )
            except RequestFailed as error:
                learned = self._parameters.learn(named, error.body) if error.status in _REFUSALS else ""
                if not learned or self._parameters.named(body) == named:
                    raise
                self._notice(learned)


async def _attempt(
    send: Callable[[HttpClient, int | None], Awaitable[bytes]], client: HttpClient, patient: bool
) -> bytes:
    """Return the answer of one server. ServerFailed if another one may answer, or ``patient`` retries did not help."""
    try:
        return await send(client, None if patient else 0)
    except RequestFailed as error:
        if error.again:
            raise ServerFailed(error, down=error.unreachable) from error
        raise
