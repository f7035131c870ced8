"""Mending wrongly decoded text: what ftfy does, and nothing at all to plain text."""

from __future__ import annotations

import string

import pytest
from ftfy import fix_text
from hypothesis import given
from hypothesis import strategies as st

from pyserini_reasonrank.prompts.mending import mended


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("up to Â¼-inch long", "up to ¼-inch long"),
        ("Ahab,â\x80\x94all other", "Ahab,—all other"),
        ("Smith &amp; Sons", "Smith & Sons"),
        ("the ‘hat’ matrix", "the 'hat' matrix"),
        ("redundant\x19 if", "redundant if"),
        ("x < 3, [2] and {y}", "x < 3, [2] and {y}"),
        ("naïve 漢字", "naïve 漢字"),
        ("", ""),
    ],
)
def test_mending(text: str, expected: str) -> None:
    assert mended(text) == expected


@given(st.text(string.printable, max_size=80))
def test_plain_text_that_is_not_looked_at_would_not_have_changed(text: str) -> None:
    assert mended(text) == fix_text(text)
