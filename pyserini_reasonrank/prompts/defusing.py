"""Documents and queries as data: what a model could take for structure is made harmless, for every prompt, in this place.

A document can contain anything, also the words of a template: the identifier of a passage (``[3]``), a tag of the answer
(``</think>``), or a control token that ends its turn (``<|im_end|>``). Tokenizers read control tokens wherever they are
written. A blank after the first character of a control token makes it ordinary text.
"""

from __future__ import annotations

import re
from typing import Literal

from pyserini_reasonrank.prompts.tokens import Tokens

Defuse = Literal["all", "numbers", "letters", "none"]

_BRACKETED = re.compile(r"\[(\d+)\]")
_BRACKETED_LETTERS = re.compile(r"\[([A-z]+)\]")  # also the six signs between Z and a, as RankLLM and FIRST do
_CONTROL = r"<\|[^<>|\s]{1,40}\|>|<｜[^<>｜\s]{1,40}｜>"  # the second form is DeepSeek's
_TAGS = r"</?(?:think|reason|answer|score)>"


class Defuser:
    """Makes texts harmless for one tokenizer.

    Control tokens are those that ``tokens`` reports, in any case, and everything that is written like one.
    """

    def __init__(self, defuse: Defuse, tokens: Tokens) -> None:
        self._defuse, self._tokens = defuse, tokens
        controls = [token for token in tokens.specials() if not re.fullmatch(_TAGS, token, re.IGNORECASE)]
        longest_first = sorted(controls, key=len, reverse=True)
        control = "|".join([_CONTROL, *map(re.escape, longest_first)])
        self._control = re.compile(control, re.IGNORECASE)
        self._structure = re.compile(f"{control}|{_TAGS}", re.IGNORECASE)
        self._starts = {"<", *(variant for token in controls for variant in (token[0].lower(), token[0].upper()))}

    @property
    def before_cutting(self) -> bool:
        """Whether a text is defused before it is cut to its tokens. Control tokens count as one token each, so they have
        to be gone; the published systems defuse numbers and letters after the cut."""
        return self._defuse == "all"

    def text(self, text: str) -> str:
        """Return a document or a query, defused as far as the setting says."""
        match self._defuse:
            case "none":
                return text
            case "letters":
                return _BRACKETED_LETTERS.sub(r"(\1)", text)
            case "numbers":
                return _BRACKETED.sub(r"(\1)", text)
        return self._broken(_BRACKETED.sub(r"(\1)", text), self._structure)

    def thought(self, text: str) -> str:
        """Return a model's own text that it is shown again. Its tags are structure and stay; control tokens do not.

        A document can make a model spell a control token, which would be read as one in the next prompt.
        """
        return text if self._defuse != "all" else self._broken(text, self._control)

    def _broken(self, text: str, structure: re.Pattern[str]) -> str:
        if not self._starts.isdisjoint(text):
            text = _with_blanks(text, structure)
        read = self._tokens.as_read(text)
        return text if read == text or structure.search(read) is None else _with_blanks(read, structure)


def _with_blanks(text: str, structure: re.Pattern[str]) -> str:
    return structure.sub(lambda found: f"{found.group()[0]} {found.group()[1:]}", text)
