"""Shared data classes: query, candidate, request, prompt, sampling, call, completion, judgement, ranking, counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


@dataclass(frozen=True, slots=True)
class Query:
    """A topic: its id, verbatim, and its text."""

    qid: str
    text: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A document that the first stage returned: its id (verbatim), first-stage score, text, and fields.

    ``text`` is what the LLM reads, unless the passage form is a template over ``fields`` (``title``, ``text``, ``url``, ...;
    see ``ir.documents.Document``). Without fields, the text is the only one.
    """

    docid: str
    score: float
    text: str
    fields: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Request:
    """A query with its candidates in first-stage order.

    ``number`` is its place in the topics, from 0; no two requests of a run or of a Python object have the same.
    ``excluded`` is the number of documents that an exclusion list removed from the candidates.
    """

    query: Query
    candidates: tuple[Candidate, ...]
    number: int = 0
    excluded: int = 0


@dataclass(frozen=True, slots=True)
class Message:
    """One chat turn. ``role`` is ``system``, ``user`` or ``assistant``."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """Chat turns, and ``prefill``, the beginning of the assistant's turn, which the model continues.

    ``places`` are the positions of the passages shown among the query's candidates, for labels that do not change. ``keep``
    is how many of them to select, for judges that select.
    """

    messages: tuple[Message, ...]
    prefill: str = ""
    places: tuple[int, ...] = field(default=(), compare=False)
    keep: int | None = field(default=None, compare=False)

    def begun(self, prefill: str) -> Prompt:
        """The prompt with another ``prefill``. Several times faster than ``dataclasses.replace``."""
        return self if prefill == self.prefill else Prompt(self.messages, prefill, self.places, self.keep)


class Capability(StrEnum):
    """An ability that not every engine has. A plan that needs a missing one raises UsageError before the run starts."""

    PREFILL = "prefill"  # continue an assistant turn that we began (Prompt.prefill)
    CHOICES = "choices"  # log-probabilities of given alternatives of one or two tokens (Sampling.choices)
    LOGITS = "logits"  # logits of given tokens, before the softmax (Sampling.logits)
    LIKELIHOOD = "likelihood"  # log-probability of a whole text, summed over its tokens (a single Sampling.choices)
    REASK = "reask"  # asking again can bring another answer
    PATTERN = "pattern"  # decode only text that matches a regular expression (Sampling.pattern)


@dataclass(frozen=True, slots=True)
class Sampling:
    """Decoding parameters. Names and meanings are vLLM's; ``top_k`` 0 is off; ``extra`` is passed to the engine.

    With ``choices``, nothing is decoded: the engine returns in ``Completion.choices`` the log-probability of each of
    these strings as the continuation of the prompt. ``one_token``: each has to be one token in its place; a choice whose
    probability a server does not report is omitted. ``apart``: a choice is that token also where the tokenizer
    would merge it with the end of the prompt. ``logits``: the values are logits instead, of choices of one token.
    ``pattern`` is a regular expression that the text after the prefill has to match; the engine decodes nothing else.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    max_tokens: int = 3172
    seed: int | None = None
    stop: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    one_token: bool = False
    pattern: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)
    logits: bool = field(default=False, repr=False)  # the journal's keys contain the representation of the others
    apart: bool = field(default=False, repr=False)


@dataclass(frozen=True, slots=True)
class Repeat:
    """Which of several answers to one question a call requests. The default is the first and usual one.

    ``samples`` has the sample number in each enclosing combination, outermost first; ``vote`` numbers the votes of the judge
    and the further answers that a strategy asks for, ``attempt`` the attempts of the repair ladder. Leading zeros of
    ``samples`` are removed: the first sample of a combination equals the answer without it.
    """

    samples: tuple[int, ...] = ()
    vote: int = 0
    attempt: int = 0

    def __post_init__(self) -> None:
        first = next((i for i, sample in enumerate(self.samples) if sample), len(self.samples))
        object.__setattr__(self, "samples", self.samples[first:])

    @property
    def seed_offset(self) -> int:
        """What engines add to ``Sampling.seed``: 0 for the default, distinct for numbers below 256."""
        offset = 0
        for number in (*self.samples, self.vote, self.attempt):
            offset = 256 * offset + number
        return offset


