"""The training row: one prompt as it is served, the passages it shows with their gains, and perhaps an answer to imitate.

A file of rows is JSON lines in TRL's conversational form, so ``datasets`` and ``trl`` read it as it is. A row that can't
teach (no positive, an answer that names what was not shown, a gain that is no number, a prompt longer than the context)
is counted and named, and never trained on silently.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.files import atomic, read_lines
from pyserini_reasonrank.parsing import identifiers, letters, split
from pyserini_reasonrank.prompts.fitting import TURN, prompt_tokens
from pyserini_reasonrank.prompts.tokens import Tokens
from pyserini_reasonrank.records import Message
from pyserini_reasonrank.strategies import ORDERS

if TYPE_CHECKING:
    from datasets import Dataset

Kind = Literal["permutation", "first_token", "best", "best_token", "worst", "score"]
LETTERED = ("first_token", "best_token")  # those whose passages have letters, of which nothing is decoded
NAMED = 5  # bad rows of each fault that a report names


class Row(BaseModel):
    """One training prompt. ``docids``, ``gains`` and ``first_stage`` (ranks, from 1) are in the order shown.

    ``kind`` is the judge the prompt asks; ``tags``: it asks for think and answer tags. ``prefill`` begins the
    assistant's turn. ``completion`` holds the answer to imitate, less the prefill, as one assistant message, or nothing.
    ``gold`` is a labelled order, docids best first, where there is one finer than the gains; ``grade`` is what a
    ``score`` row should answer and ``choices`` what it may; where these are two words, a grade of 1 is the first and 0 the
    second. ``teacher`` has a teacher's score of each passage, from 0 to 10. Other columns are kept and reach the
    rewards.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    qid: str
    kind: Kind
    docids: tuple[str, ...]
    gains: tuple[float, ...]
    prompt: tuple[Message, ...]
    first_stage: tuple[int, ...]
    source: str
    query: str
    prefill: str = ""
    tags: bool = True
    completion: tuple[Message, ...] = ()
    gold: tuple[str, ...] | None = None
    grade: float | None = None
    choices: tuple[str, ...] | None = None
    teacher: tuple[float, ...] | None = None

    @property
    def demonstration(self) -> str:
        """The answer to imitate, less the prefill; empty where there is none."""
        return self.completion[0].content if self.completion else ""

    def as_json(self) -> dict[str, Any]:
        """The row as plain mappings and lists, ready for ``json.dumps``; unset optional columns are left out."""
        return self.model_dump(mode="json", exclude_none=True)


class Fault(StrEnum):
    """Why a row can't be trained on."""

    MALFORMED = "not a row"
    MISALIGNED = "docids, gains, first_stage or teacher of different lengths"
    REPEATED = "a docid twice"
    OTHER_GOLD = "a gold order of other docids than those shown"
    NOT_A_NUMBER = "a gain that is no finite number"
    NO_POSITIVE = "no positive"
    NO_CONTRAST = "all gains equal"
    STRAY_ANSWER = "an answer that does not name the passages shown"
    TOO_LONG = "longer than the context"


@dataclass(frozen=True, slots=True)
class Limit:
    """The tokens a prompt may take: those of the policy's context that the completion leaves."""

    tokens: Tokens
    prompt_tokens: int

    def exceeded(self, row: Row) -> bool:
        """Whether the row's prompt is longer, the chat template's share reckoned as serving reckons it."""
        texts = [*(m.content for m in row.prompt), row.prefill]
        if sum(len(t.encode()) for t in texts) + TURN * len(texts) <= self.prompt_tokens:
            return False  # no tokenizer makes more tokens than bytes
        return prompt_tokens(texts, self.tokens) > self.prompt_tokens


@dataclass
class Audit:
    """How many rows, or whatever ``unit`` is, were read, how many kept, and which were left out for what."""

    unit: str = "rows"
    read: int = 0
    kept: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    named: dict[str, list[str]] = field(default_factory=dict)

    def note(self, fault: str | None, where: str) -> bool:
        """Count what stands at ``where``. Whether it may be used."""
        self.read += 1
        if fault is None:
            self.kept += 1
            return True
        self.faults[fault] += 1
        named = self.named.setdefault(fault, [])
        if len(named) < NAMED:
            named.append(where)
        return False

    def __str__(self) -> str:
        lines = [f"{self.kept:,} of {self.read:,} {self.unit} can be trained on"]
        for fault, count in self.faults.most_common():
            more = "" if count <= NAMED else f" and {count - NAMED:,} more"
            lines.append(f"  {count:,} left out, {fault}: {', '.join(self.named[fault])}{more}")
        return "\n".join(lines)


