"""Rewrite a query for the search: a thought and a text, which is the query that is searched.

It is not a judge of candidates, so no strategy calls it and the registry does not list it; ``run/rewriting`` does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from pyserini_reasonrank.judges.written import Written
from pyserini_reasonrank.parsing import unanswered
from pyserini_reasonrank.parsing.parts import OPEN_ANSWER, parts_of, split
from pyserini_reasonrank.records import Completion, Judgement, Status

ANSWER_TOKENS = 400
"""Tokens of a query that is decoded after its thought was closed: about 200 words and some more."""
_LABEL = re.compile(
    r"\A[\s*#]*(?:(?:rewritten|revised|expanded|final|search|the|your|new) )*(?:query|answer|keywords|passage|output)"
    r"[\s*]*:[\s*]*",
    re.IGNORECASE,
)
_FENCE = re.compile(r"^\s*```.*$", re.MULTILINE)
_QUOTES = {'"': '"', "'": "'", "\u201c": "\u201d", "`": "`"}


class Rewrite(Written):
    """Asks for a query and reads it. Shown are no passages, or the top passages of an earlier search."""

    kind = "rewrite"

    class Options(Written.Options):
        shuffle: Literal[False] = False
        votes: Literal[1] = 1
        constrain: Literal[False] = False

    begins = ""  # any text is a query

    def read(self, completion: Completion, n: int) -> Judgement:
        """Read a query; ``text`` is on one line. A bad status, and no text, if there is none."""
        shown = tuple(range(n))
        if bad := unanswered(completion):
            return Judgement(shown, bad, detail=completion.error or "")
        cut = completion.finish_reason == "length"
        parts = parts_of(completion, tags=True) if self.options.tags else split(completion.text)
        if parts.answer is None:
            return Judgement(shown, Status.TRUNCATED, parts.reasoning, detail="the thought was cut")
        text = cleaned(parts.answer)
        if not any(character.isalnum() for character in text):
            return Judgement(shown, Status.EMPTY, parts.reasoning, detail="the answer has no word")
        faults = [
            *(["no answer tag"] if self.options.tags and not parts.tagged else []),
            *([parts.note] if parts.note else []),
            *(["the answer was cut at the token limit"] if cut and "</answer>" not in completion.text else []),
        ]
        status = Status.REPAIRED if faults else Status.OK
        return Judgement(shown, status, parts.reasoning, detail=", ".join(faults), text=text)

    def answer_tokens(self, n: int) -> int:
        return ANSWER_TOKENS

    def pattern(self, n: int) -> str:
        return ""

    def ideal(self, gains: Sequence[float]) -> str:
        return ""

    def unchanged(self, query: str) -> str:
        """Return the completion that keeps ``query``, which engines without a model give."""
        return self.written("The query can stay as it is.", query)

    def unmoved(self, indices: Sequence[int]) -> str:
        return ""

    @staticmethod
    def outcome(judgement: Judgement, indices: Sequence[int]) -> str:
        """Return the query, "" if there is none."""
        return judgement.text

    @staticmethod
    def agreed(outcomes: Sequence[str], indices: Sequence[int]) -> str:
        """Return the first query."""
        return next(filter(None, outcomes), "")


def cleaned(answer: str) -> str:
    """Return an answer on one line, without a label ("Query:"), a code fence or quotation marks around it."""
    text = " ".join(_FENCE.sub(" ", answer.replace(OPEN_ANSWER, " ")).split())
    text = _LABEL.sub("", text)
    if len(text) > 1 and _QUOTES.get(text[0]) == text[-1] and text[-1] not in text[1:-1]:
        text = text[1:-1]
    return text.strip()
