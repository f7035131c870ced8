"""Recorded answers instead of a model, to replay published outputs and for tests.

``--rerank.engine.path`` is a file of JSON lines ``{"qid", "call", "response"}`` (gzip or not), a file of ``trace pack``, or the
journal of an earlier run. ``call`` is the number of the question for its query, from 0; combined rerankers also have a
``part``. A file with the recordings of several runs is read with ``where``, which selects lines by other fields.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from pyserini_reasonrank.engines import Engine, EngineOptions
from pyserini_reasonrank.errors import UsageError, listed
from pyserini_reasonrank.ir.file_io import GZIP
from pyserini_reasonrank.ir.packed_answers import Answer, parse_answers, read_header
from pyserini_reasonrank.journal import SQLITE, prompt_sha256
from pyserini_reasonrank.journal_reader import read_answers
from pyserini_reasonrank.models.catalogue import Model
from pyserini_reasonrank.records import Call, Completion, Prompt, Sampling

_NAMED = 3
"""The number of docids that an error names."""


class RecordedOptions(EngineOptions):
    """Settings of the recorded engine."""

    path: Annotated[
        str, Field(description="a file of `trace pack`, JSON lines of qid, call, response, or a journal")
    ] = ""
    where: Annotated[Mapping[str, Any], Field(description="fields of the lines to read, with their values")] = {}
    call_field: Annotated[str, Field(description="field with the number of the question, from 0")] = "call"


class Recorded(Engine[RecordedOptions]):
    """Answers by query and call number. A call without a recorded answer is an error.

    Packed answers have all calls of a question and the documents shown: a call about other documents is an error, another
    prompt a warning. For other files, the prompt and the documents are not checked, and each question has one answer.
    """

    name = "recorded"
    without_model = True
    options_class = RecordedOptions

    def __init__(self, model: Model, options: RecordedOptions) -> None:
        super().__init__(model, options)
        path = Path(options.path)
        header = read_header(path) if options.path and path.is_file() else None
        self.capabilities = header.capabilities if header else frozenset()
        self._packed = header is not None
        self._answers: dict[tuple[str, str, int, int], Answer] = {}
        self._sha256 = ""

    async def start(self) -> None:
        path = Path(self.options.path)
        if not self.options.path or not path.is_file():
            raise UsageError(
                f"the recorded engine needs --rerank.engine.path, a file of answers; {str(path)!r} does not exist"
            )
        data = path.read_bytes()
        self._sha256 = hashlib.sha256(data).hexdigest()
        if data.startswith(SQLITE):
            found = _of_a_journal(path)
        else:
            found = parse_answers(path, _text(path, data), self.options.where, self.options.call_field)
        self._answers = {(answer.qid, answer.part, answer.number, answer.turn): answer for answer in found}
        if not self._answers:
            chosen = ", ".join(f"{name} {value}" for name, value in self.options.where.items())
            raise UsageError(f"{path} contains no answers{f' with {chosen}' if chosen else ''}")

    def identity(self, call: Call) -> str:
        chosen = [f"{name}={value}" for name, value in sorted(self.options.where.items())]
        if self.options.call_field != RecordedOptions().call_field:
            chosen.append(self.options.call_field)
        turn = call.turn if self._packed else 0
        return "\n".join([self.name, self._sha256, *chosen, call.qid, call.part, f"{call.number}", f"{turn}"])

    async def generate(self, prompt: Prompt, sampling: Sampling, call: Call) -> Completion:
        turn = call.turn if self._packed else 0
        answer = self._answers.get((call.qid, call.part, call.number, turn))
        if answer is None:
            return _error(f"no recorded answer in {self.options.path}")
        if answer.docids and answer.docids != call.docids:
            return _error(
                f"the answer in {self.options.path} is about other documents ({listed(answer.docids, _NAMED)}) than this "
                f"call ({listed(call.docids, _NAMED)}): rerank the first stage that was recorded, with the flags in its header"
            )
        if answer.prompt_sha256 and not self.notices and answer.prompt_sha256 != prompt_sha256(prompt):
            self.notices.append(
                f"answers of {self.options.path} are replayed for prompts that differ from the recorded ones (first: query "
                f"{call.qid}, call {call.number}): the prompt, the texts or the tokenizer (--rerank.tokenizer) is another one"
            )
        return answer.completion


def _error(message: str) -> Completion:
    return Completion(finish_reason="error", error=message)


def _of_a_journal(path: Path) -> list[Answer]:
    answers = read_answers(path).items()
    return [Answer(qid, part, number, completion) for (qid, part, number), completion in answers]


def _text(path: Path, data: bytes) -> str:
    try:
        return (gzip.decompress(data) if data.startswith(GZIP) else data).decode()
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UsageError(f"{path} can't be read: {error}") from error
