"""Counting and cutting in a model's tokens: a cut text is a prefix that re-reads within its limit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyserini_reasonrank.prompts.tokens import EstimatedTokens, ModelTokens, Tokens, cut_at

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


def cut_one(tokenizer: Any, text: str, limit: int) -> tuple[str, int]:
    """A text cut by the rule of this package's first releases: by the offsets of its beginning, read again if too short."""
    if limit < 1:
        return "", 0
    characters = 20 * limit
    while True:
        offsets = tokenizer.encode(text[:characters], add_special_tokens=False).offsets
        if len(offsets) > limit:
            return text[: min(offsets[limit - 1][1], offsets[limit][0])], limit
        if characters >= len(text):
            return text, len(offsets)
        characters *= 4


pieces = st.sampled_from(
    ["the ", "passage", " of", "antidisestablishmentarianism", "漢字", "🤖", "é", "\n", "=" * 70, " " * 40]
)
long_texts = st.builds(lambda said, times: "".join(said) * times, st.lists(pieces, max_size=12), st.integers(1, 40))


@pytest.fixture(scope="module", params=["words", "whole text"])
def split_file(request: pytest.FixtureRequest, tokenizer_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tokenizer of the tests, which splits a text into words first; or one whose tokens can contain white space."""
    from tokenizers import Tokenizer, models, normalizers, trainers

    if request.param == "words":
        return tokenizer_file
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))  # as Llama 2's
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>"], show_progress=False)
    tokenizer.train_from_iterator(["the passage of=====the search\n" * 5, "=" * 90, " " * 60], trainer)
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(path))
    return path


@settings(max_examples=200)
@given(st.lists(long_texts, max_size=4), st.integers(0, 60))
def test_cuts_are_those_of_one_text_after_the_other(split_file: Path, texts: list[str], limit: int) -> None:
    from tokenizers import Tokenizer

    tokenizer, tokens = Tokenizer.from_file(str(split_file)), ModelTokens(split_file)
    expected = [cut_one(tokenizer, text, limit) for text in texts]
    assert tokens.cut(texts, limit) == expected
    for text, ends, (head, _) in zip(texts, tokens.ends(texts), expected, strict=True):
        assert len(ends) == tokens.cut([text], 1 << 20)[0][1]
        assert cut_at(text, ends, limit) in (head, None)


def test_estimates_end_where_they_cut() -> None:
    tokens, text = EstimatedTokens(), "the passage of the search"
    for limit in range(20):
        [ends] = tokens.ends([text])
        assert cut_at(text, ends, limit) in (tokens.cut([text], limit)[0][0], None)
    assert [list(ends) for ends in tokens.ends(["abcdefgh", "", "abc"])] == [[3, 6, 8], [], [3]]


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
