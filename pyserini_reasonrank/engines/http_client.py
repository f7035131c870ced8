"""JSON requests to one server over aiohttp: retries with back-off, Retry-After, errors without the key.

The rules of retries and waits are those of the official OpenAI client, which takes several times the CPU per request.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from io import BytesIO
from itertools import count
from math import isfinite
from typing import Any
from urllib.request import getproxies

import aiohttp
from pydantic_core import to_json

_log = logging.getLogger(__name__)

FIRST_WAIT, LONGEST_WAIT = 0.5, 8.0
"""Seconds before the first retry, doubled for each further one, and the most."""
LONGEST_RETRY_AFTER = 120.0
"""Seconds that a server may ask to wait; a request that would have to wait longer fails."""
_JITTER = 0.25  # of a wait that is taken off at random, so that calls that failed together return apart
_RETRIED = (408, 409, 429)
_SERVER_ERROR = 500
_CONNECT_SECONDS = 60.0
_KEPT_SECONDS = 4.0  # that an idle connection is kept; uvicorn, which runs vLLM and SGLang, closes it after 5
_LARGE = 1 << 20  # bytes above which aiohttp wants a body as a file


class RequestFailed(Exception):
    """A request without a usable answer. ``status`` is None if the server was not reached or sent no complete answer.

    ``body`` is the error in the server's answer: its field ``error``, otherwise the JSON or the text. ``again``: whether the
    fault may pass, and ``retry_after``: after how many seconds, if the server says so. ``unreachable``: whether there was no
    connection to the server. ``url`` is the address of the request.
    """

    def __init__(
        self,
        message: str,
        status: int | None = None,
        body: Any = None,
        *,
        again: bool = True,
        retry_after: float | None = None,
        unreachable: bool = False,
    ) -> None:
        super().__init__(message)
        self.unreachable, self.url = unreachable, ""
        self.status, self.body, self.again, self.retry_after = status, body, again, retry_after

    def wait(self, tries: int) -> float:
        """Seconds to wait before the request is sent again for the ``tries``-th time, from 0."""
        if self.retry_after is not None:
            return self.retry_after
        return float(min(FIRST_WAIT * 2.0 ** min(tries, 10), LONGEST_WAIT) * (1 - _JITTER * random.random()))


class HttpClient:
    """The connections to one server. ``base_url`` is its address up to ``/v1``.

    Made on the event loop that uses it. ``timeout``: seconds until a server that sends nothing is given up. Proxies and
    certificates are those of the environment.
    """

    def __init__(self, base_url: str, key: str, *, connections: int, timeout: float, max_retries: int) -> None:
        self.base_url = base_url
        self._key, self._max_retries, self._seconds = key, max_retries, timeout
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections, keepalive_timeout=_KEPT_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=_headers(key),
            trust_env=bool(getproxies()),
        )

    async def get(self, path: str, *, timeout: float) -> bytes:
        """The body of the answer to a single GET. RequestFailed if its status is not 2xx, or without an answer."""
        return await self._sent("GET", path, None, timeout)

    async def post(self, path: str, body: Mapping[str, Any], *, max_retries: int | None = None) -> bytes:
        """Send ``body`` as JSON and return the body of the answer.

        ``path`` is below ``base_url``, or a whole address. After a fault that may pass, the request is sent again, at most
        ``max_retries`` times; by default as often as the client's other requests. RequestFailed if no try had an answer of
        status 2xx, ValueError if ``body`` has NaN or infinity.
        """
        data = _json(body)
        most = self._max_retries if max_retries is None else max_retries
        for tries in count():
            try:
                return await self._sent("POST", path, data, self._seconds)
            except RequestFailed as failed:
                if tries == most or not failed.again:
                    failed.url = self._address(path)
                    raise
                wait = failed.wait(tries)
                _log.info("POST %s is sent again in %.1f s: %s", self._address(path), wait, failed)
                await asyncio.sleep(wait)
        raise AssertionError

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    def _address(self, path: str) -> str:
        return path if "://" in path else self.base_url + path

    async def _sent(self, method: str, path: str, data: bytes | None, seconds: float) -> bytes:
        body = BytesIO(data) if data is not None and len(data) > _LARGE else data
        timeout = aiohttp.ClientTimeout(sock_connect=_CONNECT_SECONDS, sock_read=seconds)
        try:
            async with self._session.request(method, self._address(path), data=body, timeout=timeout) as response:
                answer = await response.read()
                if response.ok:
                    return answer
                raise self._refused(response, answer)
        except TimeoutError as error:
            text = f"the request timed out: the server sent nothing for {seconds:g} s"
            raise RequestFailed(text, unreachable=isinstance(error, aiohttp.ConnectionTimeoutError)) from error
        except (aiohttp.ClientError, OSError) as error:
            text = self._without_key(f"the connection failed: {error or type(error).__name__}")
            raise RequestFailed(text, unreachable=isinstance(error, aiohttp.ClientConnectorError)) from error

    def _refused(self, response: aiohttp.ClientResponse, answer: bytes) -> RequestFailed:
        """The error for an answer of another status than 2xx."""
        status, headers = response.status, response.headers
        body = _error(self._without_key(answer.decode(errors="replace").strip()))
        said = body.get("message") if isinstance(body, dict) else body
        after = _retry_after(headers)
        again = status in _RETRIED or status >= _SERVER_ERROR
        again = {"true": True, "false": False}.get(headers.get("x-should-retry", ""), again)
        if after is not None and after > LONGEST_RETRY_AFTER:
            again = False
        message = f"Error code: {status}" + (f" - {said}" if isinstance(said, str) and said else "")
        return RequestFailed(message, status, body, again=again, retry_after=after)

    def _without_key(self, text: str) -> str:
        """``text`` without the key, which a server may repeat in an error."""
        return text.replace(self._key, "***") if self._key else text


def _json(body: Mapping[str, Any]) -> bytes:
    """``body`` as JSON. pydantic's serializer takes a fifth of the time of ``json`` on a prompt, which is most of a body.

    ``json`` writes what it can't (half a surrogate pair), and refuses what it should refuse (NaN and infinity).
    """
    try:
        data = to_json(body)
    except ValueError:
        data = b"NaN"
    if b"NaN" not in data and b"Infinity" not in data:
        return data
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode(errors="replace")


def _headers(key: str) -> dict[str, str]:
    """The headers of every request. Organisation and project are those of the environment, as for the official client."""
    named = {"OpenAI-Organization": "OPENAI_ORG_ID", "OpenAI-Project": "OPENAI_PROJECT_ID"}
    of_account = {name: value for name, variable in named.items() if (value := os.environ.get(variable))}
    return {
        "Authorization": f"Bearer {key or 'none'}",
        "Accept": "application/json",
        "Content-Type": "application/json",
        "User-Agent": "pyserini_reasonrank",
        **of_account,
    }


def _error(text: str) -> Any:
    """The error in the body of an answer: its field ``error``, otherwise the JSON or the text."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return body.get("error", body) if isinstance(body, dict) else body


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait, in milliseconds, seconds or as a date; None if it asks for none."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        return seconds if isfinite(seconds) and seconds > 0 else None
    try:
        seconds = parsedate_to_datetime(headers.get("retry-after", "")).timestamp() - time.time()
    except (ValueError, TypeError):
        return None
    return seconds if seconds > 0 else None
