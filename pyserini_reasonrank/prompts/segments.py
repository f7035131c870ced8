"""Long documents in segments: overlapping windows of tokens that begin and end at sentences, and the join of their scores.

FirstP, MaxP (Dai and Callan, arXiv 1905.09217) and the mean of the best two. The number of segments depends on the number of
tokens only, so that the cost of a run is known from the lengths of its documents.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from statistics import fmean
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from pyserini_reasonrank.prompts.tokens import Tokens

_SENTENCE_END = re.compile(r"[.!?]+[\"'”’)\]]*\s+(?![a-z\s])|[。！？]+[\"”’」』）]*\s*|\s*\n\s*(?!\s)")
"""The end of a sentence or of a line, with the blanks after it."""
_OF_A_CHARACTER = 8
"""More tokens than a character has in most tokenizers: 4 bytes of UTF-8."""


class Segments(BaseModel):
    """The settings ``--rerank.segments.NAME``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tokens: Annotated[
        int, Field(ge=8, description="tokens of each segment, beside the title, which all segments have")
    ] = 256
    stride: Annotated[
        int | None,
        Field(
            ge=1,
            description="tokens from the beginning of a segment to that of the next, at most tokens [half of them]",
        ),
    ] = None
    most: Annotated[
        int, Field(ge=1, description="segments of a document to judge; the text after them is not read")
    ] = 8
    join: Annotated[
        Literal["max", "first", "mean-top-2"],
        Field(description="score of a document: max: of its best segment (MaxP); first: of its first one (FirstP), the only "
              "one that is judged; mean-top-2: mean of its best two"),
    ] = "max"  # fmt: skip

    @property
    def step(self) -> int:
        """The stride in tokens."""
        return self.stride or max(self.tokens // 2, 1)

    @property
    def judged(self) -> int:
        """The most segments of a document that are judged."""
        return 1 if self.join == "first" else self.most

    @property
    def shown_tokens(self) -> int:
        """The most tokens of a segment with its title and the other fields that a passage template shows."""
        return self.tokens + self.tokens // 2

    @property
    def field_tokens(self) -> int:
        """The most tokens of the title, and of each other field beside the text."""
        return max(self.tokens // 4, 1)

    def count(self, tokens: int) -> int:
        """The number of segments of a text of ``tokens`` tokens that are judged."""
        return min(self.judged, 1 + -(-max(0, tokens - self.tokens) // self.step))

    def joined(self, scores: Sequence[float | None]) -> float | None:
        """The score of a document from those of its segments; None if none of them could be read."""
        known = sorted((score for score in scores if score is not None), reverse=True)
        if not known:
            return None
        return fmean(known[:2]) if self.join == "mean-top-2" else known[0]


def spans(text: str, tokens: Tokens, options: Segments) -> list[tuple[int, int]]:
    """Begin and end, in characters of ``text``, of the segments that are judged: ``options.count`` of its tokens.

    Each has at most ``options.tokens`` tokens; those of its first character count as one. There is no text between two
    segments that is in none of them. A segment begins at a sentence if one begins in what the strides leave of the segment
    before it, and ends at one likewise; otherwise at a token.
    """
    size, step = options.tokens, options.step
    read = size + options.judged * step + _OF_A_CHARACTER
    starts = tokens.starts(text, read)
    count = options.count(len(starts))
    end = len(text) if len(starts) < read else starts[-1]

    def at(token: int) -> int:
        return starts[token] if token < len(starts) else end

    places = [found.end() for found in _SENTENCE_END.finditer(text, 0, at(len(starts) - 1) if starts else 0)]
    begins = [0]
    for nominal in range(step, count * step, step):
        place = bisect_left(places, at(nominal))
        latest = min(at(nominal + size - step), at(nominal + step) - 1)
        at_sentence = place < len(places) and places[place] <= latest
        begins.append(places[place] if at_sentence else at(nominal))
    found = []
    for number, begin in enumerate(begins):
        first = max(bisect_right(starts, begin) - 1, 0)
        limit = at(first + size)
        least = begins[number + 1] if number + 1 < count else at(first + size // 2)
        place = bisect_right(places, limit) - 1
        at_sentence = limit < len(text) and place >= 0 and places[place] >= max(least, begin + 1)
        found.append((begin, places[place] if at_sentence else limit))
    return found
