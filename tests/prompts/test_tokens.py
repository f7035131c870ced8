"""Counting and cutting in a model's tokens: a cut text is a prefix that re-reads within its limit."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyserini_reasonrank.prompts.tokens import EstimatedTokens, ModelTokens, Tokens

texts = st.text(alphabet=st.one_of(st.sampled_from("the passage  \n🤖é漢,"), st.characters(codec="utf-8")), max_size=80)


@pytest.fixture(scope="module")
def tokens(tokenizer_file: Path) -> ModelTokens:
    return ModelTokens(tokenizer_file)


@given(st.lists(texts, max_size=5), st.integers(0, 40))
def test_a_cut_text_is_a_prefix_within_the_limit(tokens: ModelTokens, texts: list[str], limit: int) -> None:
    for kind in (tokens, EstimatedTokens()):
        whole = kind.cut(texts, 1 << 20)
        assert [head for head, _ in whole] == texts
        for text, (head, count), (_, all_of_it) in zip(texts, kind.cut(texts, limit), whole, strict=True):
            assert text.startswith(head)
            assert (head == text) if all_of_it <= limit else len(head) < len(text)
            [(_, reread)] = kind.cut([head], 1 << 20)
            assert reread <= count <= limit


@given(texts)
def test_a_token_has_a_byte_at_least(tokens: ModelTokens, text: str) -> None:
    [(_, count)] = tokens.cut([text], 1 << 20)
    assert count <= len(text.encode())


def test_long_tokens_beyond_the_first_look_are_counted(tokenizer_file: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    tokenizer.add_tokens(["=" * 100])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    tokens = ModelTokens(tmp_path / "tokenizer.json")
    assert tokens.cut(["=" * 1000], 5) == [("=" * 500, 5)]
    assert tokens.cut(["=" * 1000], 10) == [("=" * 1000, 10)]


def test_a_limit_the_tokenizer_file_sets_itself_is_lifted(tokenizer_file: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    text = "the passage and the query"
    assert ModelTokens(tmp_path / "tokenizer.json").cut([text, ""], 100) == ModelTokens(tokenizer_file).cut(
        [text, ""], 100
    )


def test_control_tokens(tokens: ModelTokens) -> None:
    assert set(tokens.specials()) == {"<|im_start|>", "<|im_end|>", "<s>", "[MASK]"}
    assert {"<s>", "[INST]", "<end_of_turn>", "</tool_call>"} <= set(EstimatedTokens().specials())


def test_an_estimate_says_that_it_is_one(tokens: Tokens) -> None:
    assert tokens.exact
    assert not EstimatedTokens().exact
    assert EstimatedTokens().cut(["abcdefgh", "", "abc"], 2) == [("abcdef", 2), ("", 0), ("abc", 1)]
