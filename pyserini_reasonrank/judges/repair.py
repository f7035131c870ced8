"""Repair of answers that can't be read, in three steps.

1. If the thought was cut and the engine can continue a text, close the thought and decode the answer alone.
2. If the answer is still unreadable, or most of its order had to be filled in, and asking again can help, ask once more
   with a reminder of the form. Of two readable answers, the one with less filled in counts; ties: the second.
3. Otherwise keep the order shown, with a status that says so.

A thinking budget uses step 1 with a limit of its own: the thought is cut there and closed. A thought that ends by itself
within the budget does not count as repaired, even if its answer is decoded by a second call.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.judges import Ask
from pyserini_reasonrank.parsing import unanswered
from pyserini_reasonrank.parsing.parts import CLOSE_THINK, OPEN_THINK, resumed, split
from pyserini_reasonrank.records import Capability, Completion, Judgement, Message, Prompt, Sampling, Status

UNREADABLE = (Status.TRUNCATED, Status.EMPTY)


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """The form of an answer of at most ``tokens`` tokens.

    ``thought`` and ``answer`` are the names of their tags: "" for a thought that is text before the answer, and for an answer
    without a tag. ``begins``: the characters that all answers in a tag begin with. ``pattern``: a regular expression for the
    answer, "" if decoding is not constrained.
    """

    tokens: int
    thought: str = "think"
    answer: str = ""
    begins: str = ""
    pattern: str = ""

    def begun(self, text: str) -> str:
        """Return ``text`` with its thought closed and the answer opened. A bracket enforces the form better than any
        instruction."""
        opening = f"<{self.answer}>{self.begins}" if self.answer else ""
        if self.thought:
            closing = f"</{self.thought}>"
            return f"{text.split(closing, 1)[0]}\n{closing}\n{opening}"
        thinks = text.rfind(OPEN_THINK) > text.rfind(CLOSE_THINK)
        return f"{text}\n{CLOSE_THINK}\n{opening}" if thinks else f"{text}\n{opening}"

    def was_cut(self, completion: Completion) -> bool:
        """Whether the model closed its thought, but reached the token limit before the end of the answer."""
        _, closed, answer = completion.text.rpartition(f"</{self.thought}>")
        complete = f"</{self.answer or 'answer'}>" in answer
        return completion.finish_reason == "length" and bool(self.thought and closed) and not complete

    @property
    def whole(self) -> str:
        """The pattern of thought and answer."""
        if not self.pattern or not self.answer:
            return self.pattern
        tagged = rf"(<{self.thought}>)?([^<]|<+[^/<])*</{self.thought}>\n?"
        thought = tagged if self.thought else rf"([^<]|<+[^/<{self.answer[0]}])*"
        return rf"{thought}<{self.answer}>{self.pattern}</{self.answer}>"

    @property
    def rest(self) -> str:
        """The pattern of what follows the text of ``begun``."""
        return self.pattern.removeprefix(re.escape(self.begins).replace("\\\n", r"\n")) if self.answer else self.pattern


async def ask_and_repair(
    ask: Ask,
    prompt: Prompt,
    sampling: Sampling,
    reader: Callable[[Completion], Judgement],
    form: AnswerForm,
    *,
    can: frozenset[Capability],
    thought_tokens: int | None,
    reminder: str,
) -> Judgement:
    """Ask, read the answer, and repair it if needed.

    ``reader`` gets the text from where ``prompt.prefill`` opens a thought or an answer."""

    def read(completion: Completion) -> Judgement:
        return reader(resumed(prompt.prefill, completion))

    first = sampling
    if thought_tokens or form.whole != sampling.pattern:
        first = replace(sampling, max_tokens=thought_tokens or sampling.max_tokens, pattern=form.whole)
    completion = await ask(prompt, first)
    judgement = read(completion)
    if thought_tokens and form.was_cut(completion):
        whole = await _answer(ask, prompt, sampling, read, form, completion.text)
        judgement = whole if whole.status in (Status.OK, Status.REPAIRED) else judgement
    elif judgement.status is Status.TRUNCATED and (thought_tokens or Capability.PREFILL in can):
        closed = await _answer(ask, prompt, sampling, read, form, completion.text)
        judgement = _second(closed, "thought closed", judgement)
    if (judgement.status in UNREADABLE or _mostly_filled(judgement)) and Capability.REASK in can:
        again = read(await ask(remind(prompt, reminder), first, attempt=1))
        if judgement.status.bad or again.status.bad or again.filled <= judgement.filled:
            judgement = _second(again, "asked twice", judgement)
    return judgement


def thinking(sampling: Sampling) -> Sampling:
    """Return the sampling of a thought: it ends where the model closes it."""
    return replace(sampling, stop=(CLOSE_THINK,))


async def think(ask: Ask, prompt: Prompt, sampling: Sampling) -> tuple[Prompt, Judgement]:
    """Let the model think about one passage for at most ``sampling.max_tokens`` tokens; ``sampling`` as by ``thinking``.

    Returns the prompt that continues after the closed thought, and a judgement without a score: ok, repaired if the
    thought was cut, or bad if there is no thought.
    """
    thought = await ask(prompt, sampling)
    if bad := unanswered(thought):
        return prompt, Judgement((0,), bad, filled=1, detail=thought.error or "")
    cut = thought.finish_reason == "length"
    judgement = Judgement(
        (0,),
        Status.REPAIRED if cut else Status.OK,
        split(thought.text, cut=True).reasoning,
        detail="thought closed at its budget" if cut else "",
    )
    return prompt.begun(prompt.prefill + _thought(thought.text) + CLOSE_THINK), judgement


def checked_budget(sampling: Sampling, thought_tokens: int | None) -> Sampling:
    """Return ``sampling``. UsageError if ``thought_tokens`` is more than ``max_tokens``."""
    if thought_tokens is not None and thought_tokens > sampling.max_tokens:
        raise UsageError(
            f"--rerank.judge.thought_tokens {thought_tokens} is more than --rerank.sampling.max_tokens "
            f"{sampling.max_tokens}, which the thought and the answer share"
        )
    return sampling


def remind(prompt: Prompt, reminder: str) -> Prompt:
    """Return the prompt with a sentence on the form of the answer at its end."""
    *turns, last = prompt.messages
    return replace(prompt, messages=(*turns, Message(last.role, f"{last.content}\n\n{reminder}")))


async def _answer(
    ask: Ask, prompt: Prompt, sampling: Sampling, read: Callable[[Completion], Judgement], form: AnswerForm, text: str
) -> Judgement:
    """Close the thought in ``text``, decode the answer alone, and read it."""
    spoken = form.begun(text)
    rest = await ask(
        prompt.begun(prompt.prefill + spoken),
        replace(sampling, max_tokens=form.tokens, stop=("</",), pattern=form.rest),
    )
    return read(replace(rest, text=spoken + rest.text))


def _mostly_filled(judgement: Judgement) -> bool:
    """Whether the answer gave less than half of an order."""
    return judgement.status is Status.REPAIRED and 2 * judgement.filled > len(judgement.order)


def _thought(text: str) -> str:
    """Return the thought without a closing tag."""
    return text.split(CLOSE_THINK, 1)[0]


def _second(found: Judgement, how: str, first: Judgement) -> Judgement:
    """Return ``found`` as a repair if it could be read; otherwise ``first`` with a note on the failed repair."""
    if found.status in (Status.OK, Status.REPAIRED):
        detail = ", ".join(filter(None, (how, found.detail)))
        return replace(found, status=Status.REPAIRED, detail=detail)
    return replace(first, detail=", ".join(filter(None, (first.detail, f"{how}: {found.status}"))))
