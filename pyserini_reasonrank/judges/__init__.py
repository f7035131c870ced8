"""Judges: one question to the LLM about the passages shown, and the reading of its answer.

A judge is a coroutine over ``ask``, which sends a prompt and brings back a completion: it may ask again (the repair
ladder of ladder.py), but always ends in one Judgement. It knows no query, engine, journal or strategy.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from pyserini_reasonrank.prompts.tokens import Tokens
from pyserini_reasonrank.records import Capability, Completion, Judgement, Prompt, Sampling


class Ask(Protocol):
    """Send a prompt. ``attempt`` > 0 requests a new answer to the same prompt."""

    def __call__(self, prompt: Prompt, sampling: Sampling, *, attempt: int = 0) -> Awaitable[Completion]: ...


class Judge(ABC):
    """One kind of question, asked with one sampling of one engine."""

    kind: ClassVar[str]
    needs: ClassVar[frozenset[Capability]] = frozenset()

    class Options(BaseModel):
        """The settings of a judge, ``--rerank.judge.NAME``."""

        model_config = ConfigDict(extra="forbid", frozen=True)

        shuffle: Annotated[bool, Field(description="show the candidates of a call in a random order (Rank-R1)")] = False
        repair: Annotated[
            Literal["none", "close", "ask"],
            Field(
                description="of an unreadable answer; close: end a cut thought and decode the answer; ask: that, then ask once more"
            ),
        ] = "ask"
        seed: Annotated[int, Field(description="of the shuffle, together with query and call")] = 929
        votes: Annotated[int, Field(ge=1, description="times each question is asked, the answers taken together")] = 1
        constrain: Annotated[
            bool,
            Field(
                description="the engine writes well-formed answers only; where probabilities are read, nothing changes"
            ),
        ] = False

    def __init__(self, options: Any, sampling: Sampling, can: frozenset[Capability], reminder: str) -> None:
        """``can``: what the engine can do. ``reminder``: the prompt's sentence for a second ask."""
        unwanted = {"ask": [], "close": [Capability.REASK], "none": [Capability.REASK, Capability.PREFILL]}
        self.options, self.sampling, self.reminder = options, sampling, reminder
        self.can = can.difference(unwanted[options.repair])

    @classmethod
    def needs_of(cls, options: Any) -> frozenset[Capability]:
        """What an engine has to be able to do for a judge with these options."""
        return cls.needs

    def check(self, widest: int, tokens: Tokens, prefill: str) -> None:
        """UsageError if the judge can't ask about ``widest`` passages, or not in this tokenizer after ``prefill``."""

    @property
    def wording(self) -> Mapping[str, Any]:
        """What a prompt's wording depends on beside query and passages, by name."""
        return {}

    @property
    def calls(self) -> int:
        """Calls that a question takes when nothing has to be repaired."""
        return 1

    @property
    def chain(self) -> int:
        """How many of ``calls`` wait for one another."""
        return self.calls

    @property
    def carried_tokens(self) -> int:
        """Tokens that the calls of a question read beside its prompt, at most: what was written before them."""
        return 0

    @property
    def written_tokens(self) -> int:
        """Tokens that the model writes for a question at most; what is read as probabilities is not written."""
        return self.sampling.max_tokens

    @abstractmethod
    async def judge(self, ask: Ask, prompt: Prompt, shown: Sequence[str]) -> Judgement:
        """Ask about the passages ``shown``, which ``prompt`` holds in this order, and read the answer."""

    @staticmethod
    @abstractmethod
    def outcome(judgement: Judgement, indices: Sequence[int]) -> Any:
        """What a strategy gets for a judgement of the candidates ``indices``: an order, a score, a choice."""

    @staticmethod
    @abstractmethod
    def agreed(outcomes: Sequence[Any], indices: Sequence[int]) -> Any:
        """The outcome that several votes on the candidates ``indices`` come to; ties go to the first stage."""

    @abstractmethod
    def unmoved(self, indices: Sequence[int]) -> Any:
        """The outcome of a judge who finds the first-stage order right; what ``explain`` counts with."""

    @abstractmethod
    def ideal(self, gains: Sequence[float]) -> str:
        """The well-formed answer of an assessor who gave ``gains`` to the passages, in the order shown."""

    def ideal_choices(self, gains: Sequence[float], choices: Sequence[str]) -> Mapping[str, float]:
        """What that assessor would answer as probabilities of ``choices``, for judges that read choices."""
        raise NotImplementedError(f"the {self.kind} judge reads no choices")

    def answer_tokens(self, n: int) -> int:
        """Tokens that an answer about ``n`` passages takes at most, its thought not counted."""
        return 16
