"""Orders and grades in JSON: bare, in a fence of Markdown, or in an object."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from math import nan
from typing import Any

from pyserini_reasonrank.parsing.identifiers import number_of

_FENCE = "```"
_NUMBER = re.compile(r"\s*[0-9]{1,9}(?:\.[0-9]{1,9})?\s*")
_NAMES = ("id", "identifier", "passage", "passage_id", "document", "document_id", "doc", "docid", "index", "number")
_SCORES = ("score", "grade", "relevance", "rating", "relevance_score")
_ORDER = re.compile(r"rank|order|answer|result|sorted", re.IGNORECASE)
_IDENTIFIER = re.compile(r"\s*\[?\s*(?:(?:passage|document|doc|text)[\s_#]*)?(\d{1,9})\s*\]{0,2}\s*", re.IGNORECASE)


class _Object(dict[str, Any]):
    """A JSON object; ``pairs`` are its names and values as written, with repeated names."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs


def order_in(answer: str) -> list[int] | str | None:
    """Return the identifiers of the order in an answer that is JSON, or the string in it that holds the order.

    [] if the order is not clear; None if the answer is not JSON with objects or strings.
    """
    data = _loaded(answer)
    if data is None:
        return None
    if isinstance(data, dict):
        data = _order_among(data)
    return data if isinstance(data, str) else _elements(data) if isinstance(data, list) else []


def grades_in(answer: str) -> list[tuple[int, float]] | None:
    """Return the identifiers and grades in an answer that is JSON; NaN for a grade that is not a number.

    None if the answer is not an object with a grade for each identifier, or a list of objects with both.
    """
    data = _loaded(answer)
    if isinstance(data, dict) and len(data) == 1 and isinstance(inner := next(iter(data.values())), dict | list):
        data = inner
    if isinstance(data, _Object):
        pairs = [(_element(key), value) for key, value in data.pairs]
    elif isinstance(data, list) and all(isinstance(row, dict) for row in data):
        pairs = [(_element(row), _only(row, _SCORES)) for row in data]
    else:
        return None
    return [(i, _grade(value)) for i, value in pairs if i is not None] if pairs and all(p[0] for p in pairs) else None


def _loaded(answer: str) -> Any:
    """Return the JSON in an answer, with words around it; None without one that has objects or strings."""
    fenced = answer.split(_FENCE)[1::2]
    text = fenced[-1] if fenced else answer
    begins = min((i for i in (text.find("{"), text.find("[")) if i >= 0), default=len(text))
    ends = max(text.rfind("}"), text.rfind("]")) + 1
    if "{" not in text[begins:ends] and '"' not in text[begins:ends]:
        return None
    try:
        return json.loads(text[begins:ends], parse_int=_parsed, object_pairs_hook=_Object)
    except (ValueError, RecursionError):
        return None


def _parsed(digits: str) -> int:
    return -number_of(digits[1:]) if digits.startswith("-") else number_of(digits)


def _order_among(data: Mapping[str, Any]) -> Any:
    """Return the only value of an object that can be the order: a list before a string, a named one before others."""
    for kind in (list, str):
        values = {name: value for name, value in data.items() if isinstance(value, kind)}
        named = [value for name, value in values.items() if _ORDER.search(name)]
        if len(values) == 1 and (named or kind is list):
            return next(iter(values.values()))
        if len(named) == 1:
            return named[0]
        if values and kind is list:
            return None
    numbers = [value for name, value in data.items() if type(value) is int and (len(data) == 1 or _ORDER.search(name))]
    return numbers if len(numbers) == 1 and not _IDENTIFIER.fullmatch(next(iter(data))) else None


def _elements(values: Sequence[Any]) -> list[int]:
    """Return the identifiers that the elements of a JSON list name, one each; [] if one is unclear."""
    ids = [_element(value) for value in values]
    rows = [value for value in values if isinstance(value, dict)]
    sides: dict[str, Callable[[float, float], bool]] = {"rank": lambda a, b: a < b} | dict.fromkeys(
        _SCORES, lambda a, b: a >= b
    )
    for name, before in sides.items():
        numbers = [row[name] for row in rows if isinstance(row.get(name), int | float)]
        if not all(before(a, b) for a, b in pairwise(numbers)):
            return []
    found = [i for i in ids if i is not None]
    return found if len(found) == len(ids) else []


def _element(value: Any) -> int | None:
    """Return the identifier that a value names: a number, a string with one, a list of one, or an object with a name."""
    if isinstance(value, dict):
        return None if isinstance(inner := _only(value, _NAMES), dict | list) else _element(inner)
    if isinstance(value, list):
        return _element(value[0]) if len(value) == 1 and isinstance(value[0], int) else None
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    found = _IDENTIFIER.fullmatch(str(value))
    return number_of(found[1]) if found else None


def _only(row: Mapping[str, Any], names: Sequence[str]) -> Any:
    """Return the value of the only one of ``names`` in a row; None without one, or with several."""
    found = [name for name in names if name in row]
    return row[found[0]] if len(found) == 1 else None


def _grade(value: Any) -> float:
    """Return a grade: a number, a string with one, or an object with one under a name for it; NaN for another value."""
    if isinstance(value, dict):
        return nan if isinstance(inner := _only(value, _SCORES), dict) else _grade(inner)
    if isinstance(value, str):
        return float(value) if _NUMBER.fullmatch(value) else nan
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else nan