@dataclass(frozen=True, slots=True)
class Call:
    """What one LLM call is about, for the journal and for engines without a model.

    ``number`` counts the questions of a query from 0 in the order in which they are asked, ``turn`` the LLM calls of a
    question, of which there are several if an answer is repaired. ``part`` names the reranker
    that asks, where several are combined. ``label`` names the step of the strategy ("pass 2"). ``keep`` is how many documents
    it goes on with, if it asks for a selection. ``ideal`` writes the
    well-formed answer for gains given in the order shown; ``ideal_choices`` gives the probabilities of
    ``Sampling.choices`` for them. ``request`` is the number of the request, which tells queries with the same qid apart.
    """

    qid: str
    number: int
    docids: tuple[str, ...]
    ideal: Callable[[Sequence[float]], str]
    ideal_choices: Callable[[Sequence[float], Sequence[str]], Mapping[str, float]]
    repeat: Repeat = Repeat()
    part: str = ""
    label: str = ""
    keep: int | None = None
    turn: int = 0
    request: int = 0


@dataclass(frozen=True, slots=True)
class Completion:
    """The answer of an engine. An error is in ``error``, never in ``text``.

    ``text`` excludes the prefill. The separate reasoning field of a server arrives as ``<think>...</think>`` in ``text``.
    ``finish_reason`` is ``stop``, ``length``, ``refusal`` or ``error``. ``choices`` has natural-log probabilities, or logits
    if the call asked for them.
    ``cached_tokens`` are the prompt tokens that the engine read from its prefix cache; 0 also if it does not report them.
    """

    text: str = ""
    finish_reason: str = "stop"
    prompt_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    choices: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class PrefixCache:
    """Prompt tokens that servers looked up in their prefix cache (``queries``), and those of them that it had (``hits``)."""

    queries: int
    hits: int


class Status(StrEnum):
    """How a judgement ended. ``repaired``: an order was read, but ids were missing, repeated or out of range."""

    OK = "ok"
    REPAIRED = "repaired"
    TRUNCATED = "truncated"
    EMPTY = "empty"
    REFUSED = "refused"
    ERROR = "error"

    @property
    def bad(self) -> bool:
        """Whether the model's answer did not decide the outcome."""
        return self not in (Status.OK, Status.REPAIRED)


@dataclass
class Tally:
    """Counts of one reranker in a run: judgements by status, LLM calls, tokens, and rankings requested.

    ``cached_tokens``: of the prompt tokens of this run's own calls, those that the engine read from its prefix cache.
    """

    statuses: Counter[Status] = field(default_factory=Counter)
    calls: int = 0
    from_journal: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    rankings: int = 0
    cached_tokens: int = 0

    @property
    def judgements(self) -> int:
        """Judgements of any status."""
        return sum(self.statuses.values())

    @property
    def bad(self) -> int:
        """Judgements that the model's answer did not decide."""
        return sum(count for status, count in self.statuses.items() if status.bad)

    @property
    def bad_share(self) -> float:
        """The share of these among all judgements; 0 without one."""
        return self.bad / self.judgements if self.judgements else 0.0

    def __str__(self) -> str:
        return ", ".join(f"{count} {status}" for status, count in sorted(self.statuses.items())) or "no calls"

    def bad_of(self, what: str = "judgements") -> str:
        """How many judgements, which are called ``what``, are bad: "2 of 8 judgements (25.0%) are bad (6 ok, 2 empty)"."""
        return f"{self.bad} of {self.judgements} {what} ({self.bad_share:.1%}) are bad ({self})"

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.statuses + other.statuses,
            self.calls + other.calls,
            self.from_journal + other.from_journal,
            self.prompt_tokens + other.prompt_tokens,
            self.output_tokens + other.output_tokens,
            self.rankings + other.rankings,
            self.cached_tokens + other.cached_tokens,
        )

    def add(self, completion: Completion, *, from_journal: bool) -> None:
        """Count one call and its tokens."""
        self.calls += not from_journal
        self.from_journal += from_journal
        self.prompt_tokens += completion.prompt_tokens
        self.output_tokens += completion.output_tokens
        self.cached_tokens += 0 if from_journal else completion.cached_tokens


