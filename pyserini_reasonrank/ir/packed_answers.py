"""Packed answers: the recorded calls of a run in one file, to publish and to replay with the engine ``recorded``.

The file is gzipped JSON lines. The first line is the header: the run, hashes, the flags and the abilities of the engine that a
replay needs. Every other line is a call: ``qid``, ``call`` (the number of the question for its query), ``turn`` (the number
of the call for its question, 0 if missing), ``part`` (the reranker, in a combination), ``docids`` in the order shown,
``prompt_sha256``, ``response``, ``choices`` (log-probabilities; null is minus infinity), ``finish_reason`` unless it is
``stop``, tokens and seconds.
"""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.file_io import GZIP, atomic
from pyserini_reasonrank.records import Capability, Completion

FORMAT = "pyserini_reasonrank answers"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Header:
    """What a replay needs beside the answers.

    ``flags`` are the words after the inputs of ``rerank``. ``capabilities`` are those of the recorded engine, on which the
    calls of a question depend. ``about`` describes the run for readers: model, hashes of the run and the first stage.
    """

    flags: tuple[str, ...] = ()
    capabilities: frozenset[Capability] = frozenset()
    about: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The header as the first line of a file."""
        return {
            "format": FORMAT, "version": VERSION, **self.about,
            "capabilities": sorted(self.capabilities), "flags": list(self.flags),
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a call. ``docids`` and ``prompt_sha256`` are empty if they are not recorded."""

    qid: str
    part: str
    number: int
    completion: Completion
    turn: int = 0
    docids: tuple[str, ...] = ()
    prompt_sha256: str = ""

    def as_json(self) -> dict[str, Any]:
        """The answer as a line of a file."""
        c = self.completion
        choices = {text: None if value == -inf else value for text, value in c.choices.items()}
        optional = {
            "part": self.part, "turn": self.turn, "docids": list(self.docids), "prompt_sha256": self.prompt_sha256,
            "choices": choices, "finish_reason": "" if c.finish_reason == "stop" else c.finish_reason,
            "prompt_tokens": c.prompt_tokens, "output_tokens": c.output_tokens, "seconds": round(c.seconds, 3),
        }  # fmt: skip
        named = {"qid": self.qid, "call": self.number, "response": c.text}
        return named | {name: value for name, value in optional.items() if value}


def write_answers(path: Path, header: Header, answers: Iterable[Answer]) -> None:
    """Write a file of packed answers in one step. Equal answers give equal bytes. Failure if it can't be written."""
    with atomic(path) as file, gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
        for row in (header.as_json(), *(answer.as_json() for answer in answers)):
            packed.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")


def read_header(path: Path) -> Header | None:
    """The header of a file of answers; None if it has none. UsageError for a header of another version or a malformed one."""
    try:
        with path.open("rb") as file:
            zipped = file.peek(len(GZIP))[: len(GZIP)] == GZIP
            with gzip.open(file) if zipped else file as lines:
                return _header(json.loads(lines.readline()), path)
    except (OSError, EOFError, ValueError):  # the reader of the answers reports it
        return None


def _header(row: Any, path: Path) -> Header | None:
    if not _is_header(row):
        return None
    if row.get("version") != VERSION:
        raise UsageError(f"{path} has version {row.get('version')} of packed answers, expected {VERSION}")
    try:
        about = {
            name: value for name, value in row.items() if name not in ("format", "version", "capabilities", "flags")
        }
        return Header(tuple(map(str, row["flags"])), frozenset(map(Capability, row["capabilities"])), about)
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}, line 1: the header of packed answers is malformed ({error!r})") from None


def _is_header(row: Any) -> bool:
    return isinstance(row, dict) and row.get("format") == FORMAT


def parse_answers(
    path: Path, text: str, where: Mapping[str, Any] | None = None, call_field: str = "call"
) -> list[Answer]:
    """The answers in ``text``, the content of the file ``path``. UsageError, with file and line, for a malformed line.

    ``where`` selects lines by the values of other fields; ``call_field`` has the number of the question.
    """
    answers = []
    for number, line in enumerate(io.StringIO(text, newline="\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if number == 1 and _is_header(row):
                continue
            if all(str(row[name]) == str(value) for name, value in (where or {}).items()):
                answers.append(_answer(row, call_field))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(
                f'{path}, line {number}: expected {{"qid", "{call_field}", "response"}} as JSON ({error})'
            ) from error
    return answers


def _answer(row: Any, call_field: str) -> Answer:
    response = str(row["response"]).encode(errors="replace").decode()  # half a surrogate pair can't be encoded
    choices = {str(text): -inf if value is None else float(value) for text, value in row.get("choices", {}).items()}
    completion = Completion(
        response, str(row.get("finish_reason", "stop")), int(row.get("prompt_tokens", 0)), int(row.get("output_tokens", 0)),
        float(row.get("seconds", 0.0)), choices,
    )  # fmt: skip
    docids: Sequence[Any] = row.get("docids", ())
    return Answer(
        str(row["qid"]), str(row.get("part", "")), int(row[call_field]), completion, int(row.get("turn", 0)),
        tuple(map(str, docids)), str(row.get("prompt_sha256", "")),
    )  # fmt: skip