def fault_of(row: Row, limit: Limit | None = None) -> Fault | None:
    """The first reason why a row can't be trained on; None where there is none.

    A ``score`` row shows one passage, which may well be a negative: positives and contrast lie among its query's rows.
    """
    n = len(row.docids)
    if not n or any(len(column) != n for column in (row.gains, row.first_stage, row.teacher or row.gains)):
        return Fault.MISALIGNED
    if len(set(row.docids)) < n:
        return Fault.REPEATED
    if row.gold is not None and sorted(row.gold) != sorted(row.docids):
        return Fault.OTHER_GOLD
    if not all(map(math.isfinite, (*row.gains, *(row.teacher or ()), row.grade or 0.0))):
        return Fault.NOT_A_NUMBER
    if row.kind != "score":
        if max(row.gains) <= 0:
            return Fault.NO_POSITIVE
        if min(row.gains) == max(row.gains):
            return Fault.NO_CONTRAST
        if row.completion and not _names_the_shown(row):
            return Fault.STRAY_ANSWER
    return Fault.TOO_LONG if limit is not None and limit.exceeded(row) else None


def audited(rows: Iterable[Row], audit: Audit, limit: Limit | None = None) -> Iterator[Row]:
    """The rows that can be trained on; ``audit`` counts them all."""
    for row in rows:
        if audit.note(fault_of(row, limit), f"{row.source} {row.qid}"):
            yield row


def read_rows(path: str | Path, limit: Limit | None = None) -> tuple[list[Row], Audit]:
    """The rows of a file (gzipped if it ends in .gz) that can be trained on, and the count of all.

    UsageError if the file is missing or empty, or if no row of it can be trained on.
    """
    rows, audit = [], Audit()
    for where, line in read_lines(Path(path)):
        try:
            row = Row.model_validate(json.loads(line))
        except ValueError:  # pydantic's errors are
            audit.note(Fault.MALFORMED, where)
            continue
        if audit.note(fault_of(row, limit), f"{where} (qid {row.qid})"):
            rows.append(row)
    if not rows:
        raise UsageError(f"{path} has no row to train on: {audit}")
    return rows, audit


def write_rows(path: str | Path, rows: Iterable[Row]) -> int:
    """Write rows, one a line; the file appears whole or not at all. Returns their number. UsageError if there is none."""
    count = 0
    with atomic(Path(path)) as file:
        for row in rows:
            file.write(as_line(row))
            count += 1
        if not count:
            raise UsageError(f"{path} is not written: there is no row to train on")
    return count


def as_line(row: Row) -> bytes:
    """The row as a line of a file."""
    return json.dumps(row.as_json(), ensure_ascii=False).encode(errors="replace") + b"\n"


def to_dataset(rows: Sequence[Row], **columns: Sequence[Any]) -> Dataset:
    """Rows as a ``datasets.Dataset``, its columns of the same types whatever the rows hold; ``columns`` are added."""
    from datasets import Dataset, List, Value

    records = [row.as_json() for row in rows]
    names = dict.fromkeys(name for record in records for name in record)
    optional = {"grade": Value("float64"), "choices": List(Value("string")),
                "teacher": List(Value("float64")), "gold": List(Value("string"))}  # fmt: skip
    table = {name: [record.get(name) for record in records] for name in (names | dict.fromkeys(optional))}
    dataset = Dataset.from_dict(table | columns)
    turns = List({"role": Value("string"), "content": Value("string")})
    for name, feature in {**optional, "completion": turns, "prompt": turns}.items():
        dataset = dataset.cast_column(name, feature)
    return dataset


def named(row: Row) -> list[int]:
    """The identifiers, from 1, that the answer to imitate names, in order."""
    if row.kind in LETTERED:
        return letters(row.prefill + row.demonstration)
    return identifiers(split(row.prefill + row.demonstration).answer or "")


def check_written(rows: Iterable[Row]) -> None:
    """UsageError for a row of a judge that reads probabilities alone: no answer is written that could be rewarded."""
    if found := next((row.kind for row in rows if row.kind in LETTERED), None):
        raise UsageError(
            f"the {found} judge has nothing written, so there is no answer to sample: train it with `train sft --rank_loss`"
        )


def _names_the_shown(row: Row) -> bool:
    ids, n = named(row), len(row.docids)
    if row.kind in ORDERS:
        return sorted(ids) == list(range(1, n + 1))
    several = row.kind == "worst"  # may drop more than one, but not all
    return 1 <= len(ids) <= (n - 1 if several else 1) and len(set(ids)) == len(ids) and set(ids) <= set(range(1, n + 1))
