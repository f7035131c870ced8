"""The nouns every part speaks: query, candidate, request, prompt, sampling, completion, judgement, ranking."""

from __future__ import annotations

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
    """A document the first stage returned: id, verbatim, first-stage score and the text the LLM reads."""

    docid: str
    score: float
    text: str


@dataclass(frozen=True, slots=True)
class Request:
    """A query with its candidates, in first-stage order. ``number`` is the query's place in the topics (from 0)."""

    query: Query
    candidates: tuple[Candidate, ...]
    number: int = 0


@dataclass(frozen=True, slots=True)
class Message:
    """One chat turn. ``role`` is ``system``, ``user`` or ``assistant``."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """Chat turns, and the words the assistant's own turn begins with (``prefill``), which the model continues."""

    messages: tuple[Message, ...]
    prefill: str = ""


class Capability(StrEnum):
    """An ability that not every engine has. A plan that needs a missing one raises UsageError before the run starts."""

    PREFILL = "prefill"  # continue an assistant turn that we began (Prompt.prefill)
    CHOICES = "choices"  # log-probabilities of given alternatives of one or two tokens (Sampling.choices)
    LIKELIHOOD = "likelihood"  # log-probability of a whole text, summed over its tokens (a single Sampling.choices)
    REASK = "reask"  # asking again can bring another answer
    PATTERN = "pattern"  # decode only text that matches a regular expression (Sampling.pattern)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to decode. Names and meanings are vLLM's; ``top_k`` 0 is off; ``extra`` goes to the engine as it is.

    With ``choices`` the answer is one of these strings: the engine decodes nothing freely and returns
    ``Completion.choices``, the log-probability of each as the continuation of the prompt. ``one_token``: each of them has
    to be one token where it stands, and one whose probability a server does not tell is left out rather than guessed.
    ``pattern`` is a regular expression that the whole text after the prefill has to match, so nothing else is decoded.
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


@dataclass(frozen=True, slots=True)
class Call:
    """What one question to the LLM is about, for the journal and for engines that are no model.

    ``number`` counts the questions of its query from 0 in the order they are asked, ``part`` names the reranker that
    asks where several are combined, and ``label`` the strategy's step ("pass 2"). ``sample`` tells a second ask from the
    first. ``ideal`` writes the well-formed answer for gains given in the order shown, and
    ``ideal_choices`` the probabilities of ``Sampling.choices`` for them.
    """

    qid: str
    number: int
    docids: tuple[str, ...]
    ideal: Callable[[Sequence[float]], str]
    ideal_choices: Callable[[Sequence[float], Sequence[str]], Mapping[str, float]]
    sample: int = 0
    part: str = ""
    label: str = ""


@dataclass(frozen=True, slots=True)
class Completion:
    """What an engine returned. An error is ``error``, never ``text``.

    ``text`` excludes the prefill. A server's separate reasoning field arrives as ``<think>...</think>`` in ``text``.
    ``finish_reason`` is ``stop``, ``length``, ``refusal`` or ``error``. ``choices`` holds natural-log probabilities.
    """

    text: str = ""
    finish_reason: str = "stop"
    prompt_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    choices: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None


class Status(StrEnum):
    """How a call ended. ``repaired``: an order was read, but ids were missing, repeated or out of range."""

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


@dataclass(frozen=True, slots=True)
class Judgement:
    """A completion, read. ``order`` permutes the positions shown (0-based, best first).

    ``filled`` counts the ids at the end of ``order`` that the model did not give. ``score`` is set by judges that
    score a single document; ``scores``, in the order of ``order``, by judges that grade all they are shown. ``detail``
    says in words what was repaired or why the answer is bad. ``chosen`` is how many a judge that drops some wants to drop:
    the last of ``order``.
    """

    order: tuple[int, ...]
    status: Status
    reasoning: str = ""
    filled: int = 0
    score: float | None = None
    detail: str = ""
    scores: tuple[float | None, ...] = ()
    chosen: int = 1


@dataclass(frozen=True, slots=True)
class Ranked:
    """What a reranker made of the candidates it was given. ``order`` permutes their positions (0-based, best first).

    ``scores`` are by position, higher is better, of candidates that were scored one by one. ``confidence`` is by rank,
    in [0, 1], where several orders were compared. ``reasoning`` is all that the model thought; ``notes`` say in the
    trace how the order came about.
    """

    order: tuple[int, ...]
    statuses: Mapping[Status, int] = field(default_factory=dict)
    scores: Mapping[int, float] = field(default_factory=dict)
    confidence: tuple[float, ...] = ()
    reasoning: str = ""
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def undecided(self) -> bool:
        """Whether no question had an answer, so that the order is the one that was asked about."""
        return bool(self.statuses) and all(status.bad for status in self.statuses)


@dataclass(frozen=True, slots=True)
class Ranking:
    """A request, reranked. ``order`` permutes ``request.candidates`` (indices, best first), tail included.

    ``ranked`` is what the reranker said of its head, before any fusion with the first stage.
    """

    request: Request
    order: tuple[int, ...]
    ranked: Ranked = Ranked(())
    seconds: float = 0.0

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        return tuple(self.request.candidates[i] for i in self.order)
