"""Whole runs over odd answers: each is read right, or counted as unreadable and the order shown is kept."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import RunReranker
from pytest_httpserver import HTTPServer
from werkzeug import Request as HTTPRequest
from werkzeug import Response

from pyserini_reasonrank.ir.metadata import RunRecord
from pyserini_reasonrank.ir.runs import read_run
from pyserini_reasonrank.records import Candidate, Query, Request

ORDER, SHOWN = "d3 d1 d5 d2 d4", "d1 d2 d3 d4 d5"
CHAIN = "[3] > [1] > [5] > [2] > [4]"
TEXTS = ["The lamp is bright.", "Moths are insects.", "Moths steer by light.", "A lamp needs oil.", "Light is a wave."]


def requests(n: int) -> list[Request]:
    candidates = tuple(Candidate(f"d{i}", 10.0 - i, text) for i, text in enumerate(TEXTS, 1))
    return [Request(Query(f"q{i + 1}", "why do moths fly to a lamp"), candidates, i) for i in range(n)]


def orders(outcome: RunRecord) -> list[str]:
    return [" ".join(hit.docid for hit in hits) for _, hits in sorted(read_run(outcome.output).items())]


def replayed(run: RunReranker, folder: Path, reranker: str, answers: Sequence[str]) -> RunRecord:
    """The run of ``reranker`` with one recorded answer a query."""
    path = folder / "answers.jsonl"
    lines = [{"qid": f"q{i}", "call": 0, "response": answer} for i, answer in enumerate(answers, 1)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run(reranker, {"engine": {"name": "recorded", "path": str(path)}}, requests(len(answers)))


def served(run: RunReranker, http: HTTPServer, reranker: str, chat: Any, **flags: Any) -> RunRecord:
    """The run of ``reranker`` over one query, answered by a server; ``chat`` makes a message of a request."""

    def respond(request: HTTPRequest) -> Response:
        made = chat(request.get_json())
        if isinstance(made, Response):
            return made
        choice = {"message": {"role": "assistant", **made.pop("message", made)}, "finish_reason": "stop", **made}
        return Response(json.dumps({"choices": [choice]}), mimetype="application/json")

    models = {"object": "list", "data": [{"id": "served", "object": "model"}]}
    http.expect_request("/v1/models").respond_with_json(models)
    http.expect_request("/v1/chat/completions", method="POST").respond_with_handler(respond)
    engine = {"name": "openai", "base_url": http.url_for("/v1"), "max_retries": 0, **flags.pop("engine", {})}
    return run(reranker, {"engine": engine, "model": "served", **flags}, requests(1))


def test_a_list_in_one_pair_of_brackets_with_words_around_it(run_reranker: RunReranker, tmp_path: Path) -> None:
    listed = "[3, 1, 5, 2, 4]"
    answers = [
        listed,
        f"Ranking: {listed}",
        f"```json\n{listed}\n```",
        f'{{"ranking": {listed}}}',
        f"{listed}\n\nMost relevant first.",
    ]
    outcome = replayed(run_reranker, tmp_path, "rankgpt", answers)
    assert orders(outcome) == [ORDER] * 5
    assert outcome.tally.statuses == {"ok": 5}


def test_an_answer_tag_that_the_thought_quotes(
    run_reranker: RunReranker, tmp_path: Path, httpserver: HTTPServer
) -> None:
    quotes = ["[1] > [2] > [3] > [4] > [5]", "[2] > [1]", " "]
    answers = [f"<think>Like <answer>{quote}</answer>. The third is best.</think>\n{CHAIN}" for quote in quotes]
    answers.append(f"<think>Like <answer>[2] > [1]</answer>.</think>\n<answer>{CHAIN}</answer>")
    assert orders(replayed(run_reranker, tmp_path, "reasonrank", answers)) == [ORDER] * 4
    separated = {"content": CHAIN, "reasoning_content": "Like <answer> [2] > [1] </answer>. The third is best."}
    outcome = served(run_reranker, httpserver, "reasonrank", lambda body: dict(separated), overwrite=True)
    assert orders(outcome) == [ORDER]


def test_grades_on_other_scales(run_reranker: RunReranker, tmp_path: Path) -> None:
    grades = [
        (7, 3, 10, 0, 2),
        (70, 30, 100, 0, 20),
        ("7/10", "3/10", "10/10", "0/10", "2/10"),
        (2, 1, 5, -3, 0),
        ("70%", "30%", "100%", "0%", "20%"),
    ]
    lines = ["\n".join(f"[{i}] {grade}" for i, grade in enumerate(row, 1)) for row in grades]
    answers = [f"<think>x</think>\n<answer>{line}</answer>" for line in lines]
    outcome = replayed(run_reranker, tmp_path, "grouprank", answers)
    by_grade = "d3 d1 d2 d5 d4"
    assert orders(outcome) == [by_grade, SHOWN, by_grade, SHOWN, by_grade]
    assert outcome.tally.statuses == {"ok": 3, "empty": 2}


@pytest.mark.parametrize(
    ("message", "status"),
    [
        ({"content": None, "reasoning": f"The third is best.\n{CHAIN}"}, "repaired"),
        (
            {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "The third."}]},
                         {"type": "text", "text": CHAIN}]}, "ok",
        ),
        ({"content": [{"type": "text", "text": CHAIN}]}, "ok"),
    ],
)  # fmt: skip
def test_messages_of_reasoning_servers(
    run_reranker: RunReranker, httpserver: HTTPServer, message: Mapping[str, Any], status: str
) -> None:
    outcome = served(run_reranker, httpserver, "rankgpt", lambda body: dict(message))
    assert orders(outcome) == [ORDER]
    assert outcome.tally.statuses == {status: 1}


@pytest.mark.parametrize(
    "flags",
    [
        {},
        {"sampling": {"temperature": 1, "max_completion_tokens": 4000}},
        {"sampling": {"temperature": 1, "max_tokens": None}},
        {"engine": {"rename": {"max_tokens": "max_completion_tokens"}, "drop": ["temperature", "top_p"]}},
    ],
)
def test_a_model_that_takes_other_parameters(
    run_reranker: RunReranker, httpserver: HTTPServer, flags: dict[str, Any]
) -> None:
    def chat(body: Mapping[str, Any]) -> Any:
        for name in ("max_tokens", "top_p", "temperature"):
            if name in body and (name != "temperature" or body[name] != 1):
                error = {"message": f"Unsupported parameter: '{name}' is not supported with this model.", "param": name}
                return Response(json.dumps({"error": error}), 400, mimetype="application/json")
        return {"content": CHAIN}

    outcome = served(run_reranker, httpserver, "rankgpt", chat, **flags)
    assert orders(outcome) == [ORDER]
    assert outcome.tally.statuses == {"ok": 1}


@pytest.mark.parametrize("missing", [None, {"content": []}, {"content": [{"token": "true", "top_logprobs": None}]}])
def test_a_passage_without_log_probabilities_is_counted_and_the_others_are_ranked(
    run_reranker: RunReranker, httpserver: HTTPServer, missing: Any
) -> None:
    def chat(body: Mapping[str, Any]) -> dict[str, Any]:
        shown = json.dumps(body["messages"])
        p = next((0.1 * i for i, text in enumerate(TEXTS, 1) if text in shown), 0.0)
        top = [{"token": "true", "logprob": -1 / p}, {"token": "false", "logprob": -0.5}]
        logprobs = missing if TEXTS[2] in shown else {"content": [{"token": "true", "top_logprobs": top}]}
        return {"message": {"content": "true"}, "logprobs": logprobs}

    flags = {"engine": {"continue_final_message": True}, "judge": {"think": False}}
    outcome = served(run_reranker, httpserver, "rank1", chat, **flags)
    assert [docid for docid in orders(outcome)[0].split() if docid != "d3"] == ["d5", "d4", "d2", "d1"]
    assert outcome.tally.statuses == {"ok": 4, "empty": 1}
