"""Run a whole recipe: training steps and other commands, one after the other; finished ones are skipped."""

from __future__ import annotations

import hashlib
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from pyserini_reasonrank.errors import Failure, UsageError, nearest, validated
from pyserini_reasonrank.resources import conf, dump_yaml
from pyserini_reasonrank.train import command

COMMAND = "command"
OURS = ["python", "-m", "pyserini_reasonrank", "train"]
LAUNCHED = ("sft", "grpo", "dpo", "curriculum")
"""The steps that can run on several processes."""


class Config(BaseModel):
    """Settings of ``train recipe``. Every value of a step may name ``$output``, ``$data`` and ``$conf``, the shipped conf/."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    about: Annotated[str, Field(description="what the recipe makes, from what, and how long that takes")] = ""
    output: Annotated[Path, Field(description="folder to work in")]
    data: Annotated[Path | None, Field(description="folder of the collections, for steps that name $data")] = None
    steps: Annotated[
        list[dict[str, Any]], Field(min_length=1, description="each {STEP: settings} or {command: [word, ...]}")
    ]
    launch: Annotated[
        list[str],
        Field(description="words that start a trainer on several processes, such as `accelerate launch` [this Python]"),
    ] = []


def run(config: Config) -> None:
    """Run the steps that are not finished. UsageError before the first one for a fault of any; Failure if one fails."""
    steps = [
        _Step.of(number, name, settings, config.output) for number, (name, settings) in enumerate(check(config), 1)
    ]
    first = next((step for step in steps if not step.done), None)
    if first is not None and (later := [step for step in steps[first.number :] if step.mark.is_file()]):
        raise UsageError(
            f"step {first.number} ({first.name}) has changed since step {later[0].number} ({later[0].name}) was built on it; "
            f"name another --output, or remove {config.output} to start again"
        )
    config.output.mkdir(parents=True, exist_ok=True)
    for step in steps:
        if step.done:
            continue
        step.file.parent.mkdir(exist_ok=True)
        step.file.write_text(step.text, encoding="utf-8")
        words = step.settings["words"] if step.name == COMMAND else [*OURS, step.name, "--config", str(step.file)]
        began = time.monotonic()
        _call(words, _filled(config.launch, _names(config)) if step.name in LAUNCHED else [])
        print(f"# {time.monotonic() - began:.0f} s", flush=True)
        step.mark.write_text(_digest(step.text), encoding="utf-8")


@dataclass(frozen=True, slots=True)
class _Step:
    """A step. Its settings are written to ``file``; ``mark``, a file beside it, records that it is finished."""

    number: int
    name: str
    settings: dict[str, Any]
    text: str
    file: Path

    @classmethod
    def of(cls, number: int, name: str, settings: dict[str, Any], output: Path) -> _Step:
        text = dump_yaml(settings)
        return cls(number, name, settings, text, output / "steps" / f"{number:02}-{name}.yaml")

    @property
    def mark(self) -> Path:
        return self.file.with_suffix(".done")

    @property
    def done(self) -> bool:
        return self.mark.is_file() and self.mark.read_text(encoding="utf-8") == _digest(self.text)


def check(config: Config) -> list[tuple[str, dict[str, Any]]]:
    """The name and the settings of each step. UsageError for the first with a fault."""
    steps = [_parsed(entry, config) for entry in config.steps]
    for name, settings in steps:
        if name != COMMAND:
            validated(command.step(name).Config, settings, name)
    return steps


def _parsed(entry: Mapping[str, Any], config: Config) -> tuple[str, dict[str, Any]]:
    if len(entry) != 1:
        raise UsageError(f"each step of a recipe is one name and its settings, not {json.dumps(list(entry))}")
    [(name, value)] = entry.items()
    names = _names(config)
    if name == COMMAND:
        if not isinstance(value, list):
            raise UsageError(f"a command of a recipe is a list of words, not {value!r}")
        return name, {"words": _filled([str(word) for word in value], names)}
    if name not in command.STEPS or name == "recipe":
        raise UsageError(f"a recipe can't have a step {name!r}{nearest(name, [*command.STEPS, COMMAND])}")
    return name, _filled(value, names)


def _names(config: Config) -> dict[str, str]:
    known = {"output": config.output, "conf": conf(), "data": config.data}
    return {name: str(path) for name, path in known.items() if path is not None}


def _filled(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        template = Template(value)
        if "data" in template.get_identifiers() and "data" not in names:
            raise UsageError(f"{value} needs the folder of the collections; name it with --data")
        return template.safe_substitute(names)
    if isinstance(value, list):
        return [_filled(item, names) for item in value]
    return {key: _filled(item, names) for key, item in value.items()} if isinstance(value, dict) else value


def _call(words: list[str], launch: list[str]) -> None:
    print(f"\n$ {shlex.join([*launch, *words[1:]] if launch else words)}", flush=True)
    own = words[0] in ("python", "python3")
    argv = [*launch, *words[1:]] if launch else [sys.executable, *words[1:]] if own else words
    status = subprocess.call(argv)
    if status:
        raise Failure(f"the step above failed (exit status {status}); run the same command again to continue from it")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
