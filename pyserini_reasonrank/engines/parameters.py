"""The names of request parameters: which a server or a model refuses, and what is sent instead.

Models that reason (OpenAI's o1 and later) take ``max_completion_tokens`` for ``max_tokens`` and refuse ``temperature`` and
``top_p``. Settings map or drop names; known models need no setting; a refusal (400) that names a parameter teaches it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_OFFICIAL = "api.openai.com"
_REASONING_MODELS = re.compile(r"(?:o\d|gpt-[5-9])(?!.*chat)")
_RENAMED = {"max_tokens": "max_completion_tokens"}
_DROPPED = ("temperature", "top_p")
_OPTIONAL = (
    *_DROPPED, "top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty", "repeat_penalty", "seed",
)  # fmt: skip
"""Parameters without which a request can be answered all the same."""
_REFUSED = re.compile(
    r"unsupported|(?:not|n't) support|unrecognized|unexpected|unknown|not permitted|deprecated", re.IGNORECASE
)
_INSTEAD = re.compile(r"use [\"'`](\w+)[\"'`] instead", re.IGNORECASE)


class Parameters:
    """The names under which the parameters of a request are sent, for one model."""

    def __init__(self, rename: Mapping[str, str], drop: Sequence[str]) -> None:
        self._rename, self._drop = dict(rename), set(drop)

    def know(self, url: str, model: str) -> None:
        """Add what is known of OpenAI's own models. Settings come first."""
        if _OFFICIAL in url and _REASONING_MODELS.match(model):
            self._rename = _RENAMED | self._rename
            self._drop |= set(_DROPPED) - self._rename.keys()

    def named(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the body of a request with these names. A parameter that is set under the other name keeps that value."""
        if not self._rename and not self._drop:
            return dict(body)
        kept = {name: value for name, value in body.items() if name not in self._drop}
        renamed = {self._rename[name]: kept.pop(name) for name in list(kept) if name in self._rename}
        return renamed | kept

    def learn(self, sent: Mapping[str, Any], refusal: Any) -> str:
        """Learn from a refusal, the body of an error response, which of the parameters ``sent`` the server does not take.

        Returns what is sent from now on, as a sentence; "" if the refusal names no parameter that can be left out.
        """
        refusal = refusal if isinstance(refusal, Mapping) else {"message": refusal}
        message = str(refusal.get("message") or refusal)
        if not (_REFUSED.search(message) or str(refusal.get("code")).startswith("unsupported")):
            return ""
        named = [name for name in (*_RENAMED, *_OPTIONAL) if name in sent and _names(message, name)]
        name = refusal["param"] if refusal.get("param") in named else next(iter(named), "")
        instead = _INSTEAD.search(message)
        other = instead[1] if instead else _RENAMED.get(name, "")
        if name and other and other not in sent:
            self._rename[name] = other
            return f"the server refuses {name}: {other} is sent instead"
        if name:
            self._drop.add(name)
            return f"the server refuses {name}: it is not sent, and the server's default applies"
        return ""


def _names(message: str, name: str) -> bool:
    return re.search(rf"(?<![\w.]){name}(?!\w)", message) is not None
