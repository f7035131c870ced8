"""Fitting a query and its passages into a model's context, measured in the model's tokens.

The frame, the query and the output are reserved, and the passages share the rest: the longest passages are cut first, the
query last. Cuts are counted. A prompt is fitted by arithmetic on token counts in one pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.prompts.defusing import Defuser
from pyserini_reasonrank.prompts.passage_form import PassageForm
from pyserini_reasonrank.prompts.template import Template
from pyserini_reasonrank.prompts.tokens import Tokens
from pyserini_reasonrank.records import Candidate, Prompt, Query, Request

FLOOR = 32  # tokens that a passage (if it has as many) keeps before the query is cut
TURN = 8  # the most tokens that a chat template adds to a turn
WHOLE = 1 << 20  # "no limit" for a passage or a query
DEFAULT_FORM = PassageForm()
_SHARED = 1 << 16  # prepared documents that are kept for later queries
_PROBE = "\x00"


@dataclass(slots=True)
class PreparedText:
    """A text, defused and cut to its limit.

    ``tokens`` is its number of tokens if ``counted``, otherwise its number of bytes, which no tokenizer exceeds. Fitting is
    cheap because most texts are never tokenized.
    """

    text: str
    tokens: int
    counted: bool


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request's prepared query, the passages that are prepared, by candidate, and the first stage's scores of all candidates."""

    query: PreparedText
    passages: dict[int, PreparedText]
    scores: tuple[float, ...]

    def has(self, places: Iterable[int]) -> bool:
        """Whether the passages of the candidates ``places`` are prepared."""
        return all(place in self.passages for place in places)


@dataclass(slots=True)
class Cuts:
    """Counts of a run's questions whose passages or query were cut to fit the context, and the shortest lengths in tokens."""

    questions: int = 0
    passages: int = 0
    queries: int = 0
    shortest_passage: int = WHOLE
    shortest_query: int = WHOLE

    def __str__(self) -> str:
        """Describe the cuts; "" if nothing was cut."""
        counts = (("passages", self.passages, self.shortest_passage), ("the query", self.queries, self.shortest_query))
        return ", ".join(
            f"{what} cut in {n:,} of {self.questions:,} questions (down to {to} tokens)" for what, n, to in counts if n
        )


def query_repeats(template: Template) -> int:
    """How often a prompt shows the query."""
    return sum(m.content.count(_PROBE) for m in template.render(_PROBE, [""]).messages)


def prompt_tokens(texts: Sequence[str], tokens: Tokens) -> int:
    """Tokens of a prompt with these turns, at most: their own and ``TURN`` for the chat template's part of each."""
    return sum(count for _, count in tokens.cut(texts, WHOLE)) + TURN * len(texts)


def frame_tokens(template: Template, tokens: Tokens, passages: int, *, reserve: bool = True) -> int:
    """Tokens of a prompt's frame, which is everything except the query and its ``passages``.

    ``reserve`` adds the most that the chat template and the reminder of a second ask can take.
    """
    prompt = template.render("", [""] * passages)
    texts = [*(message.content for message in prompt.messages), prompt.prefill]
    if not reserve:
        return sum(count for _, count in tokens.cut(texts, WHOLE))
    return prompt_tokens([*texts, template.reminder], tokens) + TURN


def least_tokens(
    template: Template,
    tokens: Tokens,
    passages: int,
    output_tokens: int,
    *,
    passage_tokens: int | None = None,
    query_tokens: int | None = None,
) -> int:
    """Tokens of a question about ``passages`` and its answer, with query and passages cut as far as fitting cuts them.

    ``passage_tokens`` and ``query_tokens`` are the limits from the settings, if there are any.
    """
    passage, query = (min(FLOOR, limit or FLOOR) for limit in (passage_tokens, query_tokens))
    frame = frame_tokens(template, tokens, passages)
    return frame + passages * passage + query_repeats(template) * query + output_tokens


