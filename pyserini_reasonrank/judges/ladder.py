"""The repair ladder: what to do with an answer that can't be read (design: cut thought, re-ask, keep).

1. The thought was cut and the engine can continue a text: close the thought, decode the answer alone.
2. Still unreadable, and asking again can help: ask once more, with a reminder of the form.
3. Keep the order shown, with a status that says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pyserini_reasonrank.engines import Capability
from pyserini_reasonrank.judges import Ask
from pyserini_reasonrank.records import Completion, Judgement, Message, Prompt, Sampling, Status

UNREADABLE = (Status.TRUNCATED, Status.EMPTY)


async def climb(
    ask: Ask,
    prompt: Prompt,
    sampling: Sampling,
    read: Callable[[Completion], Judgement],
    *,
    can: frozenset[Capability],
    closing: str,
    answer_tokens: int,
    reminder: str,
) -> Judgement:
    """Ask, read, and repair as far as needed. ``closing`` ends a cut thought and opens the answer
    with its first bracket, which holds a model to the form better than any sentence."""
    completion = await ask(prompt, sampling)
    judgement = read(completion)
    if judgement.status is Status.TRUNCATED and Capability.PREFILL in can:
        spoken = completion.text + closing
        rest = await ask(
            replace(prompt, prefill=prompt.prefill + spoken), replace(sampling, max_tokens=answer_tokens, stop=("</",))
        )
        if rest.error is None:
            judgement = _second(read(replace(rest, text=spoken + rest.text)), "thought closed", judgement)
    if judgement.status in UNREADABLE and Capability.REASK in can:
        again = await ask(remind(prompt, reminder), sampling, sample=1)
        judgement = _second(read(again), "asked twice", judgement)
    return judgement


def remind(prompt: Prompt, reminder: str) -> Prompt:
    """The same prompt with a sentence on the form of the answer at its end."""
    *turns, last = prompt.messages
    return replace(prompt, messages=(*turns, Message(last.role, f"{last.content}\n\n{reminder}")))


def _second(found: Judgement, how: str, first: Judgement) -> Judgement:
    """``found``, if it can be read, as a repair; else ``first``, with the failed repair on record."""
    if found.status in (Status.OK, Status.REPAIRED):
        detail = ", ".join(filter(None, (how, found.detail)))
        return replace(found, status=Status.REPAIRED, detail=detail)
    return replace(first, detail=", ".join(filter(None, (first.detail, f"{how}: {found.status}"))))
