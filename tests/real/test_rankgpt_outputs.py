"""GPT-3.5's and GPT-4's malformed answers: our reading against what the published code made of them."""

from __future__ import annotations

import gzip
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from pyserini_reasonrank.parsing import read_permutation
from pyserini_reasonrank.parsing.answer_lists import permutation
from pyserini_reasonrank.parsing.identifiers import Identifiers, identifiers
from pyserini_reasonrank.records import Completion, Status

Row = dict[str, Any]


@cache
def rows(data: Path) -> list[Row]:
    with gzip.open(data / "rankgpt_raw_outputs" / "responses.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def answer(response: str) -> str:
    """What the published code reads of a response: the block its prompts ask for, else all of it."""
    block = re.search(r"\[start\](.*?)\[end\]", response, re.DOTALL | re.IGNORECASE)
    return block[1] if block else response


def order(text: str) -> list[int]:
    return list(read_permutation(Completion(text), 20, tags=False, how="digits").order)


def test_every_digit_is_read_as_the_published_code_read_it(data: Path) -> None:
    read = [row for row in rows(data) if "upstream_parsed_ids" in row]
    assert len(read) == 1526
    others = [row for row in read if identifiers(answer(row["response"]), "digits") != row["upstream_parsed_ids"]]
    # These four answers do hold a block; an earlier state of the published code read them as a whole all the same.
    assert [row["prompt_type"] for row in others] == [11, 12, 13, 7]
    assert [row for row in others if identifiers(row["response"], "digits") != row["upstream_parsed_ids"]] == []


def test_the_final_order_is_that_of_the_published_code(data: Path) -> None:
    repaired = [row for row in rows(data) if "upstream_post_rank0" in row]
    assert len(repaired) == 483
    others = [row for row in repaired if order(answer(row["response"])) != row["upstream_post_rank0"]]
    # Read as a whole above; in one of those four answers the rest of the text names the passages in the same order.
    assert [row["prompt_type"] for row in others] == [11, 13, 7]
    assert [row for row in others if order(row["response"]) != row["upstream_post_rank0"]] == []


def test_our_own_reading_differs_only_where_prose_holds_numbers(data: Path) -> None:
    """Identifiers in brackets or beside > count, scores and years do not: "[9] - Score: 10" names one passage.

    In one of the others a chain stands below the scores, and is the order.
    """
    repaired = [row for row in rows(data) if "upstream_post_rank0" in row]
    kept = others = 0
    for row in repaired:
        text = answer(row["response"])
        found = read_permutation(Completion(text), 20, tags=False)
        if list(found.order) in (row["upstream_post_rank0"], order(text)):
            kept += 1
            continue
        others += 1
        every = iter(identifiers(text, "digits"))
        named = identifiers(text, "brackets")
        assert all(i in every for i in named)  # what was left out are numbers between the identifiers
        assert len(named) < len(identifiers(text, "digits"))
    assert (kept, others) == (448, 35)


def test_the_chain_that_ends_a_discussion_is_its_order(data: Path) -> None:
    """The answers that hold the block asked for, read as wholes, discussion and all: nearly always the block's order."""
    said = [row["response"] for row in rows(data) if answer(row["response"]) != row["response"]]
    blocks = [read_permutation(Completion(answer(text)), 20, tags=False).order for text in said]
    wholes = [read_permutation(Completion(text), 20, tags=False).order for text in said]
    mentions = [permutation(identifiers(text), 20)[0] for text in said]
    assert len(said) == 1325
    assert sum(a == b for a, b in zip(wholes, blocks, strict=True)) == 1294
    assert sum(a == b for a, b in zip(mentions, blocks, strict=True)) == 788  # as numbers are mentioned


def test_the_repair_of_its_ids_is_that_of_the_published_code(data: Path) -> None:
    beyond = 0
    for row in rows(data):
        if "upstream_post_rank0" in row:
            ids = row["upstream_parsed_ids"]
            found, _, _ = permutation(ids, 20)
            assert list(found) == row["upstream_post_rank0"]
            beyond += any(not 1 <= i <= 20 for i in ids)
    assert beyond == 31  # such as 68, 2020 and 0: dropped


@pytest.mark.parametrize("how", ["brackets", "digits"])
@pytest.mark.parametrize("tags", [True, False])
def test_no_answer_of_them_is_too_odd_to_read(data: Path, how: Identifiers, tags: bool) -> None:
    statuses = set()
    for row in rows(data):
        judgement = read_permutation(Completion(row["response"]), 20, tags=tags, how=how)
        assert sorted(judgement.order) == list(range(20))
        statuses.add(judgement.status)
    assert statuses >= {Status.REPAIRED, Status.EMPTY}
