"""The repair ladder: what to do with an answer that can't be read (design: cut thought, re-ask, keep).

1. The thought was cut and the engine can continue a text: close the thought, decode the answer alone.
2. Still unreadable, and asking again can help: ask once more, with a reminder of the form.
3. Keep the order shown, with a status that says so.

A thinking budget is the first rung with a limit of its own: a thought is cut there and closed. One that ends by itself
within the budget is no repair, even where its answer has to be decoded by a second call.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.judges import Ask
from pyserini_reasonrank.parsing import CLOSE_ANSWER, CLOSE_THINK, OPEN_ANSWER, resumed, split, unanswered
from pyserini_reasonrank.records import Capability, Completion, Judgement, Message, Prompt, Sampling, Status

UNREADABLE = (Status.TRUNCATED, Status.EMPTY)
_THOUGHT = r"(<think>)?([^<]|<+[^/<])*</think>"


@dataclass(frozen=True, slots=True)
class Form:
    """The form of an answer of ``tokens`` tokens at most.

    ``tags``: in an answer tag, after a thought. ``begins``: the characters that all answers begin with. ``pattern``: a
    regular expression for an answer, "" where it is not constrained.
    """

    tokens: int
    tags: bool
    begins: str = ""
    pattern: str = ""

    @property
    def opening(self) -> str:
        """What ends a thought and opens the answer. A bracket holds a model to the form better than any sentence."""
        return f"\n{CLOSE_THINK}\n{OPEN_ANSWER}{self.begins}" if self.tags else f"\n{CLOSE_THINK}\n"

    @property
    def whole(self) -> str:
        """The pattern of thought and answer."""
        if not self.pattern or not self.tags:
            return self.pattern
        return rf"{_THOUGHT}\n?{OPEN_ANSWER}{self.pattern}{CLOSE_ANSWER}"

    @property
    def opened(self) -> str:
        """The pattern of what follows ``opening``."""
        return self.pattern.removeprefix(re.escape(self.begins)) if self.tags else self.pattern


async def climb(
    ask: Ask,
    prompt: Prompt,
    sampling: Sampling,
    reader: Callable[[Completion], Judgement],
    form: Form,
    *,
    can: frozenset[Capability],
    thought_tokens: int | None,
    reminder: str,
) -> Judgement:
    """Ask, read, and repair as far as needed. What is read begins where ``prompt.prefill`` opens a thought or an answer."""

    def read(completion: Completion) -> Judgement:
        return reader(resumed(prompt.prefill, completion))

    first = replace(sampling, max_tokens=thought_tokens or sampling.max_tokens, pattern=form.whole)
    completion = await ask(prompt, first)
    judgement = read(completion)
    if thought_tokens and _answer_was_cut(completion):
        whole = await _answer(ask, prompt, sampling, read, form, completion.text)
        judgement = whole if whole.status in (Status.OK, Status.REPAIRED) else judgement
    elif judgement.status is Status.TRUNCATED and (thought_tokens or Capability.PREFILL in can):
        closed = await _answer(ask, prompt, sampling, read, form, completion.text)
        judgement = _second(closed, "thought closed", judgement)
    if judgement.status in UNREADABLE and Capability.REASK in can:
        again = await ask(remind(prompt, reminder), first, attempt=1)
        judgement = _second(read(again), "asked twice", judgement)
    return judgement


async def think(ask: Ask, prompt: Prompt, sampling: Sampling) -> tuple[Prompt, Judgement]:
    """Let the model think about one passage, ``sampling.max_tokens`` long at most.

    Returns the prompt that goes on after the closed thought, and a judgement without a score: ok, repaired if the
    thought had to be closed, or bad if there is none.
    """
    thought = await ask(prompt, replace(sampling, stop=(CLOSE_THINK,)))
    if bad := unanswered(thought):
        return prompt, Judgement((0,), bad, filled=1, detail=thought.error or "")
    cut = thought.finish_reason == "length"
    judgement = Judgement(
        (0,),
        Status.REPAIRED if cut else Status.OK,
        split(thought.text, cut=True).reasoning,
        detail="thought closed at its budget" if cut else "",
    )
    return replace(prompt, prefill=prompt.prefill + _thought(thought.text) + CLOSE_THINK), judgement


def budgeted(sampling: Sampling, thought_tokens: int | None) -> Sampling:
    """``sampling``, once it is known that a thought of ``thought_tokens`` has room in it."""
    if thought_tokens is not None and thought_tokens > sampling.max_tokens:
        raise UsageError(
            f"--rerank.judge.thought_tokens {thought_tokens} is more than --rerank.sampling.max_tokens "
            f"{sampling.max_tokens}, which the thought and the answer share"
        )
    return sampling


def remind(prompt: Prompt, reminder: str) -> Prompt:
    """The same prompt with a sentence on the form of the answer at its end."""
    *turns, last = prompt.messages
    return replace(prompt, messages=(*turns, Message(last.role, f"{last.content}\n\n{reminder}")))


async def _answer(
    ask: Ask, prompt: Prompt, sampling: Sampling, read: Callable[[Completion], Judgement], form: Form, text: str
) -> Judgement:
    """The answer alone, decoded after the thought in ``text``, which is closed."""
    spoken = _thought(text) + form.opening
    rest = await ask(
        replace(prompt, prefill=prompt.prefill + spoken),
        replace(sampling, max_tokens=form.tokens, stop=("</",), pattern=form.opened),
    )
    return read(replace(rest, text=spoken + rest.text))


def _answer_was_cut(completion: Completion) -> bool:
    """Whether the model closed its thought, but ran out of tokens before the answer was whole."""
    _, closed, answer = completion.text.rpartition(CLOSE_THINK)
    return completion.finish_reason == "length" and bool(closed) and CLOSE_ANSWER not in answer


def _thought(text: str) -> str:
    """A thought, without the closing tag the model may or may not have written."""
    return text.split(CLOSE_THINK, 1)[0]


def _second(found: Judgement, how: str, first: Judgement) -> Judgement:
    """``found``, if it can be read, as a repair; else ``first``, with the failed repair on record."""
    if found.status in (Status.OK, Status.REPAIRED):
        detail = ", ".join(filter(None, (how, found.detail)))
        return replace(found, status=Status.REPAIRED, detail=detail)
    return replace(first, detail=", ".join(filter(None, (first.detail, f"{how}: {found.status}"))))
