"""What a request must pass before it is read: the token, the size of its body, and the time it takes to arrive."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from pyserini_reasonrank.serve.dialects import error_body

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN_PATHS = ("/health",)
"""Paths that need no token: a load balancer has none."""


class Refused(Exception):
    """A request that is not read further; ``status`` is that of the response."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Protection:
    """ASGI middleware that checks ``token`` (None: no check) and reads whole bodies of at most ``max_bytes``.

    A body that does not arrive within ``seconds`` is refused with 408, a longer one with 413.
    """

    def __init__(self, app: App, *, token: str | None, max_bytes: int, seconds: float) -> None:
        self.app, self.token, self.max_bytes, self.seconds = app, token, max_bytes, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            self._check_token(scope)
            body = await self._body(scope, receive)
        except Refused as refused:
            await _answer(send, refused.status, str(refused))
            return
        if body is None:  # the client is gone
            return
        await self.app(scope, _replay(body, receive), send)

    def _check_token(self, scope: Scope) -> None:
        if self.token is None or scope["path"] in OPEN_PATHS:
            return
        given = _header(scope, b"authorization").removeprefix("Bearer ").strip()
        if not hmac.compare_digest(given.encode(), self.token.encode()):
            raise Refused(401, "the request has no valid token; send the header Authorization: Bearer TOKEN")

    async def _body(self, scope: Scope, receive: Receive) -> bytes | None:
        announced = _header(scope, b"content-length")
        if announced.isdecimal() and int(announced) > self.max_bytes:
            raise self._too_long()
        parts, size = list[bytes](), 0
        try:
            async with asyncio.timeout(self.seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > self.max_bytes:
                        raise self._too_long()
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            raise Refused(408, f"the body did not arrive within {self.seconds:g} s") from None

    def _too_long(self) -> Refused:
        return Refused(413, f"the body is longer than {self.max_bytes:,} bytes, the limit of this server")


def _header(scope: Scope, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


def _replay(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that gives the body once, and then what the connection says: that the client is gone."""
    given = False

    async def replay() -> MutableMapping[str, Any]:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def _answer(send: Send, status: int, message: str) -> None:
    body = json.dumps(error_body(message, status, tei=False)).encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
