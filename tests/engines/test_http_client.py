"""The HTTP client against a real server: when a request is sent again and after which wait, and what an error says."""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from pyserini_reasonrank.engines.http_client import HttpClient, RequestFailed

KEY = "sk-a-key-of-nobody"


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The waits between requests, none of which takes place."""
    found, sleep = list[float](), asyncio.sleep

    async def noted(seconds: float) -> None:
        found.append(seconds)
        await sleep(0)

    with monkeypatch.context() as patched:
        patched.setattr("asyncio.sleep", noted)
        yield found


def post(server: HTTPServer, *answers: Response, body: Any = None, max_retries: int = 4) -> Any:
    """The JSON of the last of ``answers``, which the server gives in turn."""
    left = list(answers)
    handler = server.expect_request("/v1/chat", method="POST")
    handler.respond_with_handler(lambda request: left.pop(0))

    async def run() -> bytes:
        client = HttpClient(server.url_for("/v1"), KEY, connections=2, timeout=20, max_retries=max_retries)
        try:
            return await client.post("/chat", {} if body is None else body)
        finally:
            await client.close()

    return json.loads(asyncio.run(run()))


def fault(status: int, **headers: str) -> Response:
    error = json.dumps({"error": {"message": f"the key {KEY} is over its limit"}})
    return Response(error, status, {name.replace("_", "-"): value for name, value in headers.items()})


FINE = Response("1")


def test_waits_grow_and_are_never_equal(httpserver: HTTPServer, waits: list[float]) -> None:
    assert post(httpserver, *[fault(503)] * 6, FINE, max_retries=6) == 1
    most = [0.5, 1, 2, 4, 8, 8]
    assert all(0.75 * longest <= wait <= longest for wait, longest in zip(waits, most, strict=True))
    assert len(set(waits)) == len(waits)


def test_a_server_says_how_long_to_wait(httpserver: HTTPServer, waits: list[float]) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    answers = [fault(429, retry_after="7"), fault(429, retry_after_ms="250"), fault(503, retry_after=soon), FINE]
    assert post(httpserver, *answers) == 1
    assert waits[:2] == [7, 0.25]
    assert 50 < waits[2] <= 60


@pytest.mark.parametrize("value", ["0", "-1", "inf", "soon", ""])
def test_a_wait_that_is_none_is_ours(httpserver: HTTPServer, waits: list[float], value: str) -> None:
    assert post(httpserver, fault(429, retry_after=value), FINE) == 1
    assert 0.3 < waits[0] <= 0.5


@pytest.mark.parametrize(
    ("answer", "tries"),
    [
        (fault(429, retry_after="121"), 1),  # longer than a request waits
        (fault(500, x_should_retry="false"), 1),
        (fault(400), 1),
        (fault(400, x_should_retry="true"), 3),
        (fault(408), 3),
    ],
)
def test_what_is_sent_again(httpserver: HTTPServer, waits: list[float], answer: Response, tries: int) -> None:
    with pytest.raises(RequestFailed) as error:
        post(httpserver, *[answer] * 3, max_retries=2)
    assert len(httpserver.log) == tries
    assert error.value.status == answer.status_code


def test_an_error_does_not_contain_the_key(httpserver: HTTPServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    with pytest.raises(RequestFailed, match=r"^Error code: 401 - the key \*\*\* is over its limit$") as error:
        post(httpserver, fault(401))
    assert KEY not in f"{error.value.body}{caplog.text}"
    request, _ = httpserver.log[0]
    assert request.headers["Authorization"] == f"Bearer {KEY}"


def test_a_body_of_several_megabytes(httpserver: HTTPServer) -> None:
    sent: list[Any] = []

    def keep(request: Request) -> Response:
        sent.append(request.get_json())
        return FINE

    httpserver.expect_request("/v1/large", method="POST").respond_with_handler(keep)

    async def run() -> None:
        client = HttpClient(httpserver.url_for("/v1"), "", connections=2, timeout=20, max_retries=0)
        await client.post("/large", {"text": "é\udc80" * (1 << 20)})
        await client.close()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(run())
    assert sent == [{"text": "é?" * (1 << 20)}]
