"""Recorded answers instead of a model, to replay published outputs and for tests.

``--rerank.engine.path`` is a file of JSON lines ``{"qid", "call", "response"}`` (gzip or not), or the journal of an earlier
run. ``call`` is the number of the question for its query, from 0; combined rerankers also have a ``part``. A file with the
recordings of several runs is read with ``where``, which selects lines by other fields.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from pyserini_reasonrank.engines import Engine, EngineOptions
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.journal import read_answers
from pyserini_reasonrank.models.catalogue import Model
from pyserini_reasonrank.records import Call, Completion, Prompt, Sampling

_SQLITE = b"SQLite format 3"


class RecordedOptions(EngineOptions):
    """Settings of the recorded engine."""

    path: Annotated[str, Field(description="JSON lines of qid, call, response; or a journal")] = ""
    where: Annotated[Mapping[str, Any], Field(description="fields of the lines to read, with their values")] = {}
    call_field: Annotated[str, Field(description="field with the number of the question, from 0")] = "call"


class Recorded(Engine[RecordedOptions]):
    """Answers by query and call number, regardless of the prompt. A call without a recorded answer is an error."""

    name = "recorded"
    without_model = True
    options_class = RecordedOptions

    def __init__(self, model: Model, options: RecordedOptions) -> None:
        super().__init__(model, options)
        self._answers: dict[tuple[str, str, int], Completion] = {}
        self._sha256 = ""

    async def start(self) -> None:
        path = Path(self.options.path)
        if not self.options.path or not path.is_file():
            raise UsageError(
                f"the recorded engine needs --rerank.engine.path, a file of answers; {str(path)!r} does not exist"
            )
        data = path.read_bytes()
        self._sha256 = hashlib.sha256(data).hexdigest()
        self._answers = read_answers(path) if data.startswith(_SQLITE) else dict(_lines(path, data, self.options))
        if not self._answers:
            chosen = ", ".join(f"{name} {value}" for name, value in self.options.where.items())
            raise UsageError(f"{path} contains no answers{f' with {chosen}' if chosen else ''}")

    def identity(self, call: Call) -> str:
        chosen = [f"{name}={value}" for name, value in sorted(self.options.where.items())]
        if self.options.call_field != RecordedOptions().call_field:
            chosen.append(self.options.call_field)
        return "\n".join([self.name, self._sha256, *chosen, call.qid, call.part, str(call.number)])

    async def generate(self, prompt: Prompt, sampling: Sampling, call: Call) -> Completion:
        missing = Completion(finish_reason="error", error=f"no recorded answer in {self.options.path}")
        return self._answers.get((call.qid, call.part, call.number), missing)


def _lines(path: Path, data: bytes, options: RecordedOptions) -> list[tuple[tuple[str, str, int], Completion]]:
    try:
        text = (gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data).decode()
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UsageError(f"{path} can't be read: {error}") from error
    answers = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if any(str(row[name]) != str(value) for name, value in options.where.items()):
                continue
            response = str(row["response"]).encode(errors="replace").decode()  # half a surrogate pair can't be encoded
            answers.append(
                ((str(row["qid"]), str(row.get("part", "")), int(row[options.call_field])), Completion(response))
            )
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f'{path}, line {number}: expected {{"qid", "{options.call_field}", "response"}} as JSON ({error})'
            ) from error
    return answers
