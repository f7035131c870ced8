"""Chat completions as servers write them: from a response's JSON to a Completion.

Servers differ in where they put the reasoning (``reasoning``, ``reasoning_content``, ``thinking``, chunks of the content) and
in what they leave out. Whatever is not a chat completion becomes an error, never text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from math import exp
from typing import Any

from pyserini_reasonrank.parsing.parts import joined
from pyserini_reasonrank.records import Completion

_REASONING = ("reasoning", "reasoning_content", "thinking")
_THINKING_CHUNKS = ("thinking", "reasoning", "reasoning_text")
_TEXT_CHUNKS = ("text", "output_text")
_MOST_CHARACTERS = 300  # of a message in an error
_MOST_TOKENS = 2**53


def read_reply(body: bytes, seconds: float) -> Completion:
    """Return the completion in the body of a response; an error for anything else."""
    try:
        return _completion(json.loads(body), seconds)
    except (ValueError, TypeError, RecursionError):
        what = one_line(f"the server's answer is not a chat completion: {body.decode(errors='replace')}")
        return Completion(finish_reason="error", error=what, seconds=seconds)


def one_line(text: str) -> str:
    """Return the beginning of a message, on one line and in valid Unicode."""
    return _valid(" ".join(text[: 2 * _MOST_CHARACTERS].split())[:_MOST_CHARACTERS])


def _completion(data: Any, seconds: float) -> Completion:
    """Return the completion in the JSON of a response. TypeError if it does not have the form of one."""
    data = _mapping(data)
    usage = data.get("usage")
    read, written = (_count(usage, name) for name in ("prompt_tokens", "completion_tokens"))
    details = usage.get("prompt_tokens_details") if isinstance(usage, dict) else None
    cached = min(_count(details, "cached_tokens"), read)
    choices = data.get("choices")
    if not choices:
        what = one_line(f"the server answered without choices: {data}")
        return Completion("", "error", read, written, seconds, error=what)
    if not isinstance(choices, list):
        raise TypeError("choices are not a list")
    choice = _mapping(choices[0])
    message = _mapping(choice.get("message") or {})
    thought, text = _parts(message)
    finish = choice.get("finish_reason")
    if thought:
        text = joined(thought, text, cut=finish == "length" and not text)
    if message.get("refusal") or finish == "content_filter":
        finish = "refusal"
    finish = finish if finish in ("length", "refusal") else "stop"
    likely = _alternatives(choice.get("logprobs"))
    return Completion(_valid(text), finish, read, written, seconds, likely, cached_tokens=cached)


def _parts(message: Mapping[str, Any]) -> tuple[str, str]:
    """Return the reasoning and the answer of a message. TypeError if its content is not text or chunks."""
    content = message.get("content")
    if not (content is None or isinstance(content, str | list)):
        raise TypeError("the content is neither text nor chunks")
    chunks = [content] if isinstance(content, str) else content or []
    text = "".join(_text_of(chunk) for chunk in chunks if _kind(chunk) in _TEXT_CHUNKS)
    thoughts = ["".join(_texts(message.get(name))) for name in _REASONING]
    thoughts += ["".join("".join(_texts(chunk)) for chunk in chunks if _kind(chunk) in _THINKING_CHUNKS)]
    return next(filter(None, thoughts), ""), text


def _kind(chunk: Any) -> str:
    """Return the type of a chunk of the content; "" for a chunk that is unknown."""
    if isinstance(chunk, str):
        return "text"
    kind = chunk.get("type") if isinstance(chunk, dict) else None
    return kind if isinstance(kind, str) else ""


def _text_of(chunk: Any) -> str:
    text = chunk if isinstance(chunk, str) else chunk.get("text")
    return text if isinstance(text, str) else ""


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts in a reasoning field: a text, or nested lists and chunks with texts."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            waiting += reversed(value)
        elif isinstance(value, dict):
            waiting += [
                value[name] for name in ("summary", "content", "text", "thinking", "reasoning") if name in value
            ]


def _alternatives(logprobs: Any) -> dict[str, float]:
    """Return the probabilities of the likeliest first tokens; {} if the server does not report them."""
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    first = content[0] if isinstance(content, list) and content else None
    likely = first.get("top_logprobs") if isinstance(first, dict) else None
    found: dict[str, float] = {}
    for token in likely if isinstance(likely, list) else []:
        if isinstance(token, dict) and isinstance(token.get("token"), str):
            logprob = token.get("logprob")
            if isinstance(logprob, int | float) and not isinstance(logprob, bool):
                text = _valid(token["token"])
                found[text] = found.get(text, 0.0) + exp(min(logprob, 0))
    return found


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise TypeError("not an object")
    return value


def _count(usage: Any, name: str) -> int:
    count = usage.get(name) if isinstance(usage, dict) else None
    return min(max(count, 0), _MOST_TOKENS) if isinstance(count, int) else 0


def _valid(text: str) -> str:
    """Return a text that can be encoded: JSON can contain half a surrogate pair."""
    return text.encode(errors="replace").decode()
