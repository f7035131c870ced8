"""Fitting a query and its passages into a model's context, in its own tokens, computed once.

The frame, the query and the output are reserved; the passages share the rest, the longest giving way first; the
query is cut last, with a warning. Every step is arithmetic on counts, so it always ends.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.prompts.template import Template
from pyserini_reasonrank.records import Prompt, Query, Request
from pyserini_reasonrank.tokens import Tokens

log = logging.getLogger(__name__)

FLOOR = 32  # tokens a passage keeps before the query is cut
TURN = 8  # tokens a chat template spends on a turn, at most
WHOLE = 1 << 20  # "no limit" for a passage or a query
_PROBE = "\x00"
_BRACKETED = re.compile(r"\[(\d+)\]")
_CONTROL = re.compile(r"<\|[^<>|\s]{1,40}\|>|</?(?:think|answer)>", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request, ready to be rendered: defused texts with their token counts, in candidate order."""

    query: str
    query_tokens: int
    passages: tuple[tuple[str, int], ...]


class Fitter:
    """Prepares requests (heavy: in a worker thread, once) and renders windows of them (light)."""

    def __init__(
        self,
        template: Template,
        tokens: Tokens,
        *,
        context: int | None,
        output_tokens: int,
        passage_tokens: int | None,
        query_tokens: int | None,
    ) -> None:
        self.template, self.tokens = template, tokens
        self.context, self.output_tokens = context, output_tokens
        self.passage_tokens, self.query_tokens = passage_tokens or WHOLE, query_tokens or WHOLE
        specials = list(tokens.specials())
        self._control = re.compile("|".join([_CONTROL.pattern, *map(re.escape, specials)]), re.IGNORECASE)
        self._control_starts = {"<", *(s[0] for s in specials)}
        self._frames: dict[int, int] = {}
        self._texts: dict[str, tuple[str, int]] = {}
        self._repeats = sum(m.content.count(_PROBE) for m in template.render(_PROBE, [""]).messages)

    def check(self, query: Query) -> None:
        """UsageError if ``query`` alone is longer than the context; called for all topics before any request."""
        if self.context is None:
            return
        _, count = self._query(query)
        needed = self._frame(1) + self._repeats * count
        if needed + self.output_tokens > self.context:
            raise UsageError(
                f"query {query.qid} takes {count} tokens, {needed} with the prompt around it, beside {self.output_tokens} "
                f"for the output: more than the context of {self.context}; cut it with --rerank.query_tokens, or lower "
                f"--rerank.sampling.max_tokens"
            )

    def prepare(self, request: Request) -> Prepared:
        """Defuse, tokenise and cut every text of a request."""
        query, count = self._query(request.query)
        new = [c for c in request.candidates if c.docid not in self._texts]
        cut = self.tokens.cut([self.defuse(c.text) for c in new], self.passage_tokens)
        known = dict(zip((c.docid for c in new), cut, strict=True))
        passages = tuple(known.get(c.docid) or self._texts[c.docid] for c in request.candidates)
        if len(self._texts) < 1 << 16:
            self._texts.update(known)
        return Prepared(query, count, passages)

    def render(self, prepared: Prepared, indices: Sequence[int]) -> Prompt:
        """The prompt that shows the candidates ``indices``, in that order, cut so that it fits."""
        passages = [prepared.passages[i] for i in indices]
        query = prepared.query
        if self.context is not None:
            room = self.context - self.output_tokens - self._frame(len(passages))
            query, spent = self._fit_query(query, prepared.query_tokens, room, len(passages))
            passages = self._fit_passages(passages, room - spent)
        return self.template.render(query, [text for text, _ in passages])

    def defuse(self, text: str) -> str:
        """Make a text data: no line breaks, no ``[n]``, no control token or tag that a model would obey."""
        text = _BRACKETED.sub(r"(\1)", " ".join(text.split()))
        if self._control_starts.isdisjoint(text):
            return text
        return self._control.sub(lambda m: f"{m.group()[0]} {m.group()[1:]}", text)

    def _query(self, query: Query) -> tuple[str, int]:
        return self.tokens.cut([self.defuse(query.text)], self.query_tokens)[0]

    def _fit_query(self, query: str, count: int, room: int, n: int) -> tuple[str, int]:
        most = max((room - n * FLOOR) // self._repeats, 1)
        if count > most:
            log.warning("a query was cut from %d to %d tokens to leave room for %d passages", count, most, n)
            query, count = self.tokens.cut([query], most)[0]
        return query, self._repeats * count

    def _fit_passages(self, passages: list[tuple[str, int]], room: int) -> list[tuple[str, int]]:
        room -= len(passages)  # a token may be gained where two texts meet
        if sum(count for _, count in passages) <= room:
            return passages
        cap = _level([count for _, count in passages], room)
        return [self.tokens.cut([text], cap)[0] if count > cap else (text, count) for text, count in passages]

    def _frame(self, n: int) -> int:
        """Tokens of everything but query and passages, for ``n`` passages."""
        if n not in self._frames:
            prompt = self.template.render("", [""] * n)
            texts = [m.content for m in prompt.messages] + [prompt.prefill]
            frame = sum(count for _, count in self.tokens.cut(texts, WHOLE)) + TURN * (len(texts) + 1)
            if self.context is not None and frame + self.output_tokens >= self.context:
                raise UsageError(
                    f"the context of {self.context} tokens has no room for a prompt of {n} passages beside an output of "
                    f"{self.output_tokens}: lower --rerank.sampling.max_tokens"
                )
            self._frames[n] = frame
        return self._frames[n]


def _level(counts: Sequence[int], room: int) -> int:
    """The largest cap at which ``counts``, each cut to it, sum to ``room`` at most."""
    left, rest = room, sorted(counts)
    for i, count in enumerate(rest):
        share = left // (len(rest) - i)
        if count > share:
            return max(share, 0)
        left -= count
    return rest[-1] if rest else 0
