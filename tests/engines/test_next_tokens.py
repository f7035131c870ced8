"""Log-probabilities of given answers, from the likeliest next tokens. No server is needed."""

from __future__ import annotations

from collections.abc import Mapping
from math import exp

import pytest

from pyserini_reasonrank.engines.next_tokens import ChoiceMass, continued, of_one_token

GRADES = tuple(str(grade) for grade in range(11))


def probabilities(
    choices: tuple[str, ...], tokens: Mapping[str, float], following: Mapping[str, float] | None = None
) -> dict[str, float] | None:
    """The probabilities of choices; ``following`` are the tokens after a choice that begins another one."""
    mass = ChoiceMass(tokens, choices)
    if not all(mass.divide(short, long, following or {}) for short, long in continued(choices)):
        return None
    return {choice: round(exp(p), 6) for choice, p in mass.logs().items()}


def test_tokens_that_begin_one_choice_only_count_for_it() -> None:
    found = probabilities(
        ("true", "false"), {"true": 0.5, " True": 0.2, " false": 0.1, "fal": 0.05, "the": 0.1, "f": 0.01}
    )
    assert found == {"true": 0.7, "false": 0.16}


def test_a_token_that_begins_several_choices_counts_for_none() -> None:
    assert probabilities(("tea", "toast"), {"t": 0.9, "tea": 0.08, "toast": 0.02}) == {"tea": 0.08, "toast": 0.02}


def test_a_choice_that_begins_with_a_blank_is_the_token_with_the_blank() -> None:
    assert probabilities((" true", " false"), {" true": 0.5, " false": 0.1, "the": 0.1}) == {
        " true": 0.5,
        " false": 0.1,
    }


def test_letters_are_told_apart_by_case() -> None:
    assert probabilities(("A", "B"), {"A": 0.4, "a": 0.3, "b": 0.2, "B": 0.1}) == {"A": 0.4, "B": 0.1}


def test_a_choice_no_token_begins_is_less_likely_than_any_that_was_seen() -> None:
    assert probabilities(("true", "false"), {"true": 0.9, "the": 0.01}) == {"true": 0.9, "false": 0.005}


@pytest.mark.parametrize("tokens", [{}, {"the": 0.9, "answer": 0.1}, {"true": 0.9}, {"true": 0.0}])
def test_too_few_tokens_tell_nothing(tokens: Mapping[str, float]) -> None:
    assert probabilities(("true", "false"), tokens) == {}


def test_one_token_tells_enough_if_nearly_all_is_its() -> None:
    assert probabilities(("true", "false"), {"true": 0.995}) == {"true": 0.995, "false": 0.4975}


def test_choices_that_others_begin_are_divided_by_the_token_that_follows() -> None:
    assert list(continued(GRADES)) == [("1", "10")]
    first = {str(grade): 0.01 for grade in range(10)} | {"1": 0.6, "10": 0.1}
    found = probabilities(GRADES, first, {"0": 0.75, "</": 0.25})
    assert found is not None
    assert (found["1"], found["10"], found["8"]) == (0.15, 0.55, 0.01)


def test_tokens_that_follow_are_needed_only_where_there_is_something_to_divide() -> None:
    assert probabilities(("1", "10"), {"1": 0.6, "5": 0.1}) is None
    assert probabilities(("1", "10"), {"5": 0.6, "6": 0.1, "7": 0.1}) == {}


def test_choices_of_one_token_are_exact_and_those_not_told_are_left_out() -> None:
    found = of_one_token({"B": 0.5, "A": 0.2, " A": 0.1, "a": 0.05, "Bi": 0.01, "c": 0.01}, ("A", "B", "C"))
    assert {choice: round(exp(p), 6) for choice, p in found.items()} == {"A": 0.3, "B": 0.5}
