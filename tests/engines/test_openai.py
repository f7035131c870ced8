"""The openai engine against a real HTTP server: what it sends, what it makes of good, bad and no answers, what it leaves open."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import re
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import exp, log
from pathlib import Path
from typing import Any

import pytest
from conftest import RunReranker
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from pyserini_reasonrank.engines.openai import OpenAI, OpenAIOptions
from pyserini_reasonrank.engines.parameters import Parameters
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.judges import Judge
from pyserini_reasonrank.judges.first_token import FirstToken
from pyserini_reasonrank.judges.score import RelevanceScore
from pyserini_reasonrank.models.catalogue import Model
from pyserini_reasonrank.parsing import read_permutation
from pyserini_reasonrank.records import (
    Call,
    Capability,
    Completion,
    Judgement,
    Message,
    PrefixCache,
    Prompt,
    Repeat,
    Sampling,
    Status,
)
from pyserini_reasonrank.rerankers.call_store import MemoryStore
from pyserini_reasonrank.run.parts import Plan
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.run.session import Session
from pyserini_reasonrank.settings import layers

PROMPT = Prompt((Message("system", "Assess."), Message("user", "Order [1] to [2]: é 🤖")))
CALL = Call("q", 0, ("d1", "d2"), lambda gains: "", lambda gains, choices: {})
GREEDY = Sampling()
PROSE = "internal error: 20 of 30 workers are down, see [2] > [1]"


def message(content: Any = "[2] > [1]", finish_reason: str = "stop", **fields: Any) -> dict[str, Any]:
    return {
        "choices": [{"message": {"role": "assistant", "content": content, **fields}, "finish_reason": finish_reason}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 7},
    }


def alternatives(**probabilities: float) -> dict[str, Any]:
    """An answer of one token with these likeliest alternatives, by their probability; a word with _ begins with a blank."""
    top = [{"token": t.replace("_", " "), "logprob": log(p)} for t, p in probabilities.items()]
    token = next(iter(probabilities)).replace("_", " ")
    answer = message(token)
    answer["choices"][0]["logprobs"] = {"content": [{"token": token, "logprob": 0, "top_logprobs": top}]}
    return answer


@dataclass
class Server:
    """A server with a script: the answers to chat completions in turn, the last one for ever; a model list."""

    http: HTTPServer
    answers: list[Any] = field(default_factory=lambda: [message()])
    models: Any = field(default_factory=lambda: {"object": "list", "data": [{"id": "m", "object": "model"}]})
    asked: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.http.expect_request("/v1/models").respond_with_handler(lambda request: respond(self.models))
        self.http.expect_request("/v1/chat/completions", method="POST").respond_with_handler(self._chat)

    @property
    def url(self) -> str:
        return self.http.url_for("/v1")

    def _chat(self, request: Request) -> Response:
        self.asked.append(request.get_json())
        return respond(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])


def respond(answer: Any) -> Response:
    """An answer as JSON; a number is an HTTP error, quickly retried; a string a page of text."""
    if isinstance(answer, int):
        return Response(
            json.dumps({"error": {"message": PROSE}}), answer, {"retry-after-ms": "1"}, mimetype="application/json"
        )
    if isinstance(answer, str):
        return Response(answer, mimetype="text/html")
    return Response(json.dumps(answer), mimetype="application/json")


@pytest.fixture
def server(httpserver: HTTPServer) -> Server:
    return Server(httpserver)


@pytest.fixture
def second() -> Iterator[Server]:
    with HTTPServer() as http:
        yield Server(http)


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def with_engine[T](
    work: Callable[[OpenAI], Awaitable[T]],
    url: str,
    model: str = "m",
    arguments: Mapping[str, Any] | None = None,
    bos: bool = False,
    **options: Any,
) -> T:
    """What ``work`` makes of a started engine; ``arguments`` are for the chat template."""

    async def run() -> T:
        described = Model(model, model, chat_template_args=arguments or {}, bos=bos)
        engine = OpenAI(described, OpenAIOptions(base_url=url, **options))
        try:
            await engine.start()
            return await work(engine)
        finally:
            await engine.close()

    return asyncio.run(run())


@contextlib.contextmanager
def nothing_left_open() -> Iterator[None]:
    """Fails if a session, a connection or a socket is left to the garbage collector."""
    gc.collect()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
        gc.collect()
    assert [str(w.message) for w in caught if issubclass(w.category, ResourceWarning)] == []


def ask(server: Server, sampling: Sampling = GREEDY, prompt: Prompt = PROMPT, **options: Any) -> Completion:
    return with_engine(lambda engine: engine.generate(prompt, sampling, CALL), server.url, **options)


# --- what is sent


@pytest.mark.parametrize(
    ("kind", "bos", "sent"), [("vllm", True, True), ("vllm", False, None), ("llamacpp", True, None)]
)
def test_vllm_is_asked_for_the_bos_token_that_a_chat_template_does_not_write(
    server: Server, kind: str, bos: bool, sent: bool | None
) -> None:
    with_engine(lambda engine: engine.generate(PROMPT, GREEDY, CALL), server.url, bos=bos, server=kind)
    assert server.asked[0].get("add_special_tokens") is sent


def test_a_plain_question(server: Server) -> None:
    completion = ask(server, Sampling(temperature=0.25, top_p=0.5, max_tokens=9))
    assert (completion.text, completion.finish_reason, completion.error) == ("[2] > [1]", "stop", None)
    assert (completion.prompt_tokens, completion.output_tokens) == (11, 7)
    assert 0 < completion.seconds < 30
    assert server.asked == [
        {
            "model": "m",
            "messages": [
                {"role": "system", "content": "Assess."},
                {"role": "user", "content": "Order [1] to [2]: é 🤖"},
            ],
            "temperature": 0.25,
            "top_p": 0.5,
            "max_tokens": 9,
        }
    ]


def test_parameters_beyond_openais_own_are_sent_only_when_set(server: Server) -> None:
    ask(server, Sampling(top_k=5, min_p=0.1, stop=("</",), seed=3, extra={"repetition_penalty": 1.1}))
    sent = server.asked[0]
    assert (sent["top_k"], sent["min_p"], sent["stop"], sent["seed"]) == (5, 0.1, ["</"], 3)
    assert sent["repetition_penalty"] == 1.1


def test_a_second_sample_has_another_seed(server: Server) -> None:
    second = Call("q", 0, CALL.docids, CALL.ideal, CALL.ideal_choices, Repeat(attempt=1))
    with_engine(lambda engine: engine.generate(PROMPT, Sampling(seed=3), second), server.url)
    assert server.asked[0]["seed"] == 4


def test_an_answer_that_is_begun_is_continued(server: Server) -> None:
    ask(server, prompt=Prompt(PROMPT.messages, "<think>so"), continue_final_message=True)
    assert server.asked[0]["messages"][-1] == {"role": "assistant", "content": "<think>so"}
    assert (server.asked[0]["add_generation_prompt"], server.asked[0]["continue_final_message"]) == (False, True)


def test_capabilities_follow_what_the_server_can_do() -> None:
    assert OpenAI(Model("m", "m"), OpenAIOptions()).capabilities == {Capability.REASK}
    continuing = OpenAI(Model("m", "m"), OpenAIOptions(continue_final_message=True)).capabilities
    assert continuing == {Capability.REASK, Capability.PREFILL, Capability.CHOICES}
    structured = OpenAI(Model("m", "m"), OpenAIOptions(structured_outputs="vllm")).capabilities
    assert structured == {Capability.REASK, Capability.PATTERN}


PENALTIES = {"presence_penalty": 0.0, "frequency_penalty": 0.0}
NEUTRAL = {
    "vllm": {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, **PENALTIES},
    "sglang": {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, **PENALTIES},
    "llamacpp": {"top_k": 0, "min_p": 0.0, "repeat_penalty": 1.0, **PENALTIES},
}


async def plainly(engine: OpenAI) -> Completion:
    return await engine.generate(PROMPT, GREEDY, CALL)


def owned_by(*owners: str) -> dict[str, Any]:
    """A model list; the first is ours."""
    return {"data": [{"id": name, "owned_by": owner} for name, owner in zip("mnopq", owners, strict=False)]}


@pytest.mark.parametrize("kind", list(NEUTRAL))
def test_no_default_of_the_server_or_the_model_decides_an_answer(server: Server, kind: str) -> None:
    server.models = owned_by(kind)
    ask(server)
    assert NEUTRAL[kind].items() <= server.asked[0].items()
    server.models = {"data": []}
    with_engine(plainly, server.url, server=kind)
    assert server.asked[1] == server.asked[0]


@pytest.mark.parametrize("models", [owned_by("openai", "vllm"), owned_by("system"), {"data": []}, 404])
def test_other_servers_are_sent_nothing_they_may_not_know(server: Server, models: Any) -> None:
    server.models = models
    ask(server)
    server.models = owned_by("vllm")
    with_engine(plainly, server.url, server="other")
    for sent in server.asked:
        assert sent.keys() == {"model", "messages", "temperature", "top_p", "max_tokens"}


def test_what_is_set_goes_over_the_neutral_values(server: Server) -> None:
    server.models = owned_by("vllm")
    ask(server, Sampling(top_k=5, min_p=0.1, extra={"repetition_penalty": 1.1}))
    asked = server.asked[0]
    assert (asked["top_k"], asked["min_p"], asked["repetition_penalty"], asked["presence_penalty"]) == (5, 0.1, 1.1, 0)


def test_a_server_that_does_not_list_our_model_is_known_by_the_others(server: Server) -> None:
    server.models = {"data": [{"id": "x", "owned_by": "sglang"}, {"id": "y", "owned_by": "sglang"}]}
    ask(server)
    assert NEUTRAL["sglang"].items() <= server.asked[0].items()


def test_the_kind_of_server_is_told_in_options_and_identity(server: Server) -> None:
    async def work(engine: OpenAI) -> tuple[str, str]:
        return engine.options.server, engine.identity(CALL)

    plain = with_engine(work, server.url)
    server.models = owned_by("vllm")
    assert with_engine(work, server.url)[0] == "vllm"
    assert plain[0] == "other"
    assert plain[1] == OpenAI(Model("m", "m"), OpenAIOptions()).identity(CALL) != with_engine(work, server.url)[1]


def test_servers_of_several_kinds_are_refused_unless_the_kind_is_named(server: Server, second: Server) -> None:
    server.models, second.models = owned_by("vllm"), owned_by("litellm")
    both = f"{server.url},{second.url}"
    with pytest.raises(UsageError, match=r"of different types: .*\(vllm\), .*\(other\); .*--rerank\.engine\.server"):
        with_engine(plainly, both)
    with_engine(plainly, both, server="vllm")
    assert NEUTRAL["vllm"].items() <= server.asked[0].items()


TEMPLATE = "{{ messages[0].content }}"


@pytest.mark.parametrize(
    ("kind", "arguments", "sent"),
    [
        ("vllm", {"enable_thinking": False}, {"chat_template_kwargs": {"enable_thinking": False}}),
        ("sglang", {"enable_thinking": False}, {"chat_template_kwargs": {"enable_thinking": False}}),
        ("llamacpp", {"enable_thinking": True}, {"chat_template_kwargs": {"enable_thinking": True}}),
        ("vllm", {"chat_template": TEMPLATE}, {"chat_template": TEMPLATE}),
        ("sglang", {"chat_template": TEMPLATE}, {"chat_template_kwargs": {"chat_template": TEMPLATE}}),
        ("vllm", {}, {}),
    ],
)
def test_arguments_of_the_chat_template_are_sent(
    server: Server, kind: str, arguments: dict[str, Any], sent: dict[str, Any]
) -> None:
    server.models, server.answers = owned_by(kind), [alternatives(true=0.9)]

    async def work(engine: OpenAI) -> None:
        await engine.generate(PROMPT, GREEDY, CALL)
        await engine.generate(PROMPT, Sampling(choices=("true", "false")), CALL)

    with_engine(work, server.url, arguments=arguments, max_retries=0)
    assert len(server.asked) == 2
    for asked in server.asked:
        assert {name: asked[name] for name in asked if name.startswith("chat_template")} == sent


@pytest.mark.parametrize(
    ("owner", "arguments", "named"),
    [
        ("openai", {"enable_thinking": False, "chat_template": TEMPLATE}, "enable_thinking: null, chat_template: null"),
        ("llamacpp", {"enable_thinking": False, "chat_template": TEMPLATE}, "chat_template: null"),
    ],
)
def test_arguments_that_the_server_would_not_heed_are_refused(
    server: Server, owner: str, arguments: dict[str, Any], named: str
) -> None:
    server.models = owned_by(owner)
    with pytest.raises(UsageError, match=r"--rerank\.engine\.server vllm") as error:
        with_engine(plainly, server.url, arguments=arguments)
    assert f"--rerank.chat_template_args '{{{named}}}'" in str(error.value)
    assert server.asked == []


@pytest.mark.parametrize(
    ("how", "sent"), [("vllm", {"structured_outputs": {"regex": r"\[[12]\]"}}), ("sglang", {"regex": r"\[[12]\]"})]
)
def test_a_pattern_is_asked_for_as_the_server_takes_it(server: Server, how: Any, sent: dict[str, Any]) -> None:
    ask(server, Sampling(pattern=r"\[[12]\]"), structured_outputs=how)
    ask(server, structured_outputs=how)
    first, second = server.asked
    assert {name: first[name] for name in sent} == sent
    assert first.keys() - second.keys() == sent.keys()


def refusing(asked: list[dict[str, Any]], *names: str) -> Callable[[Request], Response]:
    """A model that takes ``max_completion_tokens`` for ``max_tokens`` and refuses ``names``; a refusal names one of them."""

    def chat(request: Request) -> Response:
        body = request.get_json()
        asked.append(body)
        for name in ("max_tokens", *names):
            if name in body:
                other = " Use 'max_completion_tokens' instead." if name == "max_tokens" else ""
                said = f"Unsupported parameter: '{name}' is not supported with this model.{other}"
                error = {
                    "message": said,
                    "type": "invalid_request_error",
                    "param": name,
                    "code": "unsupported_parameter",
                }
                return Response(json.dumps({"error": error}), 400, mimetype="application/json")
        return respond(message())

    return chat


@pytest.fixture
def strict(httpserver: HTTPServer) -> Server:
    """A server of a reasoning model: each refusal names one parameter."""
    server = Server(httpserver)
    httpserver.clear()
    httpserver.expect_request("/v1/models").respond_with_handler(lambda request: respond(server.models))
    refusal = refusing(server.asked, "top_p", "temperature")
    httpserver.expect_request("/v1/chat/completions", method="POST").respond_with_handler(refusal)
    return server


def test_parameters_that_a_model_refuses_are_learnt_once(strict: Server, caplog: pytest.LogCaptureFixture) -> None:
    async def work(engine: OpenAI) -> list[Completion]:
        first = [await engine.generate(PROMPT, Sampling(max_tokens=9), CALL)]
        return first + await asyncio.gather(*(engine.generate(PROMPT, Sampling(max_tokens=9), CALL) for _ in range(5)))

    assert {completion.text for completion in with_engine(work, strict.url)} == {"[2] > [1]"}
    assert len(strict.asked) == 3 + 6
    assert strict.asked[-1].keys() == {"model", "messages", "max_completion_tokens"}
    assert strict.asked[-1]["max_completion_tokens"] == 9
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "the server refuses max_tokens: max_completion_tokens is sent instead",
        "the server refuses top_p: it is not sent, and the server's default applies",
        "the server refuses temperature: it is not sent, and the server's default applies",
    ]


def test_calls_that_are_refused_together_are_all_sent_again(strict: Server) -> None:
    async def work(engine: OpenAI) -> list[Completion]:
        return await asyncio.gather(*(engine.generate(PROMPT, GREEDY, CALL) for _ in range(20)))

    assert {completion.text for completion in with_engine(work, strict.url)} == {"[2] > [1]"}


def test_settings_rename_and_drop_parameters(strict: Server) -> None:
    flags: dict[str, Any] = {"rename": {"max_tokens": "max_completion_tokens"}, "drop": ("temperature", "top_p")}
    assert ask(strict, Sampling(max_tokens=9), **flags).text == "[2] > [1]"
    assert len(strict.asked) == 1


def test_a_value_under_the_other_name_counts(strict: Server) -> None:
    assert ask(strict, Sampling(extra={"max_completion_tokens": 4000})).text == "[2] > [1]"
    assert strict.asked[-1]["max_completion_tokens"] == 4000


@pytest.mark.parametrize(
    ("model", "url", "names"),
    [
        ("o3-mini", "https://api.openai.com/v1/", {"max_completion_tokens"}),
        ("gpt-5", "https://api.openai.com/v1/", {"max_completion_tokens"}),
        ("gpt-5-chat-latest", "https://api.openai.com/v1/", {"max_tokens", "temperature", "top_p"}),
        ("gpt-4o", "https://api.openai.com/v1/", {"max_tokens", "temperature", "top_p"}),
        ("o3-mini", "http://localhost:8000/v1/", {"max_tokens", "temperature", "top_p"}),
    ],
)
def test_known_models_need_no_setting(model: str, url: str, names: set[str]) -> None:
    parameters = Parameters({}, ())
    parameters.know(url, model)
    assert parameters.named({"max_tokens": 9, "temperature": 0.0, "top_p": 1.0}).keys() == names


@pytest.mark.parametrize(
    "said",
    [
        {"message": "max_tokens is too large: 99999. This model supports at most 16384 completion tokens."},
        {"message": "Unsupported parameter: 'logprobs' is not supported with this model.", "param": "logprobs"},
        {"message": "temperature must be between 0 and 2"},
        {"message": "Unknown model"},
        "temperature?",
        None,
        5,
        ["unsupported"],
    ],
)
def test_other_refusals_are_errors(server: Server, said: Any) -> None:
    sent = {"max_tokens": 9, "temperature": 0.0, "top_p": 1.0, "logprobs": True}
    parameters = Parameters({}, ())
    assert parameters.learn(sent, said) == ""
    assert parameters.named(sent) == sent


def test_names_do_not_change_what_a_call_is_known_by(server: Server) -> None:
    renamed = OpenAI(Model("m", "m"), OpenAIOptions(rename={"max_tokens": "max_completion_tokens"}))
    assert renamed.identity(CALL) == OpenAI(Model("m", "m"), OpenAIOptions()).identity(CALL)
    dropped = OpenAI(Model("m", "m"), OpenAIOptions(drop=("temperature",)))
    assert dropped.identity(CALL) != renamed.identity(CALL)


# --- errors are errors


@pytest.mark.parametrize("errors", [[500], [429], [500, 429, 503], [408, 409]])
def test_what_passes_is_tried_again(server: Server, errors: list[int]) -> None:
    server.answers = [*errors, message()]
    completion = ask(server)
    assert (completion.text, completion.error) == ("[2] > [1]", None)
    assert len(server.asked) == len(errors) + 1


@pytest.mark.parametrize(("status", "tries"), [(500, 3), (429, 3), (400, 1), (404, 1), (401, 1)])
def test_what_stays_is_an_error_and_never_text(server: Server, status: int, tries: int) -> None:
    server.answers = [status]
    completion = ask(server, max_retries=2)
    assert (completion.text, completion.finish_reason) == ("", "error")
    assert completion.error is not None
    assert str(status) in completion.error
    assert "\n" not in completion.error
    assert len(server.asked) == tries
    assert read_permutation(completion, 2, tags=False, how="digits").status is Status.ERROR


@pytest.mark.parametrize(
    "answer",
    [
        {"choices": []},
        {"choices": None},
        {"error": {"message": PROSE}},
        {"choices": [None]},
        {"choices": [PROSE]},
        {"choices": [{"message": PROSE, "finish_reason": "stop"}]},
        {"choices": PROSE},
        {"choices": [{"message": {"content": {"type": "text", "text": PROSE}}}]},
        {"choices": {"0": {"message": {"content": PROSE}}}},
        [],
        [PROSE],
        PROSE,
        "",
        "{broken",
        "null",
        '"text"',
    ],
)
def test_an_answer_of_another_shape_is_an_error_and_never_text(server: Server, answer: Any) -> None:
    server.answers = [answer]
    completion = ask(server, max_retries=0)
    assert (completion.text, completion.finish_reason, completion.choices) == ("", "error", {})
    assert completion.error
    assert "\n" not in completion.error


def test_a_server_that_hangs_is_given_up_at_the_timeout(server: Server) -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        await asyncio.sleep(0.3)
        writer.close()

    async def work(engine: OpenAI) -> Completion:
        async with await asyncio.start_server(hang, "127.0.0.1", 0) as silent:
            port = silent.sockets[0].getsockname()[1]
            engine._clients[0].base_url = f"http://127.0.0.1:{port}/v1"
            return await engine.generate(PROMPT, Sampling(), CALL)

    completion = with_engine(work, server.url, timeout=0.2, max_retries=0)
    assert completion.text == ""
    assert completion.error is not None
    assert "timed out" in completion.error


def test_a_connection_that_is_lost_is_made_again(server: Server) -> None:
    connections = 0
    body = json.dumps(message()).encode()

    async def drop_the_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        if connections > 1:
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            await writer.drain()
        writer.close()

    async def work(engine: OpenAI) -> Completion:
        async with await asyncio.start_server(drop_the_first, "127.0.0.1", 0) as flaky:
            port = flaky.sockets[0].getsockname()[1]
            engine._clients[0].base_url = f"http://127.0.0.1:{port}/v1"
            return await engine.generate(PROMPT, Sampling(), CALL)

    assert with_engine(work, server.url).text == "[2] > [1]"
    assert connections == 2


def test_a_server_that_is_gone_for_good_is_an_error(server: Server) -> None:
    async def work(engine: OpenAI) -> Completion:
        engine._clients[0].base_url = "http://127.0.0.1:1/v1"
        return await engine.generate(PROMPT, Sampling(), CALL)

    completion = with_engine(work, server.url, max_retries=0)
    assert (completion.text, completion.finish_reason) == ("", "error")
    assert completion.error


# --- what is read


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_a_separate_thought_is_put_before_the_answer(server: Server, name: str) -> None:
    server.answers = [message(**{name: "because [1] is off"})]
    completion = ask(server)
    assert completion.text == "<think>because [1] is off</think>\n[2] > [1]"
    judgement = read_permutation(completion, 2, tags=False)
    assert (judgement.order, judgement.reasoning) == ((1, 0), "because [1] is off")


def test_tags_in_a_separate_thought_are_never_read(server: Server) -> None:
    quoting = "Close with </think> and <answer> [1] > [2] </answer>, or [/THINK]."
    server.answers = [
        message(reasoning=quoting),
        message(None, reasoning=quoting),
        message(None, "length", reasoning=quoting),
    ]
    whole, misplaced, cut = [read_permutation(ask(server), 2) for _ in range(3)]
    assert (whole.order, whole.status, whole.detail) == ((1, 0), Status.REPAIRED, "no answer tag")
    assert (misplaced.order, misplaced.status) == ((0, 1), Status.EMPTY)
    assert "reasoning parser" in misplaced.detail
    assert (cut.order, cut.status) == ((0, 1), Status.TRUNCATED)


GOOD = "[2] > [1]"
TEXT = {"type": "text", "text": GOOD}


@pytest.mark.parametrize(
    ("content", "fields", "text"),
    [
        ([TEXT], {}, GOOD),
        ([{"type": "output_text", "text": "[2] >"}, {"type": "text", "text": " [1]"}], {}, GOOD),
        ([{"type": "thinking", "thinking": [{"type": "text", "text": "so"}]}, TEXT], {}, f"<think>so</think>\n{GOOD}"),
        ([{"type": "thinking", "thinking": "so", "signature": "x"}, TEXT], {}, f"<think>so</think>\n{GOOD}"),
        ([{"type": "reasoning", "text": "so"}, TEXT], {}, f"<think>so</think>\n{GOOD}"),
        ([{"type": "image_url", "image_url": {"url": "x"}}, {"text": "[1]"}, 5, None, TEXT], {}, GOOD),
        ([], {}, ""),
        (GOOD, {"thinking": "so"}, f"<think>so</think>\n{GOOD}"),
        (GOOD, {"reasoning": ["so"]}, f"<think>so</think>\n{GOOD}"),
        (GOOD, {"reasoning": {"summary": [{"text": "so"}]}}, f"<think>so</think>\n{GOOD}"),
        (GOOD, {"reasoning": None, "reasoning_content": "", "thinking": 5}, GOOD),
    ],
)
def test_the_places_where_servers_put_reasoning_and_answer(
    server: Server, content: Any, fields: dict[str, Any], text: str
) -> None:
    server.answers = [message(content, **fields)]
    completion = ask(server)
    assert (completion.text, completion.finish_reason, completion.error) == (text, "stop", None)


@pytest.mark.parametrize(
    "usage", [None, "many", {"prompt_tokens": "11"}, {"completion_tokens": -1}, {"prompt_tokens": 10**30}]
)
def test_odd_counts_of_tokens_do_not_spoil_an_answer(server: Server, usage: Any) -> None:
    server.answers = [message() | {"usage": usage}]
    completion = ask(server)
    assert completion.text == GOOD
    assert 0 <= completion.prompt_tokens < 2**63


@pytest.mark.parametrize(
    ("details", "cached"),
    [({"cached_tokens": 8}, 8), ({"cached_tokens": None}, 0), (None, 0), ("all", 0), ({"cached_tokens": 99}, 11)],
)
def test_tokens_from_the_prefix_cache_are_counted(server: Server, details: Any, cached: int) -> None:
    server.answers = [message() | {"usage": {"prompt_tokens": 11, "prompt_tokens_details": details}}]
    completion = ask(server)
    assert (completion.prompt_tokens, completion.cached_tokens) == (11, cached)


def test_a_list_that_ends_the_reasoning_is_the_answer_where_there_is_no_other(server: Server) -> None:
    server.answers = [message(None, reasoning=f"The second is better than [1].\n\n{GOOD}")]
    judgement = read_permutation(ask(server), 2, tags=False)
    assert (judgement.order, judgement.status) == ((1, 0), Status.REPAIRED)
    assert judgement.detail == "the answer is at the end of the reasoning"


@pytest.mark.parametrize("content", ["", None])
def test_a_thought_that_was_cut_stays_open(server: Server, content: str | None) -> None:
    server.answers = [message(content, "length", reasoning="because [2]")]
    completion = ask(server)
    assert (completion.text, completion.finish_reason) == ("<think>because [2]", "length")
    assert read_permutation(completion, 2).status is Status.TRUNCATED


def test_an_empty_answer_is_empty(server: Server) -> None:
    server.answers = [message(None)]
    completion = ask(server)
    assert (completion.text, completion.finish_reason, completion.error) == ("", "stop", None)


@pytest.mark.parametrize(
    "answer",
    [
        message("I can't.", "content_filter"),
        message(None, refusal="I can't rank [2] over [1]."),
        message("[2] > [1]", refusal="No."),
    ],
)
def test_a_refusal_is_one(server: Server, answer: dict[str, Any]) -> None:
    server.answers = [answer]
    completion = ask(server)
    assert completion.finish_reason == "refusal"
    assert read_permutation(completion, 2, tags=False).status is Status.REFUSED


def test_half_a_character_does_no_harm(server: Server) -> None:
    server.answers = [message("[2] > [1] \ud83d")]
    assert ask(server).text.encode().startswith(b"[2] > [1] ")


# --- probabilities of given answers


def choose(server: Server, choices: Sequence[str], *answers: Any) -> Completion:
    server.answers = list(answers)
    return ask(server, Sampling(choices=tuple(choices), max_tokens=1), continue_final_message=True)


def test_choices_are_read_from_the_likeliest_next_tokens(server: Server) -> None:
    found = choose(server, ["true", "false"], alternatives(true=0.5, _True=0.2, _false=0.1, fal=0.05, the=0.1, f=0.01))
    assert {c: round(exp(p), 6) for c, p in found.choices.items()} == {"true": 0.7, "false": 0.16}
    assert found.error is None
    sent = server.asked[0]
    assert (sent["max_tokens"], sent["logprobs"], sent["top_logprobs"], sent["temperature"]) == (1, True, 20, 0.0)


def letters(server: Server, answer: Any, **options: Any) -> Completion:
    server.answers = [answer]
    sampling = Sampling(choices=("A", "B", "C"), one_token=True)
    return ask(server, sampling, continue_final_message=True, max_retries=0, **options)


def test_choices_of_one_token_are_exact_and_those_not_told_are_left_out(server: Server) -> None:
    found = letters(server, alternatives(B=0.5, A=0.2, _A=0.1, a=0.05, Bi=0.01, c=0.01))
    assert {c: round(exp(p), 6) for c, p in found.choices.items()} == {"B": 0.5, "A": 0.3}
    assert (found.error, len(server.asked)) == (None, 1)


def test_none_of_them_among_the_likeliest_is_no_error_but_no_probabilities_are(server: Server) -> None:
    found = letters(server, alternatives(the=0.9, answer=0.1))
    assert (found.choices, found.error) == ({}, None)
    unreported = letters(server, message("A"))
    assert (unreported.choices, unreported.error) == ({}, None)
    assert letters(server, 500).error is not None


def test_more_alternatives_are_asked_for_where_the_server_tells_more(server: Server) -> None:
    letters(server, alternatives(B=0.5), top_logprobs=40)
    assert server.asked[0]["top_logprobs"] == 40


GRADES = [str(grade) for grade in range(11)]


def test_1_is_told_from_10_by_the_token_that_follows(server: Server) -> None:
    first = {str(grade): 0.01 for grade in range(10)} | {"1": 0.6, "8": 0.2}
    found = choose(server, GRADES, alternatives(**first), alternatives(**{"0": 0.75, "</": 0.25}))
    assert exp(found.choices["1"]) == pytest.approx(0.6 * 0.25)
    assert exp(found.choices["10"]) == pytest.approx(0.6 * 0.75)
    assert exp(found.choices["8"]) == pytest.approx(0.2)
    assert [m["content"] for m in (sent["messages"][-1] for sent in server.asked)] == [PROMPT.messages[-1].content, "1"]
    judge = RelevanceScore(RelevanceScore.Options(scale="0-10"), Sampling(), frozenset(), "")
    assert judge.value(found.choices) == pytest.approx(10 * 0.45 / sum(exp(p) for p in found.choices.values()))


def test_a_tokenizer_with_a_token_for_10(server: Server) -> None:
    found = choose(
        server, GRADES, alternatives(**{"10": 0.7, "1": 0.2, "2": 0.1}), alternatives(**{"</": 0.9, "0": 0.1})
    )
    assert exp(found.choices["10"]) == pytest.approx(0.7 + 0.02)
    assert exp(found.choices["1"]) == pytest.approx(0.18)


@pytest.mark.parametrize(
    "answer",
    [
        alternatives(the=0.9, answer=0.1),
        alternatives(true=0.9),
        message("true"),
        message("true") | {"choices": [message("true")["choices"][0] | {"logprobs": None}]},
        message("true") | {"choices": [message("true")["choices"][0] | {"logprobs": {"content": [{"token": "true"}]}}]},
    ],
)
def test_probabilities_that_one_answer_lacks_are_a_bad_status_and_not_an_error(server: Server, answer: Any) -> None:
    server.answers = [answer]
    found = ask(server, Sampling(choices=("true", "false")), continue_final_message=True, max_retries=0)
    assert (found.error, found.choices) == (None, {})
    for judge in (
        RelevanceScore(RelevanceScore.Options(think=False), Sampling(), frozenset(), ""),
        FirstToken(FirstToken.Options(), Sampling(), frozenset(), ""),
    ):
        judgement = asyncio.run(judged(judge, replace(found, choices={})))
        assert judgement.status is Status.EMPTY
        assert "probabilities" in judgement.detail


async def judged(judge: Judge, completion: Completion) -> Judgement:
    async def ask(prompt: Prompt, sampling: Sampling, *, attempt: int = 0) -> Completion:
        return completion

    return await judge.judge(ask, PROMPT, ["a passage"])


@pytest.mark.parametrize("answer", [{"choices": []}, 500])
def test_probabilities_that_are_not_given_are_an_error(server: Server, answer: Any) -> None:
    server.answers = [answer]
    found = ask(server, Sampling(choices=("true", "false")), continue_final_message=True, max_retries=0)
    assert (found.finish_reason, found.choices) == ("error", {})
    assert found.error


def test_an_error_at_the_second_token_is_an_error(server: Server) -> None:
    server.answers = [alternatives(**{"1": 0.6, "8": 0.2}), 400]
    found = ask(server, Sampling(choices=tuple(GRADES)), continue_final_message=True)
    assert (found.finish_reason, found.choices) == ("error", {})


# --- servers


def of_query(number: int) -> Call:
    return replace(CALL, qid=f"q{number}")


def queries(engine: OpenAI, count: int = 10) -> Awaitable[list[Completion]]:
    """The first call of each of ``count`` queries."""
    return asyncio.gather(*(engine.generate(PROMPT, Sampling(), of_query(n)) for n in range(count)))


def test_two_servers_share_the_queries_and_each_query_stays_on_one(server: Server, second: Server) -> None:
    async def work(engine: OpenAI) -> list[Completion]:
        completions = list(await queries(engine))
        assert len(server.asked) == len(second.asked) == 5
        for _ in range(6):
            completions.append(await engine.generate(PROMPT, Sampling(), of_query(0)))
        return completions

    completions = with_engine(work, f"{server.url},{second.url}")
    assert {c.text for c in completions} == {"[2] > [1]"}
    assert {len(server.asked), len(second.asked)} == {5, 11}


def test_a_server_that_ends_leaves_the_rotation_and_comes_back(server: Server, second: Server) -> None:
    async def work(engine: OpenAI) -> None:
        home = engine._clients[0].base_url
        engine._clients[0].base_url = "http://127.0.0.1:1/v1"
        assert {c.text for c in await queries(engine)} == {"[2] > [1]"}
        assert engine._rotation.moved_calls == 5  # at once, without the retries of the client
        assert (len(server.asked), len(second.asked)) == (0, 10)
        assert engine._rotation.down == [engine._clients[0]]
        engine._clients[0].base_url = home
        engine._rotation._clock = lambda: time.monotonic() + 2
        assert {c.text for c in await queries(engine)} == {"[2] > [1]"}
        assert len(server.asked) == 1  # the call that tries it
        assert {c.text for c in await queries(engine, 20)} == {"[2] > [1]"}
        assert len(server.asked) > 5

    with_engine(work, f"{server.url},{second.url}")


def served(name: str = "m", **fields: Any) -> dict[str, Any]:
    return {"data": [{"id": name, "owned_by": "vllm", "root": "/data/m-7b", "max_model_len": 8192, **fields}]}


def after_a_return(server: Server, second: Server, models: Any, rounds: int = 1) -> list[str]:
    """The notices of a run in whose course ``second``, which was down at the start, returns with this model list."""
    server.models, second.models = served(), models

    async def work(engine: OpenAI) -> list[str]:
        await queries(engine)
        engine._clients[1].base_url = second.http.url_for("")[:-1]  # as it is given, without the /v1 that start() finds
        for hours in range(1, rounds + 1):
            engine._rotation._clock = partial(lambda seconds: time.monotonic() + seconds, 3600 * hours)
            assert {c.text for c in await queries(engine)} == {"[2] > [1]"}
            await queries(engine, 20)
        return engine.notices

    down, *notices = with_engine(work, f"{server.url},http://127.0.0.1:1/", generative_scoring=False)
    assert down.startswith("no server answers at http://127.0.0.1:1/")
    return notices


def test_a_server_that_was_down_at_the_start_is_used_once_its_model_is_the_same(server: Server, second: Server) -> None:
    notices = after_a_return(server, second, served(root="/scratch/m-7b"))
    assert len(second.asked) > 5
    assert [notice for notice in notices if "gets no calls" in notice] == []


@pytest.mark.parametrize(
    ("models", "said"),
    [
        (served("other"), "serves other instead of m"),
        (served(root="/data/m-32b"), "serves m-32b as m, and the other servers m-7b"),
        (served(max_model_len=2048), "has a context of 2048 tokens, and prompts with their answers may have 8192"),
        (served(owned_by="x"), "is of type other, and the other servers are of type vllm"),
        (401, "rejects the API key: set OPENAI_API_KEY"),
    ],
)
def test_a_server_that_returns_with_another_model_gets_no_prompts_and_is_named_once(
    server: Server, second: Server, models: Any, said: str
) -> None:
    notices = after_a_return(server, second, models, rounds=3)
    assert second.asked == []
    [notice] = [notice for notice in notices if "gets no calls" in notice]
    assert f"{said}: it gets no calls" in notice
    assert second.http.url_for("")[:-1] in notice


def test_servers_of_different_checkpoints_under_one_name_are_a_warning(server: Server, second: Server) -> None:
    server.models, second.models = served(), served(root="org/m-32b")

    async def work(engine: OpenAI) -> list[str]:
        return engine.notices

    both = f"{server.url},{second.url}"
    assert with_engine(work, both) == ["the servers serve different checkpoints as m: m-32b, m-7b"]
    second.models = served(root="org/m-7b")
    assert with_engine(work, both) == []


def counting(server: Server, *tokens: tuple[int, int]) -> None:
    """Makes a server one of vLLM that counts these tokens looked up and found, in turn."""
    server.models, answers = served(), list(tokens)

    def metrics(request: Request) -> Response:
        queries, hits = answers.pop(0)
        return Response(f"vllm:prefix_cache_queries_total {queries}.0\nvllm:prefix_cache_hits_total {hits}.0\n")

    server.http.expect_request("/metrics").respond_with_handler(metrics)


async def counted(engine: OpenAI) -> PrefixCache | None:
    await queries(engine)
    return await engine.prefix_cache()


def test_the_counters_of_the_servers_prefix_caches_are_read_before_and_after(
    server: Server, second: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    counting(server, (100, 50), (180, 80))
    counting(second, (0, 0), (20, 10))
    assert with_engine(counted, f"{server.url},{second.url}") == PrefixCache(100, 40)
    asked = [request for request, _ in server.http.log if request.path == "/metrics"]
    assert [request.headers["Authorization"] for request in asked] == ["Bearer secret"] * 2


@pytest.mark.parametrize("metrics", [404, 500, "<html>", None])
def test_a_server_without_counters_is_no_error(server: Server, metrics: Any) -> None:
    server.models = served()
    if metrics is not None:
        server.http.expect_request("/metrics").respond_with_handler(lambda request: respond(metrics))
    assert with_engine(counted, server.url) is None


def test_other_servers_than_vllm_are_not_asked_for_counters(server: Server) -> None:
    assert with_engine(counted, server.url) is None
    assert "/metrics" not in {request.path for request, _ in server.http.log}


def test_a_run_records_counters_only_if_answers_report_no_cached_tokens(
    server: Server, run_reranker: RunReranker, tmp_path: Path
) -> None:
    flags = {"engine": {"name": "openai", "base_url": server.url}, "max_bad": 1.0}
    counting(server, (100, 50), (180, 80), (180, 80))
    assert run_reranker("reasonrank", flags).prefix_cache == PrefixCache(80, 30)
    reported = message()
    reported["usage"]["prompt_tokens_details"] = {"cached_tokens": 8}
    server.answers = [reported]
    again = run_reranker("reasonrank", flags, output=tmp_path / "again.txt")
    assert (again.prefix_cache, again.tally.cached_tokens > 0) == (None, True)


def test_a_failure_is_asked_again_at_another_server(server: Server, second: Server) -> None:
    server.answers = [503]
    completions = with_engine(queries, f"{server.url},{second.url}", max_retries=0)
    assert {c.text for c in completions} == {"[2] > [1]"}


def test_a_failure_of_all_servers_is_an_error_after_a_bounded_number_of_requests(
    server: Server, second: Server
) -> None:
    server.answers = second.answers = [503]
    [completion] = with_engine(lambda engine: queries(engine, 1), f"{server.url},{second.url}", max_retries=2)
    assert completion.finish_reason == "error"
    assert len(server.asked) + len(second.asked) == 5


def test_as_many_calls_are_in_flight_as_the_settings_allow(server: Server) -> None:
    together = most = 0
    body = json.dumps(message()).encode()
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    everyone = asyncio.Event()

    async def wait_for_the_others(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal together, most
        await reader.readuntil(b"\r\n\r\n")
        together += 1
        most = max(most, together)
        if most == 150:
            everyone.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(everyone.wait(), 10)
        together -= 1
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()

    async def work(engine: OpenAI) -> list[Completion]:
        async with await asyncio.start_server(wait_for_the_others, "127.0.0.1", 0, backlog=512) as slow:
            port = slow.sockets[0].getsockname()[1]
            engine._clients[0].base_url = f"http://127.0.0.1:{port}/v1"
            return await asyncio.gather(*(engine.generate(PROMPT, Sampling(), CALL) for _ in range(150)))

    completions = with_engine(work, server.url, concurrency=150)
    assert {c.text for c in completions} == {"[2] > [1]"}
    assert most == 150


def test_the_model_and_its_context_are_the_servers_where_not_said(server: Server) -> None:
    server.models = {"object": "list", "data": [{"id": "org/served", "object": "model", "max_model_len": 4096}]}

    async def work(engine: OpenAI) -> tuple[str, int | None]:
        await engine.generate(PROMPT, Sampling(), CALL)
        return engine.model.name, engine.max_model_len

    assert with_engine(work, server.url, model="auto") == ("org/served", 4096)
    assert server.asked[0]["model"] == "org/served"


def test_an_adapter_is_a_model_of_its_own_to_the_server(server: Server) -> None:
    server.models["data"] = [{"id": "base", "max_model_len": 100}, {"id": "m", "max_model_len": 200}]

    async def work(engine: OpenAI) -> int | None:
        return engine.max_model_len

    assert with_engine(work, server.url) == 200
    with pytest.raises(UsageError, match=r"lists 2 models: name one with --rerank\.model \(base, m\)"):
        with_engine(work, server.url, model="auto")


def started(server: Server, **flags: Any) -> Plan:
    """A plan of reasonrank after its engine has reached the server, which is closed again."""
    made = plan(*layers.load("reasonrank", {"engine": {"name": "openai", "base_url": server.url}, **flags}))

    async def run() -> None:
        try:
            await made.engines[0].start()
        finally:
            await made.engines[0].close()

    asyncio.run(run())
    return made


def test_a_served_context_without_room_for_a_question_is_refused(server: Server) -> None:
    server.models["data"][0]["max_model_len"] = 4096
    made = started(server)
    with pytest.raises(
        UsageError,
        match=r"^model m has a context of 4096 tokens, and reasonrank needs \d+ for a question and its answer",
    ):
        Session(made, MemoryStore())
    made = started(server, sampling={"max_tokens": 1024})
    Session(made, MemoryStore())
    assert made.parts[""].context == 4096


def test_a_context_that_is_known_beforehand_is_checked_beforehand() -> None:
    flags = {"engine": {"name": "openai"}, "model": "m", "max_model_len": 4096}
    with pytest.raises(UsageError, match="model m has a context of 4096 tokens"):
        plan(*layers.load("reasonrank", flags))


def test_a_known_checkpoint_that_auto_finds_is_to_be_named(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    server.models = {"data": [{"id": "liuwenhan/reasonrank-7B"}]}
    made = started(server)
    assert made.warnings == ()
    estimate, named = Session(made, MemoryStore()).warnings
    assert "no tokenizer.json of liuwenhan/reasonrank-7B (HF_HUB_OFFLINE is set)" in estimate
    assert named == (
        "the server serves liuwenhan/reasonrank-7B, known as reasonrank-7b; pass --rerank.model liuwenhan/reasonrank-7B to "
        "use its training prompt and settings"
    )


@pytest.mark.parametrize("served", ["its own name", "the folder"])
def test_a_folder_given_as_the_model_supplies_the_tokenizer(
    served: str, server: Server, tokenizer_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = str(tokenizer_file.parent)
    server.models = {"data": [{"id": "m" if served == "its own name" else folder, "max_model_len": 32768}]}
    made = started(server, model=folder)
    [part] = made.parts.values()
    assert part.tokens.exact
    assert Session(made, MemoryStore()).warnings == []
    assert part.context == 32768
    assert made.engines[0].model.source == ("m" if served == "its own name" else folder)


def test_a_folder_is_not_taken_for_one_of_several_models(server: Server, tokenizer_file: Path) -> None:
    server.models = {"data": [{"id": "a"}, {"id": "b"}]}
    made = started(server, model=str(tokenizer_file.parent))
    assert made.engines[0].model.source == str(tokenizer_file.parent)


def test_the_smallest_context_counts(server: Server, second: Server) -> None:
    server.models["data"][0]["max_model_len"], second.models["data"][0]["max_model_len"] = 8192, 4096

    async def context(max_model_len: int | None) -> int | None:
        engine = OpenAI(Model("m", "m", context=max_model_len), OpenAIOptions(base_url=f"{server.url},{second.url}"))
        try:
            await engine.start()
            return engine.max_model_len
        finally:
            await engine.close()

    assert [asyncio.run(context(n)) for n in (None, 6000, 2048)] == [4096, 4096, 2048]


@pytest.mark.parametrize("models", [404, 500, "<html>a web server</html>", {"data": []}, {}, [], "null"])
def test_a_server_without_a_model_list_can_serve(server: Server, models: Any) -> None:
    server.models = models
    assert ask(server).text == "[2] > [1]"


@pytest.mark.parametrize("models", [404, "<html>a web server</html>", {"data": []}, {}])
def test_but_then_the_model_must_be_named(server: Server, models: Any) -> None:
    server.models = models
    with pytest.raises(UsageError, match=r"name one with --rerank\.model"):
        ask(server, model="auto")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://127.0.0.1:1/v1", r"no server answers at .*--rerank\.engine\.base_url"),
        ("http://no.such.host.invalid/v1", r"no server answers at .*--rerank\.engine\.base_url"),
        ("127.0.0.1:1/v1", r"--rerank\.engine\.base_url '127\.0\.0\.1:1/v1' is not a URL"),
        ("nonsense", r"--rerank\.engine\.base_url 'nonsense' is not a URL"),
    ],
)
def test_a_server_that_is_down_is_named(url: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as error:
        with_engine(lambda engine: engine.generate(PROMPT, Sampling(), CALL), url)
    assert url.split("/", maxsplit=1)[0] in str(error.value)


def test_one_of_two_servers_that_is_down_at_the_start_is_a_warning(server: Server) -> None:
    async def work(engine: OpenAI) -> list[str]:
        assert {c.text for c in await queries(engine)} == {"[2] > [1]"}
        return engine.notices

    down = "no server answers at http://127.0.0.1:1/v1/: the other servers answer until it does"
    assert with_engine(work, f"http://127.0.0.1:1/v1, {server.url}") == [down]
    assert len(server.asked) == 10


def test_servers_that_are_all_down_are_an_error() -> None:
    with pytest.raises(UsageError, match=re.escape("no server answers at http://127.0.0.1:1/")):
        with_engine(queries, "http://127.0.0.1:1/v1, http://127.0.0.1:2/v1")


def test_a_refused_key_is_said(server: Server) -> None:
    server.models = 401
    with pytest.raises(UsageError, match="rejects the API key: set OPENAI_API_KEY"):
        ask(server)


def test_no_endpoint_and_no_key_is_said() -> None:
    with pytest.raises(UsageError, match="the openai engine has neither an endpoint nor a key") as error:
        with_engine(lambda engine: engine.generate(PROMPT, Sampling(), CALL), "")
    assert "--rerank.engine.base_url" in str(error.value)


def test_the_key_and_the_endpoint_may_come_from_the_environment(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    assert with_engine(lambda engine: engine.generate(PROMPT, Sampling(), CALL), "").text == "[2] > [1]"
    request, _ = server.http.log[-1]
    assert request.headers["Authorization"] == "Bearer secret"


def test_good_bad_and_no_answers_leave_nothing_open(server: Server) -> None:
    server.answers = [message(), 500, 400, "<html>", message()]

    async def work(engine: OpenAI) -> list[Completion]:
        return [await engine.generate(PROMPT, Sampling(), CALL) for _ in range(4)]

    with nothing_left_open():
        assert [c.finish_reason for c in with_engine(work, server.url)] == ["stop", "error", "error", "stop"]
        with pytest.raises(UsageError):
            with_engine(work, "http://127.0.0.1:1/v1")
        server.answers = [message()]
        texts = [c.text for c in with_engine(work, f"{server.url},http://127.0.0.1:1/v1")]
        assert texts == 4 * ["[2] > [1]"]


def test_cancelled_calls_leave_nothing_open(server: Server) -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def work(engine: OpenAI) -> None:
        async with await asyncio.start_server(hang, "127.0.0.1", 0) as silent:
            port = silent.sockets[0].getsockname()[1]
            engine._clients[0].base_url = f"http://127.0.0.1:{port}/v1"
            calls = [asyncio.create_task(engine.generate(PROMPT, Sampling(), CALL)) for _ in range(20)]
            await asyncio.sleep(0.1)
            for call in calls:
                call.cancel()
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(result) for result in results} == {asyncio.CancelledError}
            await engine.close()

    with nothing_left_open():
        with_engine(work, server.url)


def test_a_start_that_is_cancelled_leaves_nothing_open(server: Server) -> None:
    asked = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        asked.set()
        await reader.read()
        writer.close()
        await writer.wait_closed()

    async def run() -> None:
        async with await asyncio.start_server(hang, "127.0.0.1", 0) as silent:
            port = silent.sockets[0].getsockname()[1]
            engine = OpenAI(Model("m", "m"), OpenAIOptions(base_url=f"http://127.0.0.1:{port}/v1"))
            start = asyncio.create_task(engine.start())
            await asyncio.wait_for(asked.wait(), 30)
            start.cancel()
            await engine.close()
            with pytest.raises(asyncio.CancelledError):
                await start

    with nothing_left_open():
        asyncio.run(run())


def test_the_identity_is_the_models_and_not_the_servers(server: Server, second: Server) -> None:
    servers = [("a", server.url), ("a", second.url), ("b", server.url)]
    engines = [OpenAI(Model("m", name), OpenAIOptions(base_url=url)) for name, url in servers]
    first, other_server, other_model = (engine.identity(CALL) for engine in engines)
    assert first == other_server != other_model


def test_one_engine_serves_one_run_after_another(server: Server) -> None:
    engine = OpenAI(Model("m", "m"), OpenAIOptions(base_url=server.url))

    async def run() -> set[str]:
        await engine.start()
        try:
            return {(await engine.generate(PROMPT, Sampling(), CALL)).text for _ in range(3)}
        finally:
            await engine.close()

    assert asyncio.run(run()) == asyncio.run(run()) == {"[2] > [1]"}
