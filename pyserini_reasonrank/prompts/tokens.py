"""Counting and cutting text in a model's tokens with the tokenizers library (without torch and transformers)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
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


class Tokens(Protocol):
    """Counts and cuts texts. ``exact`` is False if it only estimates."""

    exact: bool

    def cut(self, texts: Sequence[str], limit: int) -> list[tuple[str, int]]:
        """Return each text cut to its first ``limit`` tokens, with its number of tokens."""
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
        heads = [text[: limit * _CHARACTERS_A_TOKEN] for text in texts]
        counts = [len(e) for e in self._tokenizer.encode_batch_fast(heads, add_special_tokens=False)]
        return [
            (text, count) if count <= limit and len(head) == len(text) else self._cut_one(text, limit)
            for text, head, count in zip(texts, heads, counts, strict=True)
        ]

    def _cut_one(self, text: str, limit: int) -> tuple[str, int]:
        if limit < 1:
            return "", 0
        characters = limit * _CHARACTERS_A_TOKEN
        while True:
            offsets = self._tokenizer.encode(text[:characters], add_special_tokens=False).offsets
            if len(offsets) > limit:  # before the next token, which may continue a character of this one
                return text[: min(offsets[limit - 1][1], offsets[limit][0])], limit
            if characters >= len(text):
                return text, len(offsets)
            characters *= 4

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

    def starts(self, text: str, limit: int) -> list[int]:
        return list(range(0, len(text), self.characters_a_token))[:limit]

    def specials(self) -> Iterable[str]:
        return _WELL_KNOWN

    def as_read(self, text: str) -> str:
        return text
