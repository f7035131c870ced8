"""Packing: the answers of a run in one file, with what a replay needs, to publish them."""

from __future__ import annotations

import os
import shlex
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.masking import masked
from pyserini_reasonrank.ir.metadata import nested, sha256, sidecar
from pyserini_reasonrank.ir.packed_answers import Answer, Header, write_answers
from pyserini_reasonrank.journal_reader import judgement_records, rankings, recorded_calls
from pyserini_reasonrank.records import Capability
from pyserini_reasonrank.run.outputs import same_file
from pyserini_reasonrank.run.parts import Plan
from pyserini_reasonrank.run.recorded_run import RecordedRun, Restored, first_stage, restored
from pyserini_reasonrank.run.replay_flags import is_path, replay_flags
from pyserini_reasonrank.settings.flags import PREFIX

_UNBROKEN = "\0"


@dataclass(frozen=True, slots=True)
class Packed:
    """A written file of answers: its path, its counts, and the command that replays it: its words and the flags after them.

    ``prefix`` begins the flags.
    """

    path: Path
    queries: int
    answers: int
    failed: int
    command: str
    flags: tuple[str, ...]
    prefix: str = PREFIX

    def __str__(self) -> str:
        failed = f"; {self.failed:,} judgements without one: their calls failed" if self.failed else ""
        words = [*self.flags, f"{self.prefix}.engine.path", str(self.path)]
        flags = [shlex.join(words[at : at + 2]) for at in range(0, len(words), 2)]
        lines = textwrap.wrap(" ".join(_UNBROKEN.join(flag.split(" ")) for flag in flags), 88, break_long_words=False,
                              break_on_hyphens=False)  # fmt: skip
        return "\n".join([
            f"answers   {self.answers:,} for {self.queries:,} queries{failed}",
            f"file      {self.path} ({self.path.stat().st_size:,} bytes)",
            f"replay    {self.command} \\",
            " \\\n".join(f"            {line.replace(_UNBROKEN, ' ')}" for line in lines),
        ])  # fmt: skip


def pack(run: RecordedRun, output: Path) -> Packed:
    """Write the answers of ``run`` to ``output``, a file that must not exist.

    The file has no paths and no secrets. UsageError if the output exists or is a file of the run, if the run file has other
    rankings than the journal, if the journal has no answers, and if the settings of the run can't be restored.
    """
    check_output(run, output)
    if run.output is None:
        raise UsageError(
            f"{run.journal} is a journal: name the run file, whose metadata have the settings for a replay"
        )
    found = restored(run)
    found.check(run.output)
    capabilities = _capabilities(found.plan, run.output)
    run.check_rankings()
    answers = answers_of(run)
    flags = replay_flags(found)
    write_answers(output, Header(flags, capabilities, _about(run, run.output, found)), answers)
    command = f"python -m pyserini_reasonrank rerank {_inputs(found)} --output RUN"
    return packed_as(run, output, answers, command, flags)


def answers_of(run: RecordedRun) -> list[Answer]:
    """The recorded answers of ``run``. UsageError if its journal has none."""
    answers = [
        Answer(call.qid, call.part, call.number, call.completion, call.turn, call.docids, call.prompt_sha256)
        for call in recorded_calls(run.journal, run.name)
    ]
    if not answers:
        raise UsageError(f"the journal {run.journal} has no answers of {run.output}")
    return answers


def packed_as(
    run: RecordedRun,
    output: Path,
    answers: Sequence[Answer],
    command: str,
    flags: tuple[str, ...],
    prefix: str = PREFIX,
) -> Packed:
    """The summary of the written file ``output``."""
    queries = [ranking["qid"] for ranking in rankings(run.journal, run=run.name)]
    questions = {(answer.qid, answer.part, answer.number) for answer in answers}
    failed = _judged(run) - len(questions)
    return Packed(output, len(queries), len(answers), failed, command, flags, prefix)


def check_output(run: RecordedRun, output: Path) -> None:
    """UsageError if ``output`` exists, can't be written, or is a file of ``run``."""
    metadata = sidecar(run.output) if run.output else None
    for name, path in {"the run": run.output, "its journal": run.journal, "its metadata": metadata}.items():
        if path is not None and same_file(output, path):
            raise UsageError(f"-o {output} is {name}; name another file")
    if output.exists():
        raise UsageError(f"-o {output} exists; name another file, or delete it first")
    if not output.parent.is_dir():
        raise UsageError(f"-o {output} can't be written: there is no folder {output.parent}")


def _capabilities(plan: Plan, output: Path) -> frozenset[Capability]:
    """The capabilities of the engine of a run. UsageError if its parts have engines that differ in them."""
    found = {part.engine.capabilities for part in plan.parts.values()}
    if len(found) > 1:
        names = ", ".join(f"{name} {part.engine.name}" for name, part in plan.parts.items())
        raise UsageError(f"{output} can't be packed: its parts have engines with different abilities ({names})")
    return found.pop()


def _inputs(found: Restored) -> str:
    """The flags of the inputs of a replay, with names in capitals for the files."""
    if "candidates" in found.inputs:
        return "--candidates CANDIDATES"
    texts = "--index INDEX" if "index" in found.inputs else "--corpus CORPUS"
    return f"--run FIRST --topics TOPICS {texts}"


def _judged(run: RecordedRun) -> int:
    return sum(1 for _ in judgement_records(run.journal, run.name))


def _about(run: RecordedRun, output: Path, found: Restored) -> dict[str, Any]:
    """The run for readers of the file: names, hashes and models, without paths."""
    parts = found.plan.parts.items()
    return {
        "software": nested(run.metadata, "platform", "software", "libraries", "python"),
        "run": {"name": output.name, "sha256": sha256(output)},
        "first stage": {"name": os.path.basename(first_stage(run) or ""), "sha256": first_stage(run, "sha256")},
        "topics": os.path.basename(found.inputs.get("topics", "")),
        "models": {name or found.plan.settings.name: model_fields(part.engine) for name, part in parts},
        "prompts": {name or found.plan.settings.name: without_path(part.template.name) for name, part in parts},
    }


def model_fields(engine: Any) -> dict[str, Any]:
    """The engine and the model of a part, without paths."""
    model = engine.model
    fields = {"engine": engine.name, "source": model.source, "revision": model.revision, "adapter": model.adapter}
    return {name: without_path(str(value)) for name, value in fields.items() if value}


def without_path(text: str) -> str:
    """``text``; of a path of this machine, only the name."""
    return masked(os.path.basename(os.path.normpath(text)) if is_path(text) else text)
