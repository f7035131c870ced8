"""Counting and cutting text in a model's tokens with the tokenizers library (without torch and transformers)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

_CHARACTERS_A_TOKEN = 20  # text beyond this many characters per token of the limit is not tokenized


class Tokens(Protocol):
    """Counts and cuts texts. ``exact`` is False if it only estimates."""

    exact: bool

    def cut(self, texts: Sequence[str], limit: int) -> list[tuple[str, int]]:
        """Return each text cut to its first ``limit`` tokens, with its number of tokens."""
        ...

    def specials(self) -> Iterable[str]:
        """Return the strings that the tokenizer reads as control tokens."""
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

    @cached_property
    def _specials(self) -> tuple[str, ...]:
        return tuple(t.content for t in self._tokenizer.get_added_tokens_decoder().values() if t.special)

    def specials(self) -> Iterable[str]:
        return self._specials


class EstimatedTokens:
    """An estimate without a tokenizer: three characters per token, about a third too many tokens for English prose."""

    exact = False
    characters_a_token = 3

    def cut(self, texts: Sequence[str], limit: int) -> list[tuple[str, int]]:
        size = self.characters_a_token
        return [(text[: limit * size], min(-(-len(text) // size), limit)) for text in texts]

    def specials(self) -> Iterable[str]:
        return ()
