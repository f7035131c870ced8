"""Documents judged in segments: one question about each segment of a candidate, joined to the candidate's score."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from pyserini_reasonrank.ir.documents import document_text
from pyserini_reasonrank.prompts.segments import Segments, spans
from pyserini_reasonrank.prompts.tokens import Tokens
from pyserini_reasonrank.records import Candidate, Request, Segment

Ask = Callable[..., Awaitable[Any]]
"""Ask about a passage, by its position, with the label of the question and further arguments of the strategy."""


@dataclass(frozen=True, slots=True)
class SegmentedRequest:
    """A request whose candidates are segments, which keep the docid of their document.

    ``segments`` has one for each of them; ``members`` has the positions of the segments of each document.
    """

    request: Request
    segments: tuple[Segment, ...]
    members: tuple[range, ...]


@dataclass(frozen=True, slots=True)
class Segmenter:
    """Splits documents by the tokens of a model."""

    options: Segments
    tokens: Tokens

    def split(self, request: Request) -> SegmentedRequest:
        """``request`` with the segments of its documents in their place. It counts tokens: call it in a worker thread."""
        found = [self.segments(candidate) for candidate in request.candidates]
        segments = tuple(segment for of_one in found for segment in of_one)
        ends = [0]
        for of_one in found:
            ends.append(ends[-1] + len(of_one))
        candidates = tuple(segment.passage for segment in segments)
        return SegmentedRequest(
            replace(request, candidates=candidates), segments, tuple(range(*pair) for pair in pairwise(ends))
        )

    def segments(self, candidate: Candidate) -> list[Segment]:
        """The segments of a document that are judged. One that is short enough, or has no body, is a single one, unchanged."""
        body = candidate.fields.get("text", "") if candidate.fields else candidate.text
        found = spans(body, self.tokens, self.options)
        fields = {name: self._field(value) for name, value in candidate.fields.items() if name != "text"}
        whole = found == [(0, len(body))] and fields.items() <= candidate.fields.items()
        if whole or not body.strip():
            return [Segment(1, 1, 0, len(body), candidate)]
        return [
            Segment(number, len(found), begin, end, _passage(candidate, fields, body[begin:end].strip()))
            for number, (begin, end) in enumerate(found, 1)
        ]

    def _field(self, text: str) -> str:
        return self.tokens.cut([text], self.options.field_tokens)[0][0]


def _passage(candidate: Candidate, fields: dict[str, str], text: str) -> Candidate:
    """``candidate`` with ``text`` as its body, and the other fields."""
    if not candidate.fields:
        return replace(candidate, text=text)
    shown = {**fields, "text": text}
    return replace(candidate, text=document_text(shown) or text, fields=shown)


class SegmentJudge:
    """Asks ``ask`` about every segment of a document at once: what a strategy calls in place of the judge.

    ``scores`` and ``segments`` collect, by position of the document, its score and the segment with the best one. A document
    without a readable segment has no score.
    """

    def __init__(self, ask: Ask, request: SegmentedRequest, options: Segments) -> None:
        self._ask, self._request, self._options = ask, request, options
        self.scores: dict[int, float] = {}
        self.segments: dict[int, Segment] = {}

    async def __call__(self, indices: Sequence[int], label: str = "", **further: Any) -> float | None:
        """The score of the document ``indices``, which is one."""
        [document] = indices
        members = self._request.members[document]
        segments = self._request.segments
        labels = [" - ".join(filter(None, (label, segments[position].label))) for position in members]
        found = await asyncio.gather(
            *(self._ask([position], name, **further) for position, name in zip(members, labels, strict=True))
        )
        if (score := self._options.joined(found)) is None:
            return None
        best = max((i for i in range(len(found)) if found[i] is not None), key=lambda i: found[i])
        self.scores[document], self.segments[document] = score, segments[members[best]]
        return score
