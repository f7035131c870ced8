"""What servers of each type take beyond OpenAI's own parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_PENALTIES = {"presence_penalty": 0.0, "frequency_penalty": 0.0}
NEUTRAL: Mapping[str, Mapping[str, Any]] = {
    "vllm": {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, **_PENALTIES},
    "sglang": {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, **_PENALTIES},
    "llamacpp": {"top_k": 0, "min_p": 0.0, "repeat_penalty": 1.0, **_PENALTIES},
}
"""Neutral sampling values by server type. A server takes values that are not sent from the model's generation_config.json or
from its own defaults. Other servers may reject parameters they do not know."""
PATTERN: Mapping[str, Callable[[str], dict[str, Any]]] = {
    "vllm": lambda pattern: {"structured_outputs": {"regex": pattern}},
    "sglang": lambda pattern: {"regex": pattern},
}
"""The fields of a request whose answer has to match a regular expression."""


def heeds(kind: str, argument: str) -> bool:
    """Whether a server of this type accepts the chat template argument in a request; llama.cpp rejects a whole template."""
    return kind in NEUTRAL and not (kind == "llamacpp" and argument == "chat_template")


def for_template(kind: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the chat template arguments as request fields; vLLM has a separate field for a whole template."""
    rest = dict(arguments)
    whole = {"chat_template": rest.pop("chat_template")} if kind == "vllm" and "chat_template" in rest else {}
    return whole | ({"chat_template_kwargs": rest} if rest else {})
