"""Figures with targets, measured in sections: each is printed and on disk as soon as it is known."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pyserini_reasonrank.ir.file_io import atomic

AT_LEAST = ("share", "calls/s")
COLUMNS = "{:<60} {:>9} {:<9} {:>9} {}"
MARKS = {True: "met", False: "MISSED", None: ""}


@dataclass(frozen=True)
class Row:
    """A figure. ``target`` is the most it may be, or for the units of ``AT_LEAST`` the least; None for one to compare with."""

    name: str
    value: float
    unit: str
    target: float | None = None

    @property
    def met(self) -> bool | None:
        if self.target is None:
            return None
        return self.value >= self.target if self.unit in AT_LEAST else self.value <= self.target

    def line(self) -> str:
        """The figure as a line of the table."""
        target = "" if self.target is None else f"{self.target:g}"
        return COLUMNS.format(self.name, f"{self.value:.3g}", self.unit, target, MARKS[self.met]).rstrip()


Section = Callable[[], Iterator[Row]]


def measure(sections: Mapping[str, Section], only: Sequence[str], path: Path) -> bool:
    """Measure the sections named in ``only``, or all if it is empty; whether none failed.

    ``path`` receives the rows so far after each of them, as JSON with their section and time. Rows of sections that are not
    measured now are kept there if ``only`` selects. A section that fails is reported, and the others are measured.
    """
    chosen = only or list(sections)
    kept = [row for row in _earlier(path) if row["section"] not in chosen] if only else []
    found: list[dict[str, Any]] = []
    failed = []
    path.parent.mkdir(parents=True, exist_ok=True)
    print(COLUMNS.format("figure", "value", "unit", "target", "").rstrip(), flush=True)
    for name in chosen:
        try:
            for row in sections[name]():
                print(row.line(), flush=True)
                at = datetime.now(UTC).isoformat(timespec="seconds")
                found.append({"section": name, **asdict(row), "met": row.met, "at": at})
                with atomic(path) as file:
                    file.write((json.dumps([*kept, *found], indent=1) + "\n").encode())
        except Exception as error:  # hours of figures must not depend on one section
            failed.append(name)
            print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    missed = [row["name"] for row in found if row["met"] is False]
    print(f"{len(found)} figures, {len(missed)} of them missed their target; {path}", flush=True)
    return not failed


def _earlier(path: Path) -> list[dict[str, Any]]:
    """The rows of an earlier measurement that name their section."""
    if not path.exists():
        return []
    return [row for row in json.loads(path.read_text()) if "section" in row]
