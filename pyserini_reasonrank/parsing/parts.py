"""The parts of a completion: reasoning and answer, separated by the tags that models and servers write.

A completion is an optional thought and the answer, in ``<answer>...</answer>`` if the prompt asks for tags. Thoughts have many
tags: ``<think>``, ``[THINK]``, the channels of gpt-oss.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from pyserini_reasonrank.records import Completion

OPEN_THINK, CLOSE_THINK = "<think>", "</think>"
OPEN_ANSWER, CLOSE_ANSWER = "<answer>", "</answer>"

_THINK = r"(?:seed:)?(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflection|scratchpad)"
_HEADER = r"(?:[^<]|<\|constrain\|>)*<\|message\|>"  # the rest of the header of a message of gpt-oss
_TAG = re.compile(
    rf"(?P<open><{_THINK}>|\[THINK\]|◁think▷|<\|(?:begin_of_thought|START_THINKING|inner_prefix)\|>|\Aanalysis(?=[A-Z])"
    rf"|<\|channel\|>\s*(?:analysis|commentary){_HEADER})"
    rf"|(?P<close></{_THINK}>|\[/THINK\]|◁/think▷|<\|(?:end_of_thought|END_THINKING|inner_suffix)\|>|assistantfinal"
    rf"|<\|channel\|>\s*final{_HEADER})"
    r"|(?P<answer><answer>)|(?P<end></answer>)",
    re.IGNORECASE,
)
_TAG_STARTS = ("<", "◁", "[/", "[t", "[T")
"""Where a tag can start, apart from the tags of gpt-oss without control tokens."""
_ENDS_ANALYSIS = "assistantfinal"
_LIKE_S_OR_I = frozenset("ſıİ")
"""Letters that equal s or i if case is ignored."""
_CONTROL = re.compile(r"(?:<\|start\|>\s*assistant\s*)|<\|(?:start|end|return|call)\|>")  # between messages of gpt-oss
# "[3] > [1", "1. [3]", "Ranking: [3]", "Passage [3]"
_BEGINS_AS_A_LIST = re.compile(
    r"[\s*#]*(?:[A-Z]\w*\s+(?=\[)|[A-Z][\w ]{0,40}:[\s*]*)?(?:\(?\d+\s*[.):]+\s*)?(?:\[\s*\d|\[[A-Z]\]|\d+\s*[\]>,])"
)
_HARMLESS = str.maketrans("<>[]", "‹›⁅⁆")

Tags = Sequence[tuple[str, re.Match[str]]]
"""The tags of a text, each with its kind: open or close, of a thought, and answer or end, of an answer."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a completion. ``answer`` is None if the thought never ended. ``note`` names a fault of the tags."""

    reasoning: str
    answer: str | None
    tagged: bool
    note: str = ""


def split(text: str, *, cut: bool = False) -> Parts:
    """Separate reasoning from answer. ``cut``: the token limit ended the thought.

    The answer is after the last closed thought; an answer tag within a thought does not count. After it, the last complete
    answer tag counts, else one that was never closed, else the whole text. An open thought has no answer, unless the text
    ends with a complete answer tag. If nothing follows the thought, an answer tag before it counts.
    """
    tags = [(str(match.lastgroup), match) for match in _tags(text)]
    if (parts := _answered_first(text, tags)) is not None:
        return parts
    begin = _end_of_thought(text, tags)
    again = next((match for kind, match in tags if kind == "open" and match.start() >= begin), None)
    end = again.start() if again else len(text)
    block = _block(text, [(kind, match) for kind, match in tags if begin <= match.start() < end], end)
    if again and not (block and block.complete):
        last = _block(text, tags, len(text))
        if cut or not (last and last.complete and last.start >= end and text.rstrip().endswith(last.closing)):
            return Parts(_untag(text, tags, 0, len(text)), None, tagged=False)
        return Parts(_untag(text, tags, 0, last.start), last.answer, tagged=True, note="the thought was not closed")
    if block and not (cut and not begin and _quoted(text, block)):
        return Parts(_untag(text, tags, 0, block.start), block.answer, tagged=True)
    if begin:
        return Parts(_untag(text, tags, 0, begin), _uncontrolled(text[begin:]), tagged=False)
    if cut:
        return Parts(_untag(text, tags, 0, len(text)), None, tagged=False)
    return Parts("", text, tagged=False)


def was_cut(completion: Completion, *, tags: bool) -> bool:
    """Whether a text without any tag is a cut thought rather than an answer.

    Without ``tags`` in the prompt it can be either, since a chat template may have opened the thought: it is an answer if it
    begins with a list, after at most a few words.
    """
    if completion.finish_reason != "length":
        return False
    return tags or not _BEGINS_AS_A_LIST.match(completion.text)


def parts_of(completion: Completion, *, tags: bool) -> Parts:
    """Split a completion into its parts. ``tags``: the prompt asks for an answer tag."""
    return split(completion.text, cut=was_cut(completion, tags=tags))


