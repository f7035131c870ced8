"""Counting and cutting text in a model's tokens with the tokenizers library (without torch and transformers)."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

_HTML = r"</?(?:[abisu]|em|strong|su[bp]|code|blockquote|caption|h[1-6]|t[dhr]|table|tbody|tfoot|thead)>"
_ORDINARY = re.compile(rf"\W*|{_HTML}")  # some tokenizers have tokens for runs of blanks or signs, Gemma's for tags
_WELL_KNOWN = (
    *("<s>", "</s>", "<bos>", "<eos>", "<pad>", "<unk>"),
    *("<start_of_turn>", "<end_of_turn>"),
    *("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"),
    *("[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[IMG]"),
    *("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"),
)
"""Control tokens of Llama 2, Mistral, Gemma and Qwen, for models whose tokenizer is unknown. Those of Llama 3, gpt-oss and
DeepSeek have a form of their own (see ``prompts.defusing``)."""
_CHARACTERS_A_TOKEN = 20  # text beyond this many characters per token of the limit is not tokenized
_USUAL = 4, 8  # characters per token: fewer than in most texts, and more
_SETTLED = 256  # characters after a token: the text behind them does not change it, since words are shorter


class Tokens(Protocol):
    """Counts and cuts texts. ``exact`` is False if it only estimates."""

    exact: bool

    def cut(self, texts: Sequence[str], limit: int) -> list[tuple[str, int]]:
        """Return each text cut to its first ``limit`` tokens, with its number of tokens."""
        ...

    def ends(self, texts: Sequence[str]) -> list[array[int]]:
        """Return for each text the characters at which ``cut`` ends its first token, its first two, and so on up to all.

        ``cut`` ends elsewhere only where it stops to read within 256 characters after the token.
        """
        ...

    def starts(self, text: str, limit: int) -> list[int]:
        """Return the characters at which the first ``limit`` tokens of the text begin, in its order."""
        ...

    def specials(self) -> Iterable[str]:
        """Return the strings that the tokenizer reads as control tokens."""
        ...

    def as_read(self, text: str) -> str:
        """Return the text in which the tokenizer looks for control tokens: ``text``, or its normal form."""
        ...


class ModelTokens:
    """The tokens of a ``tokenizer.json``."""

    exact = True

    def __init__(self, file: Path) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(file))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def cut(self, texts: Sequence[str], limit: int) -> list[tuple[str, int]]:
        """As in ``Tokens``. Texts that are short enough to fit are only counted, which is faster."""
        if limit < 1:
            return [("", 0) for _ in texts]
        few, many = _USUAL
        short = [i for i, text in enumerate(texts) if len(text) <= few * limit]
        long = [i for i, text in enumerate(texts) if len(text) > few * limit]
        found: dict[int, tuple[str, int]] = {}
        counted = self._tokenizer.encode_batch_fast([texts[i] for i in short], add_special_tokens=False)
        for i, encoding in zip(short, counted, strict=True):
            count = len(encoding)
            found[i] = (texts[i], count) if count <= limit else self._cut_one(texts[i], limit)
        heads = [texts[i][: many * limit + _SETTLED] for i in long]
        encoded = self._tokenizer.encode_batch(heads, add_special_tokens=False)
        for i, head, encoding in zip(long, heads, encoded, strict=True):
            found[i] = _cut_encoded(texts[i], head, encoding, limit) or self._cut_one(texts[i], limit)
        return [found[i] for i in range(len(texts))]

    def _cut_one(self, text: str, limit: int) -> tuple[str, int]:
        characters = limit * _CHARACTERS_A_TOKEN
        while True:
            offsets = self._tokenizer.encode(text[:characters], add_special_tokens=False).offsets
            if len(offsets) > limit:  # before the next token, which may continue a character of this one
                return text[: min(offsets[limit - 1][1], offsets[limit][0])], limit
            if characters >= len(text):
                return text, len(offsets)
            characters *= 4

    def ends(self, texts: Sequence[str]) -> list[array[int]]:
        encoded = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [_ends(encoding.offsets, len(text)) for encoding, text in zip(encoded, texts, strict=True)]

    def starts(self, text: str, limit: int) -> list[int]:
        characters = max(limit, 1) * _CHARACTERS_A_TOKEN
        while True:
            offsets = self._tokenizer.encode(text[:characters], add_special_tokens=False).offsets
            if len(offsets) > limit or characters >= len(text):
                return [begin for begin, _ in offsets[:limit]]
            characters *= 4

    @cached_property
    def _controls(self) -> tuple[Any, ...]:
        """The added tokens, which are read wherever they are written; some tokenizers do not mark all of them as special."""
        added = self._tokenizer.get_added_tokens_decoder().values()
        return tuple(t for t in added if t.special or _ORDINARY.fullmatch(t.content) is None)

    @cached_property
    def _specials(self) -> tuple[str, ...]:
        return tuple(token.content for token in self._controls)

    @cached_property
    def _normalizer(self) -> Any:
        """The normalizer, if there are control tokens that are read in normalized text."""
        return self._tokenizer.normalizer if any(token.normalized for token in self._controls) else None

    def specials(self) -> Iterable[str]:
        return self._specials

    def as_read(self, text: str) -> str:
        if self._normalizer is None:
            return text
        return str(self._normalizer.normalize_str(text.encode(errors="replace").decode()))  # half a surrogate pair


class EstimatedTokens:
    """An estimate without a tokenizer: three characters per token, about a third too many tokens for English prose."""

    exact = False
    characters_a_token = 3

    def cut(self, texts: Sequence[str], limit: int) -> list[tuple[str, int]]:
        size = self.characters_a_token
        return [(text[: limit * size], min(-(-len(text) // size), limit)) for text in texts]

    def ends(self, texts: Sequence[str]) -> list[array[int]]:
        size = self.characters_a_token
        return [array("I", [*range(size, len(text), size), *[len(text)] * bool(text)]) for text in texts]

    def starts(self, text: str, limit: int) -> list[int]:
        return list(range(0, len(text), self.characters_a_token))[:limit]

    def specials(self) -> Iterable[str]:
        return _WELL_KNOWN

    def as_read(self, text: str) -> str:
        return text


def _ends(offsets: Sequence[tuple[int, int]], length: int) -> array[int]:
    """The ends of the tokens at ``offsets``: before the next token, which may continue a character of this one."""
    following = islice(offsets, 1, None)
    ends = array("I", [min(end, begin) for (_, end), (begin, _) in zip(offsets, following, strict=False)])
    if offsets:
        ends.append(length)
    return ends


def _cut_encoded(text: str, head: str, encoding: Any, limit: int) -> tuple[str, int] | None:
    """``text`` cut to ``limit`` tokens by the tokens of its beginning ``head``; None if more of the text has to be read."""
    whole, count = len(head) == len(text) <= limit * _CHARACTERS_A_TOKEN, len(encoding)
    if count <= limit:
        return (text, count) if whole else None
    begin, end = encoding.token_to_chars(limit)
    if not whole and end + _SETTLED > min(len(head), limit * _CHARACTERS_A_TOKEN):
        return None
    return text[: min(encoding.token_to_chars(limit - 1)[1], begin)], limit


def cut_at(text: str, ends: Sequence[int], limit: int) -> str | None:
    """``text`` cut to ``limit`` tokens by its ``Tokens.ends``, as ``Tokens.cut`` does; None where that may end elsewhere."""
    if limit >= len(ends):
        return text
    if limit < 1:
        return ""
    read = limit * _CHARACTERS_A_TOKEN
    return text[: ends[limit - 1]] if len(text) <= read or ends[limit] + _SETTLED <= read else None
