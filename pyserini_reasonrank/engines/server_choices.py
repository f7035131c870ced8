"""Log-probabilities of given answers from a server: vLLM's scoring of two answers, else the likeliest next tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from pyserini_reasonrank.engines.chat_requests import ChatRequests
from pyserini_reasonrank.engines.generative_scoring import SCORE, GenerativeScoring, Unavailable
from pyserini_reasonrank.engines.http_client import RequestFailed
from pyserini_reasonrank.engines.next_tokens import ChoiceMass, continued, of_one_token
from pyserini_reasonrank.engines.replies import one_line
from pyserini_reasonrank.records import Completion, Prompt, Sampling

_ABSENT = (404, 405, 501)
"""The statuses of a path that a server does not have."""


class ServerChoices:
    """Answers questions with ``choices``. ``always`` are the parameters of every chat completion.

    ``scoring`` is None for a server without ``/generative_scoring``; ``notice`` is called with a sentence if it fails.
    """

    def __init__(
        self,
        requests: ChatRequests,
        always: Mapping[str, Any],
        top_logprobs: int,
        scoring: GenerativeScoring | None,
        notice: Callable[[str], None],
    ) -> None:
        self._requests, self._always, self._notice = requests, always, notice
        self._top_logprobs = top_logprobs
        self._scoring, self._scores = scoring, scoring is not None

    async def ask(self, prompt: Prompt, sampling: Sampling, qid: str) -> Completion:
        """Return log-probabilities of the choices from the top next tokens; read two tokens where one is ambiguous.

        There are none if the server reports none, or too few to know those of the choices.
        """
        if (scored := await self._scored(prompt, sampling, qid)) is not None:
            return scored
        found = await self._next_tokens(prompt, sampling, qid)
        if found.error is not None:
            return found
        tokens, choices = found.choices, sampling.choices
        if sampling.one_token:
            return replace(found, choices=of_one_token(tokens, choices))
        mass = ChoiceMass(tokens, choices)
        for short, long in continued(choices):
            further = await self._next_tokens(prompt.begun(prompt.prefill + short), sampling, qid)
            if further.error is not None:
                return further
            if not mass.divide(short, long, further.choices):
                return replace(found, choices={})
        return replace(found, choices=mass.logs())

    async def _scored(self, prompt: Prompt, sampling: Sampling, qid: str) -> Completion | None:
        """Return the answer of vLLM's /generative_scoring; None if the server does not have it, or not for these choices."""
        if self._scoring is None or not self._scores or not self._scoring.takes(sampling):
            return None
        try:
            return await self._scoring.score(qid, prompt, sampling.choices)
        except Unavailable:
            return None
        except (RequestFailed, KeyError, TypeError, ValueError, RecursionError) as error:
            if getattr(error, "status", None) not in _ABSENT:
                problem = f"{SCORE} of the server failed ({one_line(str(error) or type(error).__name__)})"
                self._notice(f"{problem}: answers are read from the likeliest next tokens")
            self._scores = False
            return None

    async def _next_tokens(self, prompt: Prompt, sampling: Sampling, qid: str) -> Completion:
        """Return a completion whose ``choices`` are the probabilities (not logs) of the likeliest next tokens."""
        wanted = {"temperature": 0.0, "max_tokens": 1, "logprobs": True, "top_logprobs": self._top_logprobs}
        return await self._requests.chat(prompt, {**self._always, **wanted, **sampling.extra}, qid)
