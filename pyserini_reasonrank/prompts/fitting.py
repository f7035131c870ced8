"""Fitting a query and its passages into a model's context, measured in the model's tokens.

The frame, the query and the output are reserved, and the passages share the rest: the longest passages are cut first, the
query last. Cuts are counted. A prompt is fitted by arithmetic on token counts in one pass. Texts are tokenized only
where the number of their bytes does not prove that they fit, and what is found is kept for the windows that follow.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.prompts.defusing import Defuser
from pyserini_reasonrank.prompts.passage_form import PassageForm
from pyserini_reasonrank.prompts.prepared_text import PreparedText, TextStore
from pyserini_reasonrank.prompts.template import Template
from pyserini_reasonrank.prompts.tokens import Tokens, cut_at
from pyserini_reasonrank.records import Candidate, Prompt, Query, Request

FLOOR = 32  # tokens that a passage (if it has as many) keeps before the query is cut
TURN = 8  # the most tokens that a chat template adds to a turn
WHOLE = 1 << 20  # "no limit" for a passage or a query
DEFAULT_FORM = PassageForm()
_SHARED = 64 << 20  # bytes of prepared documents that are kept for later queries
_FEW = 6  # bytes per token of a text that is hard to compress
_PROBE = "\x00"

Key = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request's prepared query, the passages that are prepared, by candidate, and the first stage's scores of all candidates."""

    query: PreparedText
    passages: dict[int, PreparedText]
    scores: tuple[float, ...]

    def has(self, places: Iterable[int]) -> bool:
        """Whether the passages of the candidates ``places`` are prepared."""
        return self.passages.keys() >= set(places)


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
        self._texts = TextStore(_SHARED)
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
        if self._repeats * text.tokens > room:
            self._count(text)
        if self._repeats * text.tokens > room:
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
        new: dict[Key, list[int]] = {}
        for place, key in self._unknown(prepared, request, places):
            new.setdefault(key, []).append(place)
        passages = [self.form.passage(request.candidates[same[0]]) for same in new.values()]
        for (key, same), text in zip(new.items(), self._cut(passages, self.passage_tokens), strict=True):
            self._texts.add(key, text)
            prepared.passages.update(dict.fromkeys(same, text))

    def reuse(self, prepared: Prepared, request: Request, places: Iterable[int]) -> bool:
        """Take the passages of the candidates ``places`` that an earlier query prepared. Returns whether none is missing."""
        return not self._unknown(prepared, request, places)

    def measured(self, prepared: Prepared, places: Sequence[int]) -> bool:
        """Whether ``render`` can show the candidates ``places``, which are prepared, without tokenizing a text.

        UsageError if the context is too small for so many passages.
        """
        texts = [prepared.passages[place] for place in places]
        return self._fits(prepared.query, texts) or all(text.ends is not None for text in (prepared.query, *texts))

    def measure(self, prepared: Prepared, places: Sequence[int]) -> None:
        """Tokenize the texts of a prompt that shows the candidates ``places``, as far as its length is not known."""
        self._measure(prepared.query, [prepared.passages[place] for place in places])

    def render(self, prepared: Prepared, indices: Sequence[int], keep: int | None = None) -> Prompt:
        """Return the prompt that shows the candidates ``indices`` in this order, cut to fit the context. ``keep``: how many of
        them to select, if the prompt asks for a selection."""
        shown = [prepared.passages[i] for i in indices]
        self.cuts.questions += 1
        query, passages = self._fit(prepared.query, shown)
        scores = [prepared.scores[i] for i in indices]
        return self.template.render(query, passages, indices, keep, scores)

    def _unknown(self, prepared: Prepared, request: Request, places: Iterable[int]) -> list[tuple[int, Key]]:
        """The ``places`` of candidates that no query has prepared, with their keys. Takes those that one has."""
        unknown = []
        for place in places:
            if place in prepared.passages:
                continue
            key = self._key(request.candidates[place])
            if (found := self._texts.get(key)) is None:
                unknown.append((place, key))
            else:
                prepared.passages[place] = found
        return unknown

    def _key(self, candidate: Candidate) -> Key:
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

    def _count(self, *texts: PreparedText) -> None:
        """Count the tokens of ``texts`` that are not counted."""
        new = [text for text in texts if not text.counted]
        for text, (_, count) in zip(new, self.tokens.cut([text.text for text in new], WHOLE), strict=True):
            text.count(count)

    def _room(self, passages: int) -> float:
        """Tokens of a prompt that are left for the query, as often as it is shown, and the ``passages``."""
        if self.context is None:
            return inf
        # where two texts meet, there may be an additional token
        return self.context - self.output_tokens - self._frame(passages) - passages

    def _fits(self, query: PreparedText, shown: Sequence[PreparedText]) -> bool:
        return self._length(query, shown) <= self._room(len(shown))

    def _length(self, query: PreparedText, shown: Sequence[PreparedText]) -> int:
        """Tokens of the texts in a prompt, or their bytes as far as they are not counted."""
        return self._repeats * query.tokens + sum(passage.tokens for passage in shown)

    def _measure(self, query: PreparedText, shown: Sequence[PreparedText]) -> None:
        """Count the tokens of texts that may not fit, and find where each ends if they do not.

        Counting is faster, so it comes first unless the texts are so long that it is in vain.
        """
        if self._fits(query, shown):
            return
        if self._length(query, shown) <= _FEW * self._room(len(shown)):
            self._count(query, *shown)
            if self._fits(query, shown):
                return
        new = [text for text in (query, *shown) if text.ends is None]
        for text, ends in zip(new, self.tokens.ends([text.text for text in new]), strict=True):
            text.measure(ends)

    def _fit(self, query: PreparedText, shown: Sequence[PreparedText]) -> tuple[str, list[str]]:
        """Return query and passages, unchanged if they fit. Otherwise all are measured, so that cuts do not depend on history."""
        self._measure(query, shown)
        if self._fits(query, shown):
            return query.text, [passage.text for passage in shown]
        room = int(self._room(len(shown)))
        text, spent = self._fit_query(query, room - sum(min(passage.tokens, FLOOR) for passage in shown))
        return text, self._fit_passages(shown, room - spent)

    def _fit_query(self, query: PreparedText, room: int) -> tuple[str, int]:
        most = max(room // self._repeats, 1)
        if query.tokens <= most:
            return query.text, self._repeats * query.tokens
        self.cuts.queries += 1
        self.cuts.shortest_query = min(self.cuts.shortest_query, most)
        return self._head(query, most), self._repeats * most

    def _fit_passages(self, passages: Sequence[PreparedText], room: int) -> list[str]:
        counts = [passage.tokens for passage in passages]
        if sum(counts) <= room:
            return [passage.text for passage in passages]
        cap = _level(counts, room)
        self.cuts.passages += 1
        self.cuts.shortest_passage = min(self.cuts.shortest_passage, cap)
        return [self._head(passage, cap) for passage in passages]

    def _head(self, text: PreparedText, limit: int) -> str:
        """The first ``limit`` tokens of a measured text, as ``Tokens.cut`` cuts it."""
        if (found := cut_at(text.text, text.ends or (), limit)) is not None:
            return found
        return self.tokens.cut([text.text], limit)[0][0]

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
