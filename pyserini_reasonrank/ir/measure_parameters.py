"""Parameters of measures: those that a measure has, their types, and their ranges, which ir_measures does not check."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pyserini_reasonrank.errors import UsageError, nearest

if TYPE_CHECKING:
    from ir_measures import Measure

_AT_LEAST_1 = ("cutoff", "rel")
"""Integers from 1: on others, some libraries raise, and trec_eval aborts the interpreter."""
_MOST = 2**31 - 1
"""The greatest value that trec_eval's C code stores."""
_OPEN = {"p": "above 0 and below 1", "alpha": "from 0 to 1", "recall": "from 0 to 1", "beta": "above 0", "T": "above 0"}


def check_parameters(measure: Measure, text: str) -> None:
    """UsageError for a parameter of ``measure`` that is unknown, missing, of another type, or out of its range.

    ``text`` is the measure as it was written.
    """
    name, supported = measure.NAME, measure.SUPPORTED_PARAMS
    if unknown := [each for each in measure.params if each not in supported]:
        known = nearest(unknown[0], supported) if supported else ""
        raise UsageError(f"the measure {text}: {name} has no parameter {unknown[0]!r}{known}")
    for key, info in supported.items():
        if key in measure.params:
            _check_value(text, key, measure.params[key], info)
        elif info.required and key == measure.AT_PARAM:
            example = 10 if key == "cutoff" else 0.5
            raise UsageError(f"the measure {text} needs a {_named(key)}: {name}@{example}")
        elif info.required:
            raise UsageError(f"the measure {text} needs the parameter {key}: {name}({key}=...)")


def _check_value(text: str, key: str, value: Any, info: Any) -> None:
    if key in _AT_LEAST_1:
        if type(value) is not int or not 1 <= value <= _MOST:
            raise UsageError(
                f"the measure {text}: the {_named(key)} must be an integer from 1 to {_MOST}, not {value!r}"
            )
    elif not info.validate(value) or (info.dtype is int and isinstance(value, bool)):
        # without choices, the attribute is a placeholder
        choices = ", ".join(map(repr, info.choices)) if isinstance(info.choices, list) else ""
        expected = f"one of {choices}" if choices else f"of type {info.dtype.__name__}"
        raise UsageError(f"the measure {text}: the {_named(key)} must be {expected}, not {value!r}")
    elif key == "gains" and not _are_gains(value):
        raise UsageError(f"the measure {text}: gains must map grades to gains, all integers, such as {{1: 1, 2: 3}}")
    elif key in _OPEN and not _in_range(key, value):
        raise UsageError(f"the measure {text}: the {_named(key)} must be {_OPEN[key]}, not {value!r}")


def _named(key: str) -> str:
    return {"cutoff": "cut-off", "recall": "recall"}.get(key, f"parameter {key}")


def _are_gains(value: Mapping[Any, Any]) -> bool:
    return all(type(each) is int for pair in value.items() for each in pair)


def _in_range(key: str, value: float) -> bool:
    if key == "p":
        return 0 < value < 1
    return value > 0 if key in ("beta", "T") else 0 <= value <= 1