class Fitter:
    """Prepares each text once (expensive: in a worker thread) and renders windows of a request (cheap)."""

    def __init__(
        self,
        template: Template,
        tokens: Tokens,
        *,
        context: int | None,
        output_tokens: int,
        passage_tokens: int | None,
        query_tokens: int | None,
        form: PassageForm = DEFAULT_FORM,
    ) -> None:
        self.template, self.tokens = template, tokens
        self.context, self.output_tokens = context, output_tokens
        self.passage_tokens, self.query_tokens = passage_tokens or WHOLE, query_tokens or WHOLE
        self.form = form
        self.defuser = Defuser(form.defuse, tokens)
        self._frames: dict[int, int] = {}
        self._texts: dict[tuple[str, int, int], PreparedText] = {}
        self._repeats = query_repeats(template)
        self.cuts = Cuts()

    @property
    def warning(self) -> str:
        """A warning about the prompts that were cut so far; "" if none was."""
        return f"to fit a context of {self.context:,} tokens: {self.cuts}" if str(self.cuts) else ""

    def check(self, query: Query) -> None:
        """UsageError if ``query`` alone is longer than the context. Called before its requests."""
        if self.context is None:
            return
        [text] = self._cut([self.form.query(query.text)], self.query_tokens)
        room = self.context - self.output_tokens - self._frame(1)
        if self._repeats * text.tokens > room and self._repeats * self._count(text) > room:
            raise UsageError(
                f"query {query.qid} has {text.tokens} tokens, {self._repeats} times in the prompt: more than the {room} that a "
                f"context of {self.context} leaves beside {self.output_tokens} for the output; cut it with "
                f"--rerank.query_tokens, or lower --rerank.sampling.max_tokens"
            )

    def prepare(self, request: Request) -> Prepared:
        """The request with all texts prepared."""
        prepared = self.begin(request)
        self.complete(prepared, request, range(len(request.candidates)))
        return prepared

    def begin(self, request: Request) -> Prepared:
        """The request with its query in its form, defused and cut, without passages."""
        [query] = self._cut([self.form.query(request.query.text)], self.query_tokens)
        return Prepared(query, {}, tuple(candidate.score for candidate in request.candidates))

    def complete(self, prepared: Prepared, request: Request, places: Iterable[int]) -> None:
        """Bring the passages of the candidates ``places`` into their form, defuse and cut them.

        What is prepared already stays as it is. A document of several queries is prepared once.
        """
        keys = {i: self._key(request.candidates[i]) for i in places if i not in prepared.passages}
        new = {key: request.candidates[i] for i, key in keys.items() if key not in self._texts}
        passages = [self.form.passage(candidate) for candidate in new.values()]
        known = dict(zip(new, self._cut(passages, self.passage_tokens), strict=True))
        prepared.passages.update({i: known.get(key) or self._texts[key] for i, key in keys.items()})
        if len(self._texts) < _SHARED:
            self._texts.update(known)

    def knows(self, request: Request, places: Iterable[int]) -> bool:
        """Whether an earlier query had the documents of all candidates ``places``."""
        return all(self._key(request.candidates[i]) in self._texts for i in places)

    def render(self, prepared: Prepared, indices: Sequence[int], keep: int | None = None) -> Prompt:
        """Return the prompt that shows the candidates ``indices`` in this order, cut to fit the context. ``keep``: how many of
        them to select, if the prompt asks for a selection."""
        shown = [prepared.passages[i] for i in indices]
        self.cuts.questions += 1
        query, passages = self._fit(prepared.query, shown)
        scores = [prepared.scores[i] for i in indices]
        return self.template.render(query, passages, indices, keep, scores)

    def _key(self, candidate: Candidate) -> tuple[str, int, int]:
        """The key of a prepared document. The same docid may have another text or other fields elsewhere."""
        fields = tuple(candidate.fields.items()) if self.form.template else ()
        return candidate.docid, hash(candidate.text), hash(fields)

    def _cut(self, texts: Sequence[str], limit: int) -> list[PreparedText]:
        """Return the texts defused and cut. Only texts with more bytes than ``limit`` are tokenized."""
        first = self.defuser.before_cutting
        encoded = [
            (self.defuser.text(text) if first else text).encode(errors="replace") for text in texts
        ]  # half a surrogate pair can't be encoded
        cut = [PreparedText(data.decode(), len(data), counted=False) for data in encoded]
        long = [text for text in cut if text.tokens > limit]
        for text, (head, count) in zip(long, self.tokens.cut([text.text for text in long], limit), strict=True):
            text.text, text.tokens, text.counted = head, count, True
        return cut if first else [self._defused(text) for text in cut]

    def _defused(self, text: PreparedText) -> PreparedText:
        """``text`` with its numbers defused, which can change how many tokens it has."""
        defused = self.defuser.text(text.text)
        return text if defused == text.text else PreparedText(defused, len(defused.encode()), counted=False)

    def _count(self, text: PreparedText) -> int:
        if not text.counted:
            [(_, text.tokens)] = self.tokens.cut([text.text], WHOLE)
            text.counted = True
        return text.tokens

    def _fit(self, query: PreparedText, shown: Sequence[PreparedText]) -> tuple[str, list[str]]:
        """Return query and passages, unchanged if they fit. Otherwise count all of them, so that cuts do not depend on history."""
        whole = query.text, [passage.text for passage in shown]
        if self.context is None:
            return whole
        room = self.context - self.output_tokens - self._frame(len(shown))
        room -= len(shown)  # where two texts meet, there may be an additional token
        if self._repeats * query.tokens + sum(passage.tokens for passage in shown) <= room:
            return whole
        counts = [self._count(passage) for passage in shown]
        text, spent = self._fit_query(query, room - sum(min(count, FLOOR) for count in counts))
        return text, self._fit_passages(shown, counts, room - spent)

    def _fit_query(self, query: PreparedText, room: int) -> tuple[str, int]:
        most = max(room // self._repeats, 1)
        if (count := self._count(query)) <= most:
            return query.text, self._repeats * count
        self.cuts.queries += 1
        self.cuts.shortest_query = min(self.cuts.shortest_query, most)
        [(head, count)] = self.tokens.cut([query.text], most)
        return head, self._repeats * count

    def _fit_passages(self, passages: Sequence[PreparedText], counts: Sequence[int], room: int) -> list[str]:
        if sum(counts) <= room:
            return [passage.text for passage in passages]
        cap = _level(counts, room)
        self.cuts.passages += 1
        self.cuts.shortest_passage = min(self.cuts.shortest_passage, cap)
        return [
            self.tokens.cut([passage.text], cap)[0][0] if count > cap else passage.text
            for passage, count in zip(passages, counts, strict=True)
        ]

    def _frame(self, n: int) -> int:
        """``frame_tokens`` for ``n`` passages, computed once. UsageError if the context is too small for it."""
        if n not in self._frames:
            frame = frame_tokens(self.template, self.tokens, n)
            if self.context is not None and frame + self.output_tokens >= self.context:
                raise UsageError(
                    f"the context of {self.context} tokens has no room for a prompt of {n} passages beside an output of "
                    f"{self.output_tokens}: lower --rerank.sampling.max_tokens"
                )
            self._frames[n] = frame
        return self._frames[n]


def _level(counts: Sequence[int], room: int) -> int:
    """Return the largest cap such that ``counts``, each cut to it, sum to at most ``room``."""
    left, rest = room, sorted(counts)
    for i, count in enumerate(rest):
        share = left // (len(rest) - i)
        if count > share:
            return max(share, 0)
        left -= count
    return rest[-1] if rest else 0
