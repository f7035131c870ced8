"""Judges: one question to the LLM about the passages shown, and the reading of its answer.

A judge is a coroutine over ``ask``, which sends a prompt and returns a completion. It may ask again (see ``repair``), but
always returns one Judgement. It does not know queries, engines, the journal or strategies.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from pyserini_reasonrank.prompts.tokens import Tokens
from pyserini_reasonrank.records import Capability, Completion, Judgement, Prompt, Sampling


class Ask(Protocol):
    """Send a prompt. ``attempt`` > 0 requests a new answer to the same prompt."""

    def __call__(self, prompt: Prompt, sampling: Sampling, *, attempt: int = 0) -> Awaitable[Completion]: ...


class Judge(ABC):
    """One kind of question, asked with one engine and one sampling."""

    kind: ClassVar[str]
    needs: ClassVar[frozenset[Capability]] = frozenset()

    class Options(BaseModel):
        """The settings of a judge, ``--rerank.judge.NAME``."""

        model_config = ConfigDict(extra="forbid", frozen=True)

        shuffle: Annotated[bool, Field(description="show the candidates of a call in random order (Rank-R1)")] = False
        repair: Annotated[
            Literal["none", "close", "ask"],
            Field(
                description="unreadable answers; close: end a cut thought, decode the answer; ask: also ask once more"
            ),
        ] = "ask"
        seed: Annotated[int, Field(description="seed of the shuffle, combined with query and call")] = 929
        votes: Annotated[int, Field(ge=1, description="times each question is asked; the answers are aggregated")] = 1
        constrain: Annotated[
            bool,
            Field(description="decode well-formed answers only; no effect where probabilities are read"),
        ] = False

    def __init__(self, options: Any, sampling: Sampling, can: frozenset[Capability], reminder: str) -> None:
        """``can``: the engine's capabilities. ``reminder``: the prompt's sentence for a second ask."""
        unwanted = {"ask": [], "close": [Capability.REASK], "none": [Capability.REASK, Capability.PREFILL]}
        self.options, self.sampling, self.reminder = options, sampling, reminder
        self.can = can.difference(unwanted[options.repair])

    @classmethod
    def needs_of(cls, options: Any) -> frozenset[Capability]:
        """Return the capabilities that a judge with these options needs of its engine."""
        return cls.needs

    def check(self, widest: int, tokens: Tokens, prefill: str) -> None:
        """UsageError if the judge can't ask about ``widest`` passages, or not with this tokenizer after ``prefill``."""

    @property
    def wording(self) -> Mapping[str, Any]:
        """The values that the prompt template needs beside query and passages, by name."""
        return {}

    @property
    def counts_unreadable(self) -> bool:
        """Whether an unreadable answer has an outcome that counts where several answers are aggregated."""
        return False

    @property
    def calls(self) -> int:
        """Calls of one question, without repairs."""
        return 1

    @property
    def chain(self) -> int:
        """The longest chain of ``calls`` that depend on one another."""
        return self.calls

    @property
    def carried_tokens(self) -> int:
        """The most tokens that the calls of a question read beside its prompt: those that earlier calls wrote."""
        return 0

    @property
    def written_tokens(self) -> int:
        """The most tokens that the model generates for a question. Probabilities are read without generating."""
        return self.sampling.max_tokens

    @abstractmethod
    async def judge(self, ask: Ask, prompt: Prompt, shown: Sequence[str]) -> Judgement:
        """Ask about the passages ``shown``, which ``prompt`` contains in this order, and read the answer."""

    @staticmethod
    @abstractmethod
    def outcome(judgement: Judgement, indices: Sequence[int]) -> Any:
        """Return what a strategy gets for a judgement of the candidates ``indices``: an order, a score, a choice."""

    @staticmethod
    @abstractmethod
    def agreed(outcomes: Sequence[Any], indices: Sequence[int]) -> Any:
        """Aggregate several outcomes for the candidates ``indices``. Ties keep the order of ``indices``."""

    @property
    def scale(self) -> tuple[float, float] | None:
        """The lowest and the highest score that a candidate can have, if scores mean the same for all queries; else None."""
        return None

    @staticmethod
    def scores(outcome: Any, indices: Sequence[int]) -> Mapping[int, float]:
        """Return the scores in an outcome for the candidates ``indices``, by index; {} for judges that compare candidates."""
        return {indices[0]: outcome} if len(indices) == 1 and isinstance(outcome, float) else {}

    @abstractmethod
    def unmoved(self, indices: Sequence[int]) -> Any:
        """Return the outcome that keeps the first-stage order; ``explain`` counts calls with it."""

    @abstractmethod
    def ideal(self, gains: Sequence[float]) -> str:
        """Return the well-formed answer for passages with these ``gains``, in the order shown."""

    def ideal_for(self, places: Sequence[int], keep: int | None) -> Callable[[Sequence[float]], str]:
        """Return ``ideal`` for a question with these ``Prompt.places`` and ``Prompt.keep``."""
        return self.ideal

    def ideal_choices(self, gains: Sequence[float], choices: Sequence[str]) -> Mapping[str, float]:
        """Return the natural-log probabilities of ``choices`` for these ``gains``, for judges that read choices."""
        raise NotImplementedError(f"the {self.kind} judge does not read choices")

    def answer_tokens(self, n: int) -> int:
        """Return the most tokens of an answer about ``n`` passages, without its thought."""
        return 16
