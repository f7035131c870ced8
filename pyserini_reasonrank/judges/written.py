"""Judges whose answer is written out as text: a thought and an answer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any

from pydantic import Field

from pyserini_reasonrank.judges import Ask, Judge
from pyserini_reasonrank.judges.repair import AnswerForm, ask_and_repair, checked_budget
from pyserini_reasonrank.records import Capability, Completion, Judgement, Prompt, Sampling

ThoughtTokens = Annotated[int | None, Field(ge=1, description="tokens at which a thought is cut and closed")]


class Written(Judge):
    """Asks for a thought and an answer, and reads the answer."""

    class Options(Judge.Options):
        tags: Annotated[bool, Field(description="the prompt asks for <think> and <answer> tags")] = True
        thought_tokens: ThoughtTokens = None

    def __init__(self, options: Any, sampling: Sampling, can: frozenset[Capability], reminder: str) -> None:
        super().__init__(options, checked_budget(sampling, options.thought_tokens), can, reminder)

    @classmethod
    def needs_of(cls, options: Any) -> frozenset[Capability]:
        wanted = {Capability.PATTERN: options.constrain, Capability.PREFILL: options.thought_tokens is not None}
        return cls.needs | {capability for capability, want in wanted.items() if want}

    async def judge(self, ask: Ask, prompt: Prompt, shown: Sequence[str]) -> Judgement:
        n, o = len(shown), self.options
        return await ask_and_repair(
            ask,
            prompt,
            self.sampling,
            self.reader_for(prompt, shown),
            AnswerForm(
                self.answer_tokens(n),
                self.thought_tag,
                self.answer_tag,
                self.begins,
                self.pattern(n) if o.constrain else "",
            ),
            can=self.can,
            thought_tokens=o.thought_tokens,
            reminder=self.reminder,
        )

    @property
    def thought_tag(self) -> str:
        """The name of the tag around the thought; "" if the thought is text before the answer."""
        return "think"

    @property
    def answer_tag(self) -> str:
        """The name of the tag around the answer; "" without one."""
        return "answer" if self.options.tags else ""

    @property
    def begins(self) -> str:
        """The characters that every answer begins with."""
        return "["

    def reader_for(self, prompt: Prompt, shown: Sequence[str]) -> Callable[[Completion], Judgement]:
        """Return the function that reads an answer to ``prompt``, about the passages ``shown``."""
        return self.reader(shown)

    def reader(self, shown: Sequence[str]) -> Callable[[Completion], Judgement]:
        """Return the function that reads an answer about the passages ``shown``."""
        return partial(self.read, n=len(shown))

    @abstractmethod
    def read(self, completion: Completion, n: int) -> Judgement:
        """Read an answer about ``n`` passages."""

    @abstractmethod
    def pattern(self, n: int) -> str:
        """Return a regular expression for a well-formed answer about ``n`` passages, without its tags."""

    def written(self, thought: str, answer: str) -> str:
        """Return a well-formed completion."""
        thought_tag, answer_tag = self.thought_tag, self.answer_tag
        return (
            f"<{thought_tag}>{thought}</{thought_tag}>\n<{answer_tag}>{answer}</{answer_tag}>" if answer_tag else answer
        )


def identifier(n: int) -> str:
    """Return a regular expression for the identifier of one of ``n`` passages."""
    return rf"\[({'|'.join(map(str, range(1, n + 1)))})\]"
