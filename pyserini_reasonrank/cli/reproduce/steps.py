"""The commands of a condition with their fields filled in: what is run, what it needs, and which run it writes."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

from pyserini_reasonrank.cli.commands import PROGRAM
from pyserini_reasonrank.cli.reproduce.matrix import DEFAULT_MEASURES, Condition, Matrix, TopicSet
from pyserini_reasonrank.errors import UsageError

DATA = "REASONRANK_DATA"
"""The environment variable that names the folder of the collections."""
DEFAULT_DATA = Path("..", "shared", "data")
WIDTH = 100


@dataclass(frozen=True, slots=True)
class Step:
    """One condition on one topic set.

    ``prepare`` has the path that each preparing command creates. Commands, and the names of run and qrels, are texts for a
    shell. Without a command, the run is a published one.
    """

    condition: Condition
    topics: TopicSet
    prepare: Sequence[tuple[Path, str]]
    command: str | None
    run_text: str
    qrels_text: str

    @property
    def run(self) -> Path:
        return _path(self.run_text)

    @property
    def qrels(self) -> str:
        """A path, or a name that Pyserini knows."""
        return str(_path(self.qrels_text))

    @property
    def measures(self) -> list[str]:
        return list(self.topics.expected or DEFAULT_MEASURES)

    @property
    def commands(self) -> list[str]:
        """All commands, in the order in which they run."""
        return [text for _, text in self.prepare] + ([self.command] if self.command else [])

    @property
    def evaluation(self) -> str:
        """The command that evaluates the run, as a text for a shell."""
        measures = shlex.join(self.measures)
        return f"{PROGRAM} evaluate --qrels {self.qrels_text} --measures {measures} -- {self.run_text}"


def data_folder(given: Path | None) -> Path:
    """The folder of the collections: ``given``, else ``REASONRANK_DATA``, else ``../shared/data``."""
    return given or Path(os.environ.get(DATA) or DEFAULT_DATA)


def steps(
    matrix: Matrix,
    conditions: Sequence[Condition],
    topics: str | None,
    data: Path,
    output: Path,
    more: Sequence[str] = (),
) -> list[Step]:
    """The steps of ``conditions``: on the topic set called ``topics``, or on all of theirs.

    Of several conditions, those without this topic set are left out. ``more`` are words to add to each command. UsageError
    for an unknown topic set and for an undefined field.
    """
    found = []
    having = [condition for condition in conditions if topics in [each.name for each in condition.topics]]
    for condition in having or conditions:
        for each in [condition.topic_set(topics)] if topics else condition.topics:
            name = f"run.{matrix.name}.{condition.name}.{each.name}.txt"
            paths = {"data": str(data), "folder": str(output), "output": str(output / name)}
            found.append(step(condition, each, {key: shlex.quote(value) for key, value in paths.items()}, more))
    return found


def step(condition: Condition, topics: TopicSet, paths: Mapping[str, str], more: Sequence[str] = ()) -> Step:
    """The step of a condition on a topic set; ``paths`` are the fields data, folder and output, quoted for a shell."""
    values = dict(paths)

    def filled(text: str) -> str:
        try:
            return Template(text).substitute(values)
        except (KeyError, ValueError) as error:
            raise UsageError(
                f"condition {condition.name}, topics {topics.name}: the field {error} of {text!r} is not defined"
            ) from None

    for name, text in {**topics.fields, "topics": topics.topic_key, "qrels": topics.eval_key}.items():
        values[name] = filled(text)
    path = values["output"] if condition.run is None else filled(condition.run)
    prepare = [(_path(filled(each.creates)), filled(each.command)) for each in condition.prepare]
    command = None if condition.command is None else with_flags(filled(condition.command), more)
    return Step(condition, topics, prepare, command, path, values["qrels"])


def with_flags(command: str, more: Sequence[str]) -> str:
    """A command for a shell with the flags ``more``, in place of the flags of the same names."""
    for flag in {word.partition("=")[0] for word in more if word.startswith("--")}:
        value = r"""(?:'[^']*'|"[^"]*"|[^\s'"])+"""
        command = re.sub(rf"(?<=\s){re.escape(flag)}(?:=|\s+){value}\s*", "", f"{command} ").rstrip()
    return " ".join([command, *map(shlex.quote, more)])


def _path(text: str) -> Path:
    """A path from a text that is quoted for a shell."""
    return Path("".join(shlex.split(text)))


def check_data(matrix: Matrix, planned: Sequence[Step], data: Path) -> None:
    """UsageError, with what to download, if a file of the collections is missing that a step reads."""
    for each in planned:
        created = {path for path, _ in each.prepare}
        for path in _inputs(each, data):
            if path not in created and not path.exists():
                folder = path.relative_to(data).parts[0]
                what = matrix.downloads.get(folder)
                raise UsageError(
                    f"condition {each.condition.name}, topics {each.topics.name}: {path} does not exist; download "
                    f"{f'{folder}: {what}' if what else folder} and put it into the folder {data}, which --data or "
                    f"{DATA} names (docs/collections.md lists the files)"
                )


def _inputs(planned: Step, data: Path) -> Iterator[Path]:
    """The paths below ``data`` in the commands and qrels of a step, and its published run."""
    words = [word for text in planned.commands for word in shlex.split(text)]
    for word in [*words, planned.qrels, *([] if planned.command else [str(planned.run)])]:
        if Path(word).is_relative_to(data) and Path(word) != data:
            yield Path(word)


def wrapped(command: str, indent: str = "  ") -> str:
    """A command on several lines for a shell: a line is broken before a flag, and elsewhere if a flag alone is too long."""
    groups: list[list[str]] = [[]]
    for word in _WORD.findall(command):
        if word.startswith("--") and word != "--":
            groups.append([])
        groups[-1].append(word)
    lines = [""]
    for group in groups:
        whole = " ".join(group)
        for part in [whole] if len(whole) + len(indent) + 2 <= WIDTH else group:
            if lines[-1] and len(lines[-1]) + len(part) + 3 > WIDTH:
                lines.append(indent + part)
            else:
                lines[-1] += f" {part}" if lines[-1] else part
    return " \\\n".join(lines)


_WORD = re.compile(r"""(?:[^\s"']|"[^"]*"|'[^']*')+""")
"""A word for a shell, with its quotes."""
