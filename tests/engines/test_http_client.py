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
from hypothesis import given
from hypothesis import strategies as st
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from pyserini_reasonrank.engines.http_client import HttpClient, RequestFailed, _json

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


def nested(values: Any) -> Any:
    return st.one_of(st.lists(values, max_size=3), st.dictionaries(st.text(max_size=4), values, max_size=3))


plain = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=30))
texts = st.sampled_from(["half a pair \ud83d", "NaN", "Infinity", "\x00\x7f\u2028", "é漢🤖"])


@given(st.dictionaries(st.text(max_size=4), st.recursive(st.one_of(plain, texts), nested, max_leaves=8), max_size=4))
def test_bodies_are_what_json_writes(body: dict[str, Any]) -> None:
    try:
        expected = json.dumps(body, ensure_ascii=False, allow_nan=False).encode(errors="replace")
    except ValueError:
        with pytest.raises(ValueError, match="not JSON compliant"):
            _json(body)
    else:
        assert json.loads(_json(body)) == json.loads(expected)


def test_what_json_does_not_know_is_refused() -> None:
    with pytest.raises(TypeError):
        _json({"a": object()})
