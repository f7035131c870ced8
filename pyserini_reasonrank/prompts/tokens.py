"""Counting and cutting text in a model's own tokens, with the tokenizer alone (no torch, no transformers)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

_CHARACTERS_A_TOKEN = 20  # text beyond this many characters per token wanted is never looked at


class Tokens(Protocol):
    """Counts and cuts texts. ``exact`` is False for an estimate."""

    exact: bool

    def cut(self, texts: Sequence[str], limit: int) -> list[tuple[str, int]]:
        """Each text, cut to its first ``limit`` tokens, with its number of tokens."""
        ...

    def specials(self) -> Iterable[str]:
        """Strings that this tokenizer reads as control tokens."""
        ...


class ModelTokens:
    """A ``tokenizer.json``."""

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
            if len(offsets) > limit:  # before the next token, which may hold the rest of a character begun in this one
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
    """No tokenizer at hand: three characters a token, which over-counts English prose by about a third."""

    exact = False
    characters_a_token = 3

    def cut(self, texts: Sequence[str], limit: int) -> list[tuple[str, int]]:
        size = self.characters_a_token
        return [(text[: limit * size], min(-(-len(text) // size), limit)) for text in texts]

    def specials(self) -> Iterable[str]:
        return ()
