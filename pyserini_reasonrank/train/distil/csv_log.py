"""The log of a distillation: ``log.csv`` (a row for each block), ``dev.csv`` (a row for each held-out source), curves."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import Any

from pyserini_reasonrank.train.curves import write_page

BLOCKS = ("step", "source", "kl", "nDCG@10", "tokens", "seconds")
HELD = ("step", "source", "blocks", "kl", "nDCG@10")


class CsvLog:
    """The log files of a run in ``folder``.

    Rows of step ``done`` and later are dropped: a resumed run repeats these steps.
    """

    def __init__(self, folder: Path, done: int) -> None:
        self._folder = folder
        for path, header in ((self._blocks, BLOCKS), (self._held, HELD)):
            kept = [row.values() for row in _rows(path) if int(row["step"]) < done]
            with path.open("w", newline="", encoding="utf-8") as stream:
                csv.writer(stream).writerows([header, *kept])

    @property
    def _blocks(self) -> Path:
        return self._folder / "log.csv"

    @property
    def _held(self) -> Path:
        return self._folder / "dev.csv"

    def trained(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """Append rows for the blocks of a step, with the columns of ``BLOCKS``."""
        _append(self._blocks, rows)

    def measured(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """Append rows for the held-out sources, with the columns of ``HELD``, and redraw the curves."""
        _append(self._held, rows)
        write_page(self._folder / "training.html", f"distil {self._folder.name}", list(self.curves()))

    def curves(self) -> Iterator[Mapping[str, float]]:
        """The means of each step and the held-out measures, as log entries for the curves."""
        for step, rows in groupby(_rows(self._blocks), key=lambda row: int(row["step"])):
            block = list(rows)
            yield {"step": step} | {name: fmean(float(row[name]) for row in block) for name in ("kl", "nDCG@10")}
        for row in _rows(self._held):
            yield {"step": int(row["step"])} | {
                f"dev/{name} {row['source']}": float(row[name]) for name in ("kl", "nDCG@10")
            }


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def _append(path: Path, rows: Iterable[tuple[Any, ...]]) -> None:
    with path.open("a", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)