@dataclass(frozen=True, slots=True)
class Judgement:
    """A parsed completion. ``order`` permutes the positions shown (0-based, best first).

    ``filled`` counts the ids at the end of ``order`` that the model did not give. ``score`` is set by judges that score
    one document; ``scores``, in the order of ``order``, by judges that grade all documents shown. ``detail`` says what was
    repaired or why the answer is bad. ``chosen``: how many documents a judge that drops some of them drops, the last
    of ``order``. ``text`` is set by judges that ask for a text.
    """

    order: tuple[int, ...]
    status: Status
    reasoning: str = ""
    filled: int = 0
    score: float | None = None
    detail: str = ""
    scores: tuple[float | None, ...] = ()
    chosen: int = 1
    text: str = ""


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a document that was judged alone: its ``number``, from 1, of ``of`` segments.

    ``start_char`` and ``end_char`` are its place in the document's text: its field ``text``, if it has fields. ``passage`` is
    the document with this part of its text only.
    """

    number: int
    of: int
    start_char: int
    end_char: int
    passage: Candidate = field(compare=False, repr=False)

    @property
    def label(self) -> str:
        """The segment in a trace: "segment 2 of 5"; "" for the whole document."""
        return f"segment {self.number} of {self.of}" if self.of > 1 else ""

    @property
    def place(self) -> dict[str, int]:
        """The segment in a journal or a response: its number and its characters."""
        names = ("number", "of", "start_char", "end_char")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True)
class Ranked:
    """The result of a reranker for the candidates it was given. ``order`` permutes their positions (0-based, best first).

    ``scores`` are by position, higher is better, of candidates that were scored one by one; ``grades`` are those of candidates
    that were graded beside others. ``confidence`` is by rank,
    in [0, 1], where several orders were compared. ``reasoning`` is all reasoning of the model; ``notes`` describe in the
    trace how the order was made. ``segments`` are by position too: the best segment of each document that was judged in
    segments.
    """

    order: tuple[int, ...]
    statuses: Mapping[Status, int] = field(default_factory=dict)
    scores: Mapping[int, float] = field(default_factory=dict)
    confidence: tuple[float, ...] = ()
    reasoning: str = ""
    notes: Mapping[str, Any] = field(default_factory=dict)
    segments: Mapping[int, Segment] = field(default_factory=dict)
    grades: Mapping[int, float] = field(default_factory=dict)

    @property
    def judged(self) -> Mapping[int, float]:
        """The LLM's scores by position, however it gave them."""
        return self.scores or self.grades

    @property
    def undecided(self) -> bool:
        """Whether no judgement has a readable answer, so that the order is the one that was asked about."""
        return bool(self.statuses) and all(status.bad for status in self.statuses)


@dataclass(frozen=True, slots=True)
class Ranking:
    """A reranked request. ``order`` permutes ``request.candidates`` (indices, best first), the tail included.

    ``ranked`` is the reranker's result for the head, before any fusion with the first stage. ``fused`` has the fused scores
    by index; it is empty without fusion. ``dropped`` are the indices of candidates that are left out of the run: those that
    the judge found not relevant, and those below its depth.
    """

    request: Request
    order: tuple[int, ...]
    ranked: Ranked = Ranked(())
    seconds: float = 0.0
    fused: Mapping[int, float] = field(default_factory=dict)
    dropped: frozenset[int] = frozenset()

    @property
    def kept(self) -> tuple[int, ...]:
        """The indices of the candidates of the run, best first."""
        return tuple(i for i in self.order if i not in self.dropped)

    @property
    def left_out(self) -> tuple[int, ...]:
        """The indices of the other candidates, best first."""
        return tuple(i for i in self.order if i in self.dropped)

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """The candidates of the run, best first."""
        return tuple(self.request.candidates[i] for i in self.kept)
