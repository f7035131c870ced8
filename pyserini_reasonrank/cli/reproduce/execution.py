"""Steps run one after the other: commands as subprocesses, the evaluation of their runs, verdicts."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path
from statistics import fmean

from pyserini_reasonrank.cli.reproduce.matrix import Matrix, merged
from pyserini_reasonrank.cli.reproduce.steps import Step, wrapped
from pyserini_reasonrank.cli.reproduce.verdict import Compared, Verdict, compared
from pyserini_reasonrank.errors import Failure, UsageError
from pyserini_reasonrank.interrupts import cleaning
from pyserini_reasonrank.ir.evaluate import evaluate
from pyserini_reasonrank.ir.masking import masked_command
from pyserini_reasonrank.ir.metadata import read_metadata, recorded_command
from pyserini_reasonrank.run.named_inputs import local_file

Say = Callable[[str], None]


@dataclass(slots=True)
class Outcome:
    """How many scores have each verdict; a command that failed counts as FAIL."""

    verdicts: Counter[Verdict] = field(default_factory=Counter)

    @property
    def failed(self) -> bool:
        return self.verdicts[Verdict.FAIL] > 0

    def __str__(self) -> str:
        shown = [verdict for verdict in Verdict if verdict is not Verdict.UNPUBLISHED or self.verdicts[verdict]]
        return ", ".join(f"{self.verdicts[verdict]} {verdict}" for verdict in shown)


def show_commands(planned: Sequence[Step], say: Say) -> None:
    """Print the commands of each step, ready to copy, without running them."""
    for each in planned:
        say(f"# condition {each.condition.name}, topics {each.topics.name}")
        for command in [*each.commands, each.evaluation]:
            say(wrapped(command))
        say("")


def execute(matrix: Matrix, planned: Sequence[Step], say: Say) -> Outcome:
    """Run the steps and compare their scores. A step that fails does not stop the others."""
    started, outcome = time.monotonic(), Outcome()
    for _, group in groupby(planned, key=lambda each: each.condition.name):
        own = list(group)
        condition = own[0].condition
        tolerance = matrix.tolerance_of(condition)
        say(f"condition {condition.name}: {condition.display}")
        found: list[dict[str, float]] = []
        for each in own:
            say(f"  - topics: {each.topics.name}")
            try:
                make_run(each, say)
                scores = measured(each)
            except (UsageError, Failure) as error:
                say(f"      {Verdict.FAIL} {error}")
                outcome.verdicts[Verdict.FAIL] += 1
                continue
            found.append(scores)
            _record(outcome, say, scores, each.topics.expected, tolerance)
        if condition.average and len(found) == len(condition.topics):
            say("  - average")
            published = merged(condition.average)
            means = {measure: fmean(scores[measure] for scores in found) for measure in published}
            _record(outcome, say, means, published, tolerance)
    say(f"\n{outcome}; {time.monotonic() - started:.0f} s")
    return outcome


def make_run(planned: Step, say: Say) -> None:
    """Run the commands of a step unless its run exists. Failure if a command fails or does not write its file."""
    if planned.command is None:
        say(f"    {planned.run}")
        return
    if planned.run.exists():
        say(f"    {planned.run} exists; it is evaluated, not made again")
        made = recorded_command(read_metadata(planned.run))
        if made and made != masked_command(shlex.split(planned.command)):
            say(f"    another command made it: {wrapped(shlex.join(made), indent=' ' * 8)}")
        return
    planned.run.parent.mkdir(parents=True, exist_ok=True)
    waiting: list[tuple[Path, str]] = [(path, command) for path, command in planned.prepare if not path.exists()]
    for path, command in [*waiting, (planned.run, planned.command)]:
        say(f"    $ {wrapped(command, indent=' ' * 8)}")
        with cleaning(partial(_discard, path)):
            status = _call(shlex.split(command), path)
        if status:
            _discard(path)
            raise Failure(f"the command ended with status {status}")
        if not path.exists():
            raise Failure(f"the command ended with status 0, but did not write {path}")


def _discard(path: Path) -> None:
    """Delete what a command left that did not finish, so that it does not pass for a finished run or index."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _call(words: Sequence[str], creates: Path) -> int:
    """The exit status of a command; 127 if there is no such program. ``python`` is this interpreter."""
    creates.parent.mkdir(parents=True, exist_ok=True)
    program = [sys.executable] if words[0] == "python" else [words[0]]
    beside = Path(sys.executable).parent  # hf, which pip installs beside the interpreter
    environment = {**os.environ, "PATH": f"{beside}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
    try:
        return subprocess.call([*program, *words[1:]], env=environment, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        return 127


def measured(planned: Step) -> dict[str, float]:
    """The scores of a step's run, by measure, over every judged query."""
    with local_file("qrels", planned.qrels) as qrels:
        report = evaluate(qrels, planned.run, measures=planned.measures)
    return dict(zip(planned.measures, (score.value for score in report.first.scores), strict=True))


def _record(outcome: Outcome, say: Say, scores: dict[str, float], expected: dict[str, float], tolerance: float) -> None:
    for measure, score in scores.items():
        result: Compared = compared(measure, score, expected.get(measure), tolerance)
        say(f"      {result}")
        outcome.verdicts[result.verdict] += 1
