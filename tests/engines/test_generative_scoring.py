"""Judges of two answers over a server with vLLM's /tokenize and /generative_scoring: a stub here, vLLM in `make soak`."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import exp, log
from pathlib import Path
from typing import Any

import pytest
from conftest import RunReranker
from pytest_httpserver import HTTPServer
from werkzeug import Request as HTTPRequest
from werkzeug import Response

from pyserini_reasonrank.engines.openai import OpenAI, OpenAIOptions
from pyserini_reasonrank.journal_reader import read_answers
from pyserini_reasonrank.models.catalogue import Model
from pyserini_reasonrank.records import Call, Candidate, Completion, Message, Prompt, Query, Request, Sampling

MARK = "certainly"
SHORT = {"judge": {"think": False}, "sampling": {"max_tokens": 64}}
TWO = Sampling(choices=("true", "false"), max_tokens=1)


@dataclass
class VLLM:
    """A stub: words and single other characters are tokens; a prompt with ``MARK`` is true with a probability of 0.9."""

    http: HTTPServer
    context: int = 4096
    broken: Mapping[str, int] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    words: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        model = {"id": "m", "object": "model", "owned_by": "vllm", "max_model_len": self.context}
        self.http.expect_request("/v1/models").respond_with_json({"object": "list", "data": [model]})
        for path, answer in (
            ("/tokenize", self._tokenize),
            ("/generative_scoring", self._score),
            ("/v1/chat/completions", self._chat),
        ):
            self.http.expect_request(path, method="POST").respond_with_handler(self._handler(path, answer))

    def requests(self, path: str) -> list[dict[str, Any]]:
        return [body for where, body in self.asked if where == path]

    def _handler(self, path: str, answer: Any) -> Any:
        def handle(request: HTTPRequest) -> Response:
            body = request.get_json()
            self.asked.append((path, body))
            if status := self.broken.get(path):
                return Response(json.dumps({"error": {"message": "no"}}), status, mimetype="application/json")
            return Response(json.dumps(answer(body)), mimetype="application/json")

        return handle

    def _tokens(self, text: str) -> list[int]:
        return [self.words.setdefault(word, len(self.words)) for word in re.findall(r"\w+|\W", text)]

    def _tokenize(self, body: Mapping[str, Any]) -> dict[str, Any]:
        text = "".join(f"<{m['role']}>{m['content']}" for m in body["messages"])
        assert body["add_generation_prompt"] != body.get("continue_final_message", False)
        tokens = self._tokens(text + "<assistant>" * body["add_generation_prompt"])
        return {"count": len(tokens), "max_model_len": self.context, "tokens": tokens}

    def _score(self, body: Mapping[str, Any]) -> dict[str, Any]:
        assert body["label_token_ids"] == [self.words["true"], self.words["false"]]
        assert body["apply_softmax"] is True
        prompts = [[*body["query"], *item] for item in body["items"]]
        data = [{"index": i, "score": 0.9 if self.words.get(MARK) in p else 0.25} for i, p in enumerate(prompts)]
        return {"object": "list", "data": data[::-1], "usage": {"prompt_tokens": sum(map(len, prompts))}}

    def _chat(self, body: Mapping[str, Any]) -> dict[str, Any]:
        top = [{"token": token, "logprob": log(p)} for token, p in (("true", 0.6), ("false", 0.2))]
        content = [{"token": "true", "logprob": log(0.6), "top_logprobs": top}]
        message = {"message": {"content": "true"}, "finish_reason": "stop", "logprobs": {"content": content}}
        return {"choices": [message], "usage": {"prompt_tokens": 9, "completion_tokens": 1}}


@pytest.fixture
def vllm(httpserver: HTTPServer) -> VLLM:
    return VLLM(httpserver)


def prompt(passage: str, prefill: str = "\n<answer>") -> Prompt:
    return Prompt((Message("user", f"Is this relevant? Query: q Passage: {passage}"),), prefill)


def ask(vllm: VLLM, prompts: Sequence[Prompt], sampling: Sampling = TWO, **options: Any) -> list[Completion]:
    """The answers to prompts of one query, asked at once."""

    async def run() -> list[Completion]:
        settings = {"continue_final_message": True, "max_retries": 0, **options}
        engine = OpenAI(Model("m", "m"), OpenAIOptions(base_url=vllm.http.url_for("/v1"), **settings))
        call = Call("q", 0, ("d",), lambda gains: "", lambda gains, choices: {})
        try:
            await engine.start()
            found = await asyncio.gather(*(engine.generate(p, sampling, call) for p in prompts))
            notices.extend(engine.notices)
            return list(found)
        finally:
            await engine.close()

    notices: list[str] = []
    completions = asyncio.run(run())
    vllm.asked += [("notice", {"text": notice}) for notice in notices]
    return completions


def true_shares(completions: Sequence[Completion]) -> list[float]:
    return [round(exp(c.choices["true"]) / sum(map(exp, c.choices.values())), 6) for c in completions]


def test_the_passages_of_a_query_are_scored_in_one_request(vllm: VLLM) -> None:
    completions = ask(vllm, [prompt(f"{MARK if i % 2 else 'hardly'} {i}") for i in range(20)])
    assert true_shares(completions) == 10 * [0.25, 0.9]
    assert len(vllm.requests("/generative_scoring")) == 1
    assert vllm.requests("/v1/chat/completions") == []
    assert len(vllm.requests("/tokenize")) == 22  # the prompts, and once the two answers
    sent = vllm.requests("/generative_scoring")[0]
    assert len(sent["query"]) == 18  # what all prompts share is sent once
    assert {len(item) for item in sent["items"]} == {10}
    assert {(c.output_tokens, c.error) for c in completions} == {(1, None)}
    assert {c.prompt_tokens for c in completions} == {len(sent["query"]) + 10}


def test_a_prompt_without_a_prefill_ends_in_the_header_of_the_answer(vllm: VLLM) -> None:
    assert true_shares(ask(vllm, [prompt(MARK, prefill="")])) == [0.9]
    assert vllm.requests("/tokenize")[0]["add_generation_prompt"] is True


@pytest.mark.parametrize("status", [404, 405, 501])
def test_a_server_without_the_endpoint_is_asked_for_the_likeliest_tokens(vllm: VLLM, status: int) -> None:
    vllm.broken = {"/generative_scoring": status}
    completions = ask(vllm, [prompt(MARK), prompt("hardly")])
    assert true_shares(completions) == [0.75, 0.75]
    assert len(vllm.requests("/v1/chat/completions")) == 2
    assert vllm.requests("notice") == []


@pytest.mark.parametrize("path", ["/tokenize", "/generative_scoring"])
def test_an_endpoint_that_fails_is_a_warning_and_not_asked_again(vllm: VLLM, path: str) -> None:
    vllm.broken = {path: 500}
    assert true_shares(ask(vllm, [prompt(MARK)])) == [0.75]
    [notice] = vllm.requests("notice")
    assert re.fullmatch(
        r"/generative_scoring of the server failed \(.+\): answers are read from .* tokens", notice["text"]
    )


@pytest.mark.parametrize(
    ("choices", "prefill"), [(("true", "not true"), "\n"), (("yes", "no", "maybe"), "\n"), (("s", "t"), "one word")]
)
def test_answers_that_are_not_two_tokens_are_read_from_the_likeliest(
    vllm: VLLM, choices: tuple[str, ...], prefill: str
) -> None:
    ask(vllm, [prompt(MARK, prefill)], Sampling(choices=choices, max_tokens=1))
    assert vllm.requests("/generative_scoring") == []
    assert vllm.requests("/v1/chat/completions")
    assert vllm.requests("notice") == []


def test_a_prompt_beyond_the_context_is_not_scored_since_the_server_would_cut_it(vllm: VLLM) -> None:
    vllm.context = 20
    ask(vllm, [prompt(MARK)])
    assert vllm.requests("/generative_scoring") == []
    assert len(vllm.requests("/v1/chat/completions")) == 1


def test_the_setting_turns_it_off(vllm: VLLM) -> None:
    assert true_shares(ask(vllm, [prompt(MARK)], generative_scoring=False)) == [0.75]
    assert vllm.requests("/tokenize") == []


def test_a_run_counts_and_records_each_call(vllm: VLLM, run_reranker: RunReranker) -> None:
    texts = ["hardly", f"it is {MARK} so", "no", f"{MARK} too"]
    requests = [
        Request(
            Query(f"q{n}", f"what {n}"), tuple(Candidate(f"d{i}", 9.0 - i, text) for i, text in enumerate(texts)), n
        )
        for n in range(3)
    ]
    engine = {"name": "openai", "base_url": vllm.http.url_for("/v1"), "continue_final_message": True}
    record = run_reranker("rank1", {"model": "m", "engine": engine, **SHORT}, requests)
    assert len(vllm.requests("/generative_scoring")) == 3
    assert vllm.requests("/v1/chat/completions") == []
    assert record.tally.calls == record.tally.judgements == 12
    assert len(read_answers(record.journal)) == 12
    ranked = [line.split()[2] for line in Path(record.output).read_text(encoding="utf-8").splitlines()]
    assert ranked == 3 * ["d1", "d3", "d0", "d2"]