def resumed(prefill: str, completion: Completion) -> Completion:
    """Prepend the tag that ``prefill`` opened, with the text after it, to the completion that continues it."""
    begun = _TAG.search(prefill)
    if begun is None or not completion.text.strip():
        return completion
    return replace(completion, text=prefill[begun.start() :] + completion.text)


def joined(reasoning: str, answer: str, *, cut: bool) -> str:
    """Return a completion's text for the reasoning and the answer that a server separated. ``cut``: there is no answer yet.

    Tags in the reasoning are made harmless, so that only the server decides where the reasoning ends.
    """
    harmless = _with_tags(reasoning, lambda tag: tag.group().translate(_HARMLESS))
    return OPEN_THINK + harmless if cut else f"{OPEN_THINK}{harmless}{CLOSE_THINK}\n{answer}"


@dataclass(frozen=True, slots=True)
class _Block:
    """An answer tag: where it starts, its text, and the tag that closes it ("" if none does)."""

    start: int
    answer: str
    closing: str

    @property
    def complete(self) -> bool:
        return bool(self.closing and self.answer.strip())


def _answered_first(text: str, tags: Tags) -> Parts | None:
    """Return the parts of a text that ends with its only thought, after a complete answer tag; None for other texts."""
    kinds = [kind for kind, _ in tags if kind in ("open", "close")]
    if kinds != ["open", "close"] or text[tags[-1][1].end() :].strip() or tags[-1][0] != "close":
        return None
    opened = next(match.start() for kind, match in tags if kind == "open")
    block = _block(text, [(kind, match) for kind, match in tags if match.start() < opened], opened)
    if block is None or not block.complete:
        return None
    return Parts(
        _untag(text, tags, opened, len(text)), block.answer, tagged=True, note="the answer precedes the reasoning"
    )


def _end_of_thought(text: str, tags: Tags) -> int:
    """Return where the last closed thought ends; 0 without one. A second closing tag after the answer does not count."""
    closed = [match for kind, match in tags if kind == "close"]
    if len(closed) > max(1, sum(kind == "open" for kind, _ in tags)):
        last = closed[-1]
        if not text[last.end() :].strip() and text[: last.start()].rstrip().lower().endswith(CLOSE_ANSWER):
            closed.pop()
    return closed[-1].end() if closed else 0


def _block(text: str, tags: Tags, end: int) -> _Block | None:
    """Return the last complete answer tag before ``end``; if none is complete, the last one with a text, else the last."""
    blocks = []
    answers = [(kind, match) for kind, match in tags if kind in ("answer", "end")]
    for (kind, match), (after, following) in pairwise([*answers, ("", None)]):
        if kind == "answer" and match is not None:
            until = following.start() if following else end
            closing = following.group() if following and after == "end" else ""
            blocks.append(_Block(match.start(), _uncontrolled(text[match.end() : until]), closing))
    written = [block for block in blocks if block.complete] or [block for block in blocks if block.answer.strip()]
    return next(reversed(written or blocks), None)


def _quoted(text: str, block: _Block) -> bool:
    """Whether the answer tag of a cut text without a closed thought is a mention in the thought."""
    if not text[: block.start].strip():
        return False
    if block.closing:
        return not text.rstrip().endswith(block.closing)
    return not _BEGINS_AS_A_LIST.match(block.answer)


def _untag(text: str, tags: Tags, begin: int, end: int) -> str:
    """The text from ``begin`` to ``end`` without its tags, given all ``tags`` of the text. None of them crosses these places."""
    pieces = list[str]()
    for _, tag in tags:
        if begin <= tag.start() < end:
            pieces.append(text[begin : tag.start()])
            begin = tag.end()
    return _uncontrolled("".join([*pieces, text[begin:end]])).strip()


def _uncontrolled(text: str) -> str:
    """Remove the control tokens between messages."""
    return _CONTROL.sub("", text) if "<|" in text else text


def _tags(text: str) -> Iterator[re.Match[str]]:
    """Yield the tags in a text, as ``_TAG.finditer`` does; that alone takes longer on a long thought than the rest of a call."""
    if _ENDS_ANALYSIS in text.lower() or not (text.isascii() or _LIKE_S_OR_I.isdisjoint(text)):
        yield from _TAG.finditer(text)
        return
    end = 0
    for start in sorted({0, *(place for mark in _TAG_STARTS for place in _places(text, mark))}):
        if start >= end and (match := _TAG.match(text, start)):
            yield match
            end = match.end()


def _places(text: str, mark: str) -> Iterator[int]:
    place = text.find(mark)
    while place >= 0:
        yield place
        place = text.find(mark, place + 1)


def _with_tags(text: str, replaced: Callable[[re.Match[str]], str]) -> str:
    """Replace every tag in a text."""
    pieces, end = list[str](), 0
    for tag in _tags(text):
        pieces += [text[end : tag.start()], replaced(tag)]
        end = tag.end()
    return "".join([*pieces, text[end:]])
