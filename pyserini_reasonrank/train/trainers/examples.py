"""Rows as tokens for a trainer. The prompt is tokenised exactly as serving sends it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from string import ascii_uppercase
from typing import TYPE_CHECKING

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.records import Prompt
from pyserini_reasonrank.strategies import ORDERS
from pyserini_reasonrank.train.data.rows import LETTERED, Audit, Row, named, read_rows
from pyserini_reasonrank.train.trainers.policy import Policy

if TYPE_CHECKING:
    from datasets import Dataset

IGNORED = -100  # PyTorch's label for positions without loss
_FIRST_ID = re.compile(r"\[\s*(\d)\s*\]")
_FIRST_LETTER = re.compile(r"([A-Z])\]")  # the opening bracket is in the prompt's prefill


class Unfit(StrEnum):
    """The reason why a trainer can't use a well-formed row."""

    TOO_LONG = "longer than max_length with its answer"
    LONG_PROMPT = "a prompt longer than max_prompt_length, or than the context leaves"
    NO_ANSWER = "no answer to imitate"
    CONTROL = "control tokens in the answer"
    NO_FIRST_ID = "passages without an identifier of one token each"


@dataclass(frozen=True, slots=True)
class Example:
    """A row as tokens. ``completion`` ends with the token that ends the assistant's turn."""

    row: Row
    prompt: list[int]
    completion: list[int]


@dataclass(frozen=True, slots=True)
class FirstId:
    """The first identifier of an answer.

    ``index`` is its place in the completion, ``tokens`` the token of each passage's identifier at that place, and
    ``ranks`` the target rank of each passage, from 1. Equal gains share a rank.
    """

    index: int
    tokens: list[int]
    ranks: list[int]


def prompt_of(row: Row) -> Prompt:
    """The prompt of a row, as judges send it."""
    return Prompt(row.prompt, row.prefill)


def rows_of(paths: Iterable[Path]) -> tuple[list[Row], list[Audit]]:
    """The rows of several files that can be trained on, and the audit of each file."""
    found = [read_rows(path) for path in paths]
    return [row for rows, _ in found for row in rows], [audit for _, audit in found]


def demonstrations(rows: Iterable[Row], policy: Policy, max_length: int, audit: Audit) -> list[Example]:
    """The rows with an answer to imitate, as tokens. ``audit`` counts the rows. UsageError if none can be used."""
    end = end_of_turn(policy)
    specials = controls(policy)
    kept = []
    for row in rows:
        prompt = policy.chat.tokens(prompt_of(row))
        answer = policy.tokenizer(row.demonstration, add_special_tokens=False)["input_ids"]
        fault = None
        if not row.demonstration:
            fault = Unfit.NO_ANSWER
        elif specials.intersection(answer):
            fault = Unfit.CONTROL
        elif len(prompt) + len(answer) + 1 > max_length:
            fault = Unfit.TOO_LONG
        if audit.note(fault, f"{row.source} {row.qid}"):
            kept.append(Example(row, prompt, [*answer, end]))
    if not kept:
        raise UsageError(f"there is no row with an answer to imitate: {audit}")
    return kept


def end_of_turn(policy: Policy) -> int:
    """The control token that ends an assistant's turn in the chat template; from it the model learns to stop.

    UsageError if the template has none.
    """
    ends = [policy.tokenizer.eos_token_id, *policy.tokenizer.all_special_ids]
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    ids = policy.tokenizer.apply_chat_template(turns, tokenize=True, return_dict=False)
    last = next((token for token in reversed(ids) if token in ends), None)
    if last is None:
        raise UsageError(
            f"the chat template of {policy.name} ends a turn without a control token, so the model can't learn to stop"
        )
    return int(last)


def controls(policy: Policy) -> set[int]:
    """The tokens that an answer must not contain: the tokenizer's special tokens except the one for unknown words."""
    return set(policy.tokenizer.all_special_ids) - {policy.tokenizer.unk_token_id}


def first_id(example: Example, policy: Policy) -> FirstId | None:
    """The first identifier of an answer; None unless each passage's identifier is a single token at its place."""
    text, n = example.row.demonstration, len(example.row.docids)
    if example.row.kind in LETTERED:
        found, symbols = _FIRST_LETTER.match(text), ascii_uppercase
    else:
        found, symbols = _FIRST_ID.search(text, text.rfind("<answer>") if "<answer>" in text else 0), "123456789"
    if found is None or n > len(symbols):
        return None
    spelled = []
    for symbol in symbols[:n]:
        other = text[: found.start(1)] + symbol + text[found.end(1) :]
        encoded = policy.tokenizer(other, add_special_tokens=False, return_offsets_mapping=True)
        place = next((i for i, span in enumerate(encoded["offset_mapping"]) if tuple(span) == found.span(1)), None)
        if place is None:
            return None
        spelled.append((place, encoded["input_ids"][place]))
    places = {place for place, _ in spelled}
    tokens = [token for _, token in spelled]
    if len(places) > 1 or len(set(tokens)) < n:
        return None
    return FirstId(places.pop(), tokens, ranks(example.row))


def ranks(row: Row) -> list[int]:
    """The target rank of each passage: by the demonstrated order, else by the gains, which can tie."""
    n = len(row.docids)
    if row.kind in ORDERS and row.completion:
        order = named(row)
        return [order.index(number) + 1 for number in range(1, n + 1)]
    return [1 + sum(other > gain for other in row.gains) for gain in row.gains]


def labelled(example: Example) -> dict[str, list[int]]:
    """Token ids, and labels on the completion only."""
    return {
        "input_ids": [*example.prompt, *example.completion],
        "labels": [IGNORED] * len(example.prompt) + example.completion,
    }


def dataset(examples: Sequence[Example]) -> Dataset:
    """The examples as a data set that SFTTrainer needs no preparation for."""
    from datasets import Dataset

    return Dataset.from_list([labelled(example) for example in examples])
