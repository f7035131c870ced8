"""The training row: a prompt as it is served, the passages it shows with their gains, and optionally an answer to imitate.

A file of rows is JSON lines in TRL's conversational form, which ``datasets`` and ``trl`` read directly. A row that can't
be trained on (no positive, an answer that names other passages, a gain that is not a number, a prompt longer than the
context) is left out, counted and named.
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
from pyserini_reasonrank.ir.file_io import atomic, read_lines
from pyserini_reasonrank.parsing.identifiers import identifiers, letters
from pyserini_reasonrank.parsing.parts import split
from pyserini_reasonrank.prompts.fitting import TURN, prompt_tokens
from pyserini_reasonrank.prompts.tokens import Tokens
from pyserini_reasonrank.records import Message
from pyserini_reasonrank.strategies import ORDERS

if TYPE_CHECKING:
    from datasets import Dataset

Kind = Literal["permutation", "first_token", "best", "best_token", "worst", "score"]
LETTERED = ("first_token", "best_token")  # judges that read the logits of letters and decode no text
NAMED = 5  # unusable rows that a report names for each fault


class Row(BaseModel):
    """One training prompt. ``docids``, ``gains`` and ``first_stage`` (ranks, from 1) are in the order shown.

    ``kind`` is the kind of the judge; ``tags`` says whether the prompt asks for think and answer tags. ``prefill`` starts
    the assistant's turn. ``completion`` is the answer to imitate without the prefill, as one assistant message, or empty.
    ``gold`` is a labelled order, docids best first, if it is finer than the gains. ``grade`` is the right answer of a
    ``score`` row and ``choices`` its possible answers; of two words, a grade of 1 means the first and 0 the second. For
    ``worst``, ``choices`` are the names of the passages if they have names in place of numbers.
    ``teacher`` is a teacher's score for each passage, from 0 to 10. Other columns are kept and reach the rewards.
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
        """The answer to imitate without the prefill; empty if the row has none."""
        return self.completion[0].content if self.completion else ""

    def as_json(self) -> dict[str, Any]:
        """The row as plain mappings and lists for ``json.dumps``, without unset optional columns."""
        return self.model_dump(mode="json", exclude_none=True)


class Fault(StrEnum):
    """The reason why a row can't be trained on."""

    MALFORMED = "not a row"
    MISALIGNED = "docids, gains, first_stage or teacher of different lengths"
    REPEATED = "a docid twice"
    OTHER_GOLD = "a gold order of other docids than those shown"
    NOT_A_NUMBER = "a gain that is not a finite number"
    NO_POSITIVE = "no positive"
    NO_CONTRAST = "all gains equal"
    STRAY_ANSWER = "an answer that does not name the passages shown"
    TOO_LONG = "longer than the context"


@dataclass(frozen=True, slots=True)
class Limit:
    """The maximum length of a prompt, in tokens: the policy's context without the completion."""

    tokens: Tokens
    prompt_tokens: int

    def exceeded(self, row: Row) -> bool:
        """Whether the row's prompt is longer. The chat template is estimated as in serving."""
        texts = [*(m.content for m in row.prompt), row.prefill]
        if sum(len(t.encode()) for t in texts) + TURN * len(texts) <= self.prompt_tokens:
            return False  # a text never has more tokens than bytes
        return prompt_tokens(texts, self.tokens) > self.prompt_tokens


@dataclass
class Audit:
    """Counts of the rows (or other ``unit``) read and kept, and the location of those left out, by fault."""

    unit: str = "rows"
    read: int = 0
    kept: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    named: dict[str, list[str]] = field(default_factory=dict)

    def note(self, fault: str | None, where: str) -> bool:
        """Count the row at ``where``. Returns whether it can be used, which is when ``fault`` is None."""
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
    """The first reason why a row can't be trained on; None if it can.

    A ``score`` row shows one passage, which can be a negative: its contrast is in the other rows of its query.
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
    """The rows that can be trained on. ``audit`` counts all rows."""
    for row in rows:
        if audit.note(fault_of(row, limit), f"{row.source} {row.qid}"):
            yield row


def read_rows(path: str | Path, limit: Limit | None = None) -> tuple[list[Row], Audit]:
    """The rows of a file, plain or gzipped, that can be trained on, and the counts of all rows.

    UsageError if the file is missing or empty, or if none of its rows can be trained on.
    """
    rows, audit = [], Audit()
    for where, line in read_lines(Path(path)):
        try:
            row = Row.model_validate(json.loads(line))
        except ValueError:  # includes pydantic's ValidationError
            audit.note(Fault.MALFORMED, where)
            continue
        if audit.note(fault_of(row, limit), f"{where} (qid {row.qid})"):
            rows.append(row)
    if not rows:
        raise UsageError(f"{path} has no row to train on: {audit}")
    return rows, audit


def write_rows(path: str | Path, rows: Iterable[Row]) -> int:
    """Write rows, one a line, atomically. Returns their number. UsageError if there are none."""
    count = 0
    with atomic(Path(path)) as file:
        for row in rows:
            file.write(as_line(row))
            count += 1
        if not count:
            raise UsageError(f"{path} was not written: there is no row to train on")
    return count


def as_line(row: Row) -> bytes:
    """The row as a line of a JSON lines file."""
    return json.dumps(row.as_json(), ensure_ascii=False).encode(errors="replace") + b"\n"


def to_dataset(rows: Sequence[Row], **columns: Sequence[Any]) -> Dataset:
    """Rows as a ``datasets.Dataset`` with ``columns`` added. Column types do not depend on the rows."""
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
    """The identifiers (from 1) in the answer to imitate, in order."""
    if row.kind in LETTERED:
        return letters(row.prefill + row.demonstration)
    return identifiers(split(row.prefill + row.demonstration).answer or "")


def check_written(rows: Iterable[Row]) -> None:
    """UsageError for a row of a judge that reads only logits: it has no written answer to reward."""
    if found := next((row.kind for row in rows if row.kind in LETTERED), None):
        raise UsageError(
            f"the {found} judge reads logits and writes no answer to sample: train it with `train sft --rank_loss`"
        )


def _names_the_shown(row: Row) -> bool:
    if row.kind == "worst" and row.choices:
        return (split(row.prefill + row.demonstration).answer or "").strip() in row.choices
    ids, n = named(row), len(row.docids)
    if row.kind in ORDERS:
        return sorted(ids) == list(range(1, n + 1))
    several = row.kind == "worst"  # an answer can drop several passages, but not all
    return 1 <= len(ids) <= (n - 1 if several else 1) and len(set(ids)) == len(ids) and set(ids) <= set(range(1, n + 1))
